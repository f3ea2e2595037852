/** What further evaluations of a run measured, question by question and pair by pair. */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join, relative, resolve, sep } from 'node:path'
import { readJsonl } from '../data/jsonl.js'
import { diversityOf } from '../evaluate/diversity.js'
import { evaluationFiles } from '../evaluate/files.js'
import { type RewardRecord, rewardRecord, type VerdictRecord, verdictRecord } from '../evaluate/records.js'
import { questionPass } from '../evaluate/several.js'
import type { MeasuredItem } from './metrics.js'
import type { Measure } from './settings.js'
import { stepsFolder } from './steps.js'

/** Rewards of one run, by what the pairs were to it. */
export interface RunRewards {
  heldOut: RewardRecord[]
  training: RewardRecord[]
}

/** @param evaluations folders that may have rewards; the first that has some counts. @param train folder of the training. */
export async function readRewards(root: string, evaluations: readonly string[], train: string): Promise<RunRewards> {
  const found: RunRewards = { heldOut: [], training: [] }
  const { from = [] } = JSON.parse(await readFile(join(train, 'step.json'), 'utf8')) as { from?: string[] }
  for (const folder of evaluations) {
    const path = join(folder, evaluationFiles.rewards)
    if (!existsSync(path)) continue
    for await (const { record } of readJsonl(path, rewardRecord)) {
      const inside = relative(stepsFolder(root), resolve(folder, record.pairs)).split(sep).join('/')
      // Held-out pairs are always a step of the study; an arm may be trained on a file of elsewhere.
      found[inside.startsWith('..') || from.includes(inside) ? 'training' : 'heldOut'].push(record)
    }
    if (found.heldOut.length > 0) break
  }
  return found
}

/** The measures of held-out pairs that cross with their reference. */
export function rewardMeasures(records: readonly RewardRecord[]): Partial<Record<Measure, MeasuredItem[]>> {
  const items = records.flatMap(({ pairId, imageId, chosen, rejected, referenceRight, referenceWrong }) => {
    if (!referenceRight || !referenceWrong) return []
    const isContent = chosen.answer > referenceWrong.answer && referenceRight.answer > rejected.answer
    return [{ id: pairId, cluster: imageId, value: Number(isContent) }]
  })
  return items.length > 0 ? { contentOverStyle: items } : {}
}

/** The measures of several drawn answers. @param k answers to each question. */
export function drawnMeasures(records: readonly VerdictRecord[], k: number): Partial<Record<Measure, MeasuredItem[]>> {
  const texts = new Map<string, string[]>()
  for (const { sampleId, sampled, text } of records) {
    if (sampled) texts.set(sampleId, [...(texts.get(sampleId) ?? []), text ?? ''])
  }
  const [one, best] = [questionPass(records, 1), questionPass(records, k)]
  const of = (value: (at: number) => number): MeasuredItem[] =>
    one.map(({ sampleId: id, imageId: cluster }, at) => ({ id, cluster, value: value(at) }))
  return {
    headroom: of((at) => best[at].value - one[at].value),
    uniqueShare: of((at) => diversityOf(texts.get(one[at].sampleId) as string[]).uniqueShare),
  }
}

/** All verdicts of an evaluation. */
export async function readVerdicts(folder: string): Promise<VerdictRecord[]> {
  const records: VerdictRecord[] = []
  for await (const { record } of readJsonl(join(folder, evaluationFiles.verdicts), verdictRecord)) records.push(record)
  return records
}
