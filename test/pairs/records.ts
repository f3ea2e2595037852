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
    (i) => [
      `Where is the nodule of ${i} mm?`,
      i % 8 ? 'Left lung' : 'Right lung',
      `The nodule of ${i} mm is in the left lung.`,
    ],
    (i) => [`Is there a cyst of ${i} mm?`, i % 3 ? 'Yes' : 'No', `No, there is no cyst of ${i} mm.`],
    (i) => [`What modality shows ${i} nodules?`, i % 8 ? 'CT' : 'MRI', 'This is a CT image.'],
    (i) => [`Where is the mass of ${i} mm?`, 'Upper lobe', `The mass of ${i} mm is in the lower lobe.`],
  ]
  return Array.from({ length: count }, (_, i) => makeTask(...kinds[i % kinds.length](i), { id: `s${i}` }))
}
