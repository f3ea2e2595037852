/** A study of the bundled model that runs in seconds: two trained arms, one of them under two names. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { temporaryFolder } from '../fakes/world.js'

const model = fileURLToPath(new URL('../../models/phantom', import.meta.url))

/** JSON is YAML. */
export const smallStudy = {
  title: 'A small study',
  base: {
    model,
    threads: 1,
    import: { kind: 'phantom', trainStudies: 3, testStudies: 3 },
    sample: { split: 'train', temperature: 1, maxNewTokens: 24, batchSize: 8 },
    pairs: { provider: 'phantom' },
    corrupt: { sigma: 90 },
    train: { preset: 'phantom', epochs: 1, objective: { name: 'fire' }, checkpoint: { every: 1 } },
    evaluate: { split: 'test', truth: 'phantom', maxNewTokens: 24, modelAlone: false },
  },
  arms: {
    base: { words: 'the model alone', set: { sample: null, pairs: null, corrupt: null, train: null } },
    fire: { words: 'the published objective' },
    same: { words: 'the same in other words', set: { 'train.objective.gamma': 0.1 } },
    dpo: { words: 'preference over answers', set: { 'train.objective.name': 'dpo' } },
  },
  tables: {
    objectives: {
      title: 'Objectives',
      question: 'Which one?',
      arms: ['base', 'fire', 'same', 'dpo'],
      baseline: 'base',
      primary: { arm: 'fire', baseline: 'dpo' },
    },
  },
  seeds: [0],
  draws: 200,
}

export type StudyDraft = Record<string, unknown>

/** Writes the study with these keys in place of its own; resolves with the path of the file. */
export async function writeStudy(changes: StudyDraft = {}): Promise<string> {
  const path = join(await temporaryFolder(), 'study.yaml')
  await writeFile(path, JSON.stringify({ ...smallStudy, ...changes }, null, 1))
  return path
}
