/** Two finished evaluations of the same questions. */
import { realpath } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { readJsonl } from '../data/jsonl.js'
import { sample } from '../data/records.js'
import { DataError } from '../errors.js'
import { compareSystems, type SystemComparison } from './compare.js'
import { evaluationFiles } from './files.js'
import { type EvaluationResults, readEvaluation, recordsIn } from './finished.js'
import { type ComparedGrounding, compareGrounding } from './grounding/summary.js'
import { groundingRecord, reportRecord, verdictRecord } from './records.js'
import { type ComparedScore, compareReports } from './reports/summary.js'

/** Every system of both against the baseline of the first; parts that either has not are empty. */
export interface BetweenEvaluations {
  comparisons: SystemComparison[]
  reports: { system: string; scores: ComparedScore[] }[]
  grounding: ComparedGrounding[]
}

/** A finished evaluation, and how its systems are called beside those of the other one. */
interface Finished {
  folder: string
  results: EvaluationResults
  called: (system: string) => string
}

/**
 * Compares the systems of two finished evaluations with the baseline of the first. A system of one name in both is told apart.
 * @throws {DataError} when they are one folder, answered other questions, were judged in other ways, or have nothing in common.
 */
export async function compareEvaluations(
  first: string,
  second: string,
  { margin, seed, primary }: { margin: number; seed: number; primary?: string },
): Promise<BetweenEvaluations> {
  if ((await realpath(first).catch(() => first)) === (await realpath(second).catch(() => second))) {
    throw new DataError(`${first} and ${second} are one evaluation: there is nothing to compare`, {
      hint: 'Its own comparisons are in evaluation.json and on its page.',
    })
  }
  const results = await readEvaluation(first)
  const taken = new Set(results.systems.map(({ name }) => name))
  const one: Finished = { folder: first, results, called: (system) => system }
  const other: Finished = {
    folder: second,
    results: await readEvaluation(second),
    called: (system) => (taken.has(system) ? `${system} (${basename(second)})` : system),
  }
  const both = [one, other]
  const { baseline } = results
  const verdicts = await bySystem(both, evaluationFiles.verdicts, verdictRecord)
  const reports = await bySystem(both, evaluationFiles.reports, reportRecord)
  const grounding = await bySystem(both, evaluationFiles.grounding, groundingRecord)
  const inBoth = (records: ReadonlyMap<string, unknown>): boolean =>
    both.every(({ results, called }) => results.systems.some(({ name }) => records.has(called(name))))
  const has = { verdicts: inBoth(verdicts), reports: inBoth(reports), grounding: inBoth(grounding) }
  if (!Object.values(has).includes(true)) {
    throw new DataError(`${first} and ${second} have neither questions nor reports nor grounding in common`, {
      hint: 'Compare evaluations of the same samples.',
    })
  }
  if (has.verdicts) refuseOtherJudging(one, other)
  if (has.reports) await refuseOtherReports(one, other)
  if (has.grounding)
    refuseOthers(one, other, 'measured grounding with the preset', ({ grounding }) => grounding?.preset)
  const names = [...new Set(both.flatMap(({ results, called }) => results.systems.map(({ name }) => called(name))))]
  return {
    comparisons: has.verdicts ? compareSystems(verdicts, { baseline, margin, seed, primary }) : [],
    reports: has.reports
      ? names
          .filter((name) => name !== baseline)
          .map((name) => {
            const scores = compareReports(reports.get(baseline) ?? [], reports.get(name) ?? [], seed)
            return { system: name, scores }
          })
      : [],
    grounding: has.grounding ? compareGrounding([...grounding.values()].flat(), baseline, seed) : [],
  }
}

/** The records of a file of both, by the name that a system has beside the others. */
async function bySystem<T extends { system: string }>(
  both: readonly Finished[],
  file: string,
  schema: Parameters<typeof recordsIn<T>>[1],
): Promise<Map<string, T[]>> {
  const found = new Map<string, T[]>()
  for (const { folder, called } of both) {
    for (const record of await recordsIn(join(folder, file), schema)) {
      const system = called(record.system)
      const own = found.get(system) ?? []
      found.set(system, own)
      own.push({ ...record, system })
    }
  }
  return found
}

/** Everything that decides verdicts, part by part. */
const judgedBy = ({ judging }: EvaluationResults): Record<string, string> => ({
  'first judge': judging.first,
  'version of the rules': String(judging.rules?.version ?? 'none'),
  'words of the rules': judging.rules?.lexiconSha256.slice(0, 12) ?? 'none',
  judge: judging.judge?.model ?? 'none',
  'answers that the judge looks at': judging.on ?? 'none',
  protocol: judging.judge?.protocol ?? 'none',
  'prompt of the judge': judging.judge?.promptSha256.slice(0, 12) ?? 'none',
})

/** Says what differs, and nothing else. */
function refuseOtherJudging(one: Finished, other: Finished): void {
  const [was, is] = [judgedBy(one.results), judgedBy(other.results)]
  const parts = Object.keys(was).filter((part) => was[part] !== is[part])
  if (parts.length === 0) return
  const words = parts.map((part) => `${part}: ${was[part]} and ${is[part]}`).join('; ')
  throw new DataError(`${one.folder} and ${other.folder} were judged in other ways: ${words}`, {
    hint: 'Judge one of them again like the other: fire-train evaluate rejudge does not ask for answers again.',
  })
}

function refuseOthers(
  one: Finished,
  other: Finished,
  what: string,
  how: (results: EvaluationResults) => string | undefined,
): void {
  const [was, is] = [how(one.results), how(other.results)]
  if (was === is) return
  throw new DataError(`${one.folder} ${what} ${was}, ${other.folder} ${is}`, {
    hint: 'Judge or measure one of them again like the other: fire-train evaluate rejudge does not ask for answers again.',
  })
}

/** Scores are of the same references, and GREEN is of one model and prompt, where both have it. */
async function refuseOtherReports(one: Finished, other: Finished): Promise<void> {
  const green = ({ reports }: EvaluationResults): string | undefined =>
    reports?.green ? `with ${reports.green.model}, prompt ${reports.green.promptSha256.slice(0, 12)}` : undefined
  if (green(one.results) && green(other.results)) refuseOthers(one, other, 'counted errors of reports', green)
  const references = new Map<string, string>()
  let count = 0
  for await (const { record } of readJsonl(join(one.folder, evaluationFiles.samples), sample)) {
    if (record.task === 'report') references.set(record.id, record.answer)
  }
  for await (const { record } of readJsonl(join(other.folder, evaluationFiles.samples), sample)) {
    if (record.task !== 'report') continue
    count += 1
    if (references.get(record.id) === record.answer) continue
    throw new DataError(`${one.folder} and ${other.folder} have other reports, first ${record.id}`, {
      detail: { sampleId: record.id },
      hint: 'Only reports with the same references can be compared.',
    })
  }
  if (count !== references.size) {
    throw new DataError(`${one.folder} has ${references.size} reports, ${other.folder} ${count}`, {
      hint: 'Only reports with the same references can be compared.',
    })
  }
}
