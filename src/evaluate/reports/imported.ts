/** Scores of other programs (RadGraph, CheXbert, RaTEScore …), a file of JSON Lines or CSV: they join the paired statistics. */
import { placeOf } from '../../data/jsonl.js'
import { DataError } from '../../errors.js'
import { tableRows } from '../table.js'

/** Scores by system ('' = of every system), sample and name. */
export type ImportedScores = ReadonlyMap<string, Readonly<Record<string, number>>>

/** The key of a report in `ImportedScores`. */
export const scoreKey = (system: string, sampleId: string): string => JSON.stringify([system, sampleId])

const ids = new Set(['system', 'sampleId', 'metric', 'value'])

/** Scores of our own: another program's needs another name, so that neither stands for the other. */
const ours = new Set(['bleu1', 'bleu2', 'bleu3', 'bleu4', 'rougel', 'ciderd', 'green'])

/**
 * Reads files of scores. Either a line a score, `{ system, sampleId, metric, value }`, or a line a report with a column for each metric.
 * `system` may be left out where one system is evaluated.
 * @throws {DataError} for a value that is no number, a report that was not asked, a score that is there twice in all files, and one
 * that has the name of ours.
 */
export async function readScores(
  paths: readonly string[],
  systems: readonly string[],
  samples: ReadonlySet<string>,
): Promise<ImportedScores> {
  const scores = new Map<string, Record<string, number>>()
  for (const path of paths) await addScores(scores, path, systems, samples)
  return scores
}

async function addScores(
  scores: Map<string, Record<string, number>>,
  path: string,
  systems: readonly string[],
  samples: ReadonlySet<string>,
): Promise<void> {
  for await (const { line, row } of tableRows(path)) {
    const fail = (message: string): never => {
      throw new DataError(`${placeOf(path, line, row.sampleId)}: ${message}`, { detail: { path, line } })
    }
    const { system = systems[0], sampleId } = row
    if (row.system === undefined && systems.length > 1) fail(`expected a system: one of ${systems.join(', ')}`)
    if (typeof system !== 'string' || !systems.includes(system)) fail(`no system is called ${JSON.stringify(system)}`)
    if (typeof sampleId !== 'string' || !samples.has(sampleId)) fail('the report was not asked for')
    const found = 'metric' in row ? [[String(row.metric), row.value] as const] : Object.entries(row)
    const key = scoreKey(system as string, sampleId as string)
    const known = scores.get(key) ?? {}
    scores.set(key, known)
    for (const [name, value] of found) {
      if (!('metric' in row) && ids.has(name)) continue
      const number = typeof value === 'string' && value.trim() !== '' ? Number(value) : value
      if (typeof number !== 'number' || !Number.isFinite(number))
        fail(`${name} is ${JSON.stringify(value)}, expected a number`)
      if (ours.has(name.toLowerCase()))
        fail(`${name} is a score that is counted here: give the other program's another name`)
      if (Object.hasOwn(known, name)) fail(`${name} is there twice`)
      known[name] = number as number
    }
  }
}
