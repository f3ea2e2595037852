/** What people say of some of the answers: how right the judge is, and what its number would be without its errors. */
import { placeOf } from '../../data/jsonl.js'
import { DataError } from '../../errors.js'
import {
  type Agreement,
  agreementOf,
  correctedShare,
  type Interval,
  type Proportion,
  wilson,
} from '../../statistics/index.js'
import { type LabelRecord, labelRecord, type VerdictRecord } from '../records.js'
import { tableRows } from '../table.js'
import { isRight } from '../verdicts.js'

/** The verdicts on one system's answers held against people's. */
export interface LabelledSystem {
  system: string
  /** Of the answers that people call correct, those with the verdict "correct". */
  sensitivity: Proportion
  /** Of the answers that people call incorrect, those with any other verdict: none of them counts as right. */
  specificity: Proportion
  /** Accuracy as it was judged, over all answers. */
  reported: Proportion
  /** The same without the judge's errors (`correctedShare`); null where the labels do not say how it errs. */
  corrected: (Interval & { value: number }) | null
}

/** The verdicts held against people's. */
export interface LabelResults {
  /** Over the labels of all systems: rows are the verdicts, columns the people. */
  agreement: Agreement
  /** Those that have labels. A judge whose errors differ between them favours one. */
  systems: LabelledSystem[]
}

/**
 * Reads labels, JSON Lines or CSV of `system`, `sampleId` and `label` (`correct` or `incorrect`). `system` may be left out where one
 * system is evaluated. They are of the first answer to each question.
 * @param samples ids of the questions.
 * @throws {DataError} for another word, an answer that there is not, and two labels of one answer.
 */
export async function readLabels(
  path: string,
  systems: readonly string[],
  samples: ReadonlySet<string>,
): Promise<LabelRecord[]> {
  const labels = new Map<string, LabelRecord>()
  for await (const { line, row } of tableRows(path)) {
    const fail = (message: string): never => {
      throw new DataError(`${placeOf(path, line, row.sampleId)}: ${message}`, { detail: { path, line } })
    }
    const only = systems.length === 1 ? systems[0] : undefined
    const { data } = labelRecord.safeParse({ system: row.system ?? only, sampleId: row.sampleId, label: row.label })
    if (!data) return fail('expected a system, a sampleId and a label: correct or incorrect')
    if (!systems.includes(data.system)) fail(`no system is called ${JSON.stringify(data.system)}`)
    if (!samples.has(data.sampleId)) fail('the question was not asked')
    const key = JSON.stringify([data.system, data.sampleId])
    if (labels.has(key)) fail(`the answer of ${data.system} is labelled twice`)
    labels.set(key, data)
  }
  return [...labels.values()]
}

/** Null without labels. @param records verdicts on the first answers of all systems. */
export function labelResults(records: readonly VerdictRecord[], labels: readonly LabelRecord[]): LabelResults | null {
  if (labels.length === 0) return null
  const keyOf = ({ system, sampleId }: Pick<LabelRecord, 'system' | 'sampleId'>) => JSON.stringify([system, sampleId])
  const said = new Map(labels.map((each) => [keyOf(each), each.label]))
  const labelled = records.flatMap((record) => {
    const label = said.get(keyOf(record))
    return label === undefined ? [] : [{ system: record.system, judged: isRight(record), truly: label === 'correct' }]
  })
  const count = (of: typeof labelled, judged: boolean, truly: boolean): number =>
    of.filter((each) => each.judged === judged && each.truly === truly).length
  const names = [...new Set(labelled.map(({ system }) => system))]
  return {
    agreement: agreementOf([
      [count(labelled, true, true), count(labelled, true, false)],
      [count(labelled, false, true), count(labelled, false, false)],
    ]),
    systems: names.map((system) => {
      const own = labelled.filter((each) => each.system === system)
      const all = records.filter((each) => each.system === system)
      const share = (right: number, wrong: number): Proportion => wilson(right, right + wrong)
      const sensitivity = share(count(own, true, true), count(own, false, true))
      const specificity = share(count(own, false, false), count(own, true, false))
      const reported = wilson(all.filter(isRight).length, all.length)
      return {
        system,
        sensitivity,
        specificity,
        reported,
        corrected: correctedShare(reported, sensitivity, specificity),
      }
    }),
  }
}
