/** Sixty questions about thirty images and two files of answers, new for each test of the file that imports this. */
import { join } from 'node:path'
import { beforeEach, expect } from 'vitest'
import type { Sample } from '../../src/data/records.js'
import { type EvaluationRequest, evaluate } from '../../src/evaluate/evaluation.js'
import type { VerdictRecord } from '../../src/evaluate/records.js'
import { sampleSettings } from '../../src/sample/index.js'
import { temporaryFolder } from '../fakes/world.js'
import { makeSample, readLines, writeRecords } from '../sample/records.js'

export let folder: string
export let samples: Sample[]

export const image = (number: number) => ({
  path: `${number}.png`,
  sha256: String(number).padStart(64, '0'),
  width: 8,
  height: 8,
})

beforeEach(async () => {
  folder = await temporaryFolder()
  // Thirty images of two questions, one closed and one open.
  samples = Array.from({ length: 60 }, (_, i) =>
    makeSample(`set-${i}`, {
      images: [image(i >> 1)],
      ...(i % 2 === 0
        ? { question: 'Is there a nodule?', answer: i % 4 === 0 ? 'yes' : 'no' }
        : { question: 'What is shown?', answer: 'pneumonia', answerType: 'open' as const }),
    }),
  )
  await writeRecords(join(folder, 'samples.jsonl'), samples)
  const right = samples.map(({ id, answer }) => ({ question_id: id.slice(4), text: answer }))
  const half = samples.map(({ id, answer }, i) => ({ sampleId: id, text: i % 3 === 0 ? 'Something else.' : answer }))
  await writeRecords(join(folder, 'right.jsonl'), right)
  await writeRecords(join(folder, 'half.jsonl'), half)
})

/** A system whose answers stand in a file of the folder. */
export const systemOf = (name: string, file = `${name}.jsonl`) => ({
  name,
  kind: 'file' as const,
  path: join(folder, file),
})

export function request(more: Partial<EvaluationRequest> = {}): EvaluationRequest {
  const path = join(folder, 'samples.jsonl')
  return {
    samples: path,
    imageRoot: folder,
    out: join(folder, 'out'),
    systems: ['half', 'right'].map((name) => systemOf(name)),
    asked: sampleSettings.parse({ samples: path, out: 'x' }),
    engine: { device: 'cpu', dtype: 'f32', threads: 1, batchSize: 8 },
    truth: null,
    scores: [],
    margin: 0.03,
    maxUnreadable: 0.05,
    seed: 42,
    ...more,
  }
}

/** An evaluation that nothing stops. */
export const evaluated = async (more?: Partial<EvaluationRequest>) =>
  (await evaluate(request(more))) ?? expect.fail('stopped')

export const verdicts = (name = 'out') => readLines<VerdictRecord>(join(folder, name, 'verdicts.jsonl'))
