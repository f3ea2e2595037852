/** Scores of other programs (RadGraph, CheXbert, RaTEScore …), a file of JSON Lines or CSV: they join the paired statistics. */
import { placeOf } from '../../data/jsonl.js'
import { DataError } from '../../errors.js'
import { tableRows } from '../table.js'

/** Scores by system ('' = of every system), sample and name. */
export type ImportedScores = ReadonlyMap<string, Readonly<Record<string, number>>>

/** The key of a report in `ImportedScores`. */
export const scoreKey = (system: string, sampleId: string): string => JSON.stringify([system, sampleId])

const ids = new Set(['system', 'sampleId', 'metric', 'value'])

/**
 * Reads a file of scores. Either a line a score, `{ system, sampleId, metric, value }`, or a line a report with a column for each metric.
 * `system` may be left out where one system is evaluated.
 * @throws {DataError} for a value that is no number, a report that was not asked, or a score that is there twice.
 */
export async function readScores(
  path: string,
  systems: readonly string[],
  samples: ReadonlySet<string>,
): Promise<ImportedScores> {
  const scores = new Map<string, Record<string, number>>()
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
      if (name in known) fail(`${name} is there twice`)
      known[name] = number as number
    }
  }
  return scores
}
