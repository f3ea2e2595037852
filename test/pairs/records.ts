/** Samples and responses to test with, written for it. */
import { mkdtemp, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Response, Sample } from '../../src/data/records.js'
import type { Task } from '../../src/pairs/index.js'

const image = { path: 'images/a.png', sha256: '0'.repeat(64), width: 8, height: 8 }

export function makeTask(question: string, answer: string, text: string, change: Partial<Sample> = {}): Task {
  const id = change.id ?? 's1'
  const sample: Sample = {
    id,
    dataset: 'own',
    split: 'train',
    task: 'vqa',
    images: [image],
    question,
    answer,
    answerType: 'open',
    language: 'en',
    meta: {},
    ...change,
  }
  const response: Response = {
    sampleId: id,
    model: 'm',
    adapter: null,
    prompt: question,
    text,
    tokens: [],
    sampling: {},
    seed: 1,
  }
  return { id: `${id}#0`, sample, response }
}

/** A folder with samples.jsonl and responses.jsonl. */
export async function writeTasks(
  tasks: readonly Task[],
): Promise<{ folder: string; samples: string; responses: string }> {
  const folder = await mkdtemp(join(process.env.FIRE_TEST_FOLDER as string, 'pairs-'))
  const files = { folder, samples: join(folder, 'samples.jsonl'), responses: join(folder, 'responses.jsonl') }
  const unique = new Map(tasks.map(({ sample }) => [sample.id, sample]))
  const lines = (records: Iterable<unknown>) => [...records].map((record) => `${JSON.stringify(record)}\n`).join('')
  await writeFile(files.samples, lines(unique.values()))
  await writeFile(files.responses, lines(tasks.map(({ response }) => response)))
  return files
}

/** Questions of every kind, with right and wrong answers. */
export function manyTasks(count: number): Task[] {
  const kinds: ((i: number) => [string, string, string])[] = [
    (i) => ['Which lung is abnormal?', i % 2 ? 'Left' : 'Right', `The left lung of patient ${i} is abnormal.`],
    (i) => ['Is there a pleural effusion?', i % 3 ? 'Yes' : 'No', `No, there is no pleural effusion in case ${i}.`],
    (i) => ['What modality is this?', i % 2 ? 'CT' : 'MRI', `Study ${i} is a CT image.`],
    (i) => ['Where is the mass?', 'Upper lobe', `The mass of case ${i} is in the lower lobe.`],
  ]
  return Array.from({ length: count }, (_, i) => makeTask(...kinds[i % kinds.length](i), { id: `s${i}` }))
}
