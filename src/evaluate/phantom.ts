/** The exact judge of the phantom world: it reads the truth in the record, not the reference. */
import { judge, readTruth } from '../phantom/index.js'
import type { Judge } from './judge.js'

/** The judge for samples of the phantom world: their records carry the truth. */
export const phantomJudge: Judge = {
  about: { kind: 'phantom', description: 'by rule against the exact truth' },
  check: ({ meta }) => void readTruth(meta),
  judge: async ({ meta }, text) => judge(readTruth(meta), text),
}
