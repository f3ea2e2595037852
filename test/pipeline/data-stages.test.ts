/** From a data set of one's own and given answers to pairs with corrupted twins; no engine takes part. */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { checkReferenced } from '../../src/data/images.js'
import { readJsonl } from '../../src/data/jsonl.js'
import { pair, type Response } from '../../src/data/records.js'
import { loadPipeline, runPipeline } from '../../src/pipeline/index.js'
import { temporaryFolder, writeImage } from '../fakes/world.js'

let root: string

/** Question, reference, the model's answer. */
const cases = [
  ['Is there a pleural effusion?', 'No', 'No, there is no pleural effusion.'],
  ['Is there a nodule?', 'Yes', 'No, there is no nodule.'],
  ['Which lung is abnormal?', 'Left lung', 'The left lung is abnormal.'],
]

beforeAll(async () => {
  root = await temporaryFolder()
  const { path } = await writeImage(root, 'a.png', 50)
  const lines = cases.map(([question, answer], index) => ({
    id: `q${index}`,
    image: path,
    question,
    answer,
    split: 'train',
  }))
  await writeFile(join(root, 'own.jsonl'), lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
  const responses = cases.map(
    ([prompt, , text], index): Response => ({
      sampleId: `q${index}`,
      model: 'm',
      adapter: null,
      prompt,
      text,
      tokens: [],
      sampling: {},
      seed: index,
    }),
  )
  await writeFile(join(root, 'responses.jsonl'), responses.map((line) => `${JSON.stringify(line)}\n`).join(''))
  const config = {
    output: 'out',
    model: 'nowhere',
    seed: 3,
    import: { kind: 'jsonl', source: 'own.jsonl' },
    pairs: { responses: 'responses.jsonl' },
    corrupt: { method: 'image-noise' },
  }
  await writeFile(join(root, 'pipeline.yaml'), stringify(config))
})

describe('the data stages of a pipeline', () => {
  it('hand on what they make, and do nothing twice', async () => {
    const run = async () => runPipeline(await loadPipeline(join(root, 'pipeline.yaml'), []))
    const { stages } = await run()
    expect(stages.map(({ summary }) => summary)).toEqual([
      '3 samples, 0 pairs',
      expect.stringMatching(/^\d pairs from 3 answers/),
      expect.stringMatching(/^\d by image-noise; look at .*sheet\.html$/),
    ])
    const folder = join(root, 'out', 'corrupt')
    const made = []
    for await (const { record } of readJsonl(join(folder, 'pairs.jsonl'), pair)) made.push(record)
    expect(made.length).toBeGreaterThan(1)
    for (const { images, corrupted, chosen, rejected } of made) {
      expect(chosen).not.toBe(rejected)
      for (const image of [...images, ...(corrupted?.images ?? [])]) await checkReferenced(image, folder)
    }
    // The wrong answer was mended: its chosen side says yes.
    expect(made.find(({ sampleId }) => sampleId === 'q1')?.chosen).toMatch(/^Yes/)
    expect(await readFile(join(folder, 'sheet.html'), 'utf8')).toContain('data:image')

    const before = await readFile(join(folder, 'pairs.jsonl'))
    expect((await run()).stages.map(({ reason }) => reason)).toEqual([null, null, null])
    expect(await readFile(join(folder, 'pairs.jsonl'))).toEqual(before)
    expect((await readdir(join(root, 'out'))).sort()).toEqual([
      ...['corrupt', 'import', 'pairs', 'pipeline.json', 'report.html'],
    ])
  })
})
