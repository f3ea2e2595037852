/** What a reader must know beside the numbers of an evaluation, and when not to build on them. */

import type { Sample } from '../data/records.js'
import { DataError, type FireError } from '../errors.js'
import type { EvaluationResults } from './finished.js'
import type { PriorKind } from './records.js'

const points = (share: number): string => (100 * share).toFixed(1)

const without: Record<PriorKind, string> = { question: 'the question alone', swapped: 'another image' }

/** What a reader must know before the numbers. */
export function notesOn(
  { leakage, comparisons, systems, reports, baseline, judging, blind }: Omit<EvaluationResults, 'notes'>,
  samples: readonly Pick<Sample, 'language' | 'task'>[],
): string[] {
  const notes: string[] = []
  if (leakage?.seen) notes.push(`${leakage.seen} questions are about images that were trained on.`)
  const foreign = samples.filter(({ task, language }) => task === 'vqa' && !/^en\b/i.test(language)).length
  if (foreign > 0 && judging.first === 'rules') {
    notes.push(`${foreign} of ${samples.length} questions are not in English, which is what the rules read.`)
  }
  for (const { system, lost, conclusion } of comparisons) {
    if (lost.p < 0.05) {
      notes.push(
        `${lost.baseline} answers of ${baseline} and ${lost.system} of ${system} are missing or unreadable: their comparison is in doubt.`,
      )
    }
    if (conclusion !== 'gain') continue
    for (const each of blind?.comparisons ?? []) {
      if (each.system !== system || each.conclusion !== 'gain') continue
      notes.push(
        `${system} gains over ${baseline} with ${without[each.prior]} too (${points(each.all.difference.value)} points, n = ${each.all.count}): a gain that is there without the image is no visual gain.`,
      )
    }
  }
  for (const { system, scores } of reports?.comparisons ?? []) {
    for (const { name, lost } of scores) {
      if (lost.p >= 0.05) continue
      notes.push(
        `${lost.baseline} reports of ${baseline} and ${lost.system} of ${system} have no ${name === 'green' ? 'GREEN' : name}: their comparison is in doubt.`,
      )
    }
  }
  for (const { system, cut } of reports?.systems ?? []) {
    if (cut > 0) notes.push(`${cut} reports of ${system} are longer than the prompt of GREEN holds and were cut.`)
  }
  for (const { name, groups } of systems) {
    const [all] = groups
    if (!all?.bounds) continue
    const { correct, incorrect } = all.outcomes
    const { low, high } = all.bounds
    notes.push(
      `${all.accuracy.count - correct - incorrect} of ${all.accuracy.count} answers of ${name} have no verdict and count as wrong: between ${points(low)} and ${points(high)} % are correct.`,
    )
  }
  return notes
}

/** More replies of a judge are unreadable than was allowed, or nothing came of the questions with boxes. @param most as a share. */
export function problemOf({ judging, reports, grounding }: EvaluationResults, most: number): FireError | undefined {
  if (grounding?.results.length && grounding.results.every(({ measured }) => measured === 0)) {
    return new DataError('None of the questions with boxes could be measured', {
      hint: 'The reasons are in grounding.jsonl; look at boxFormat and groundingImages.',
    })
  }
  const checks = [judging.judge, judging.second].flatMap((judge) =>
    judge ? [{ what: `replies of ${judge.model}`, count: judge.judged, bad: judge.unreadable + judge.failed }] : [],
  )
  for (const { system, green } of reports?.systems ?? []) {
    if (!green) continue
    const bad = Object.values(green.unreadable).reduce((sum, count) => sum + count, 0) + green.failed
    checks.push({ what: `GREEN replies on ${system}`, count: green.reports - green.missing, bad })
  }
  const [worst] = checks
    .filter(({ count, bad }) => bad > most * count)
    .sort((a, b) => b.bad / b.count - a.bad / a.count)
  if (!worst) return undefined
  const share = ((100 * worst.bad) / worst.count).toFixed(1)
  return new DataError(`${worst.bad} of ${worst.count} ${worst.what} (${share} %) could not be read or never came`, {
    hint: 'The numbers are written, with the reasons beside each reply. Ask another model, or allow more with maxUnreadable.',
  })
}
