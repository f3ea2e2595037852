/** A finished evaluation in the way of another one, and whether one is whole. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import type { Sample } from '../data/records.js'
import { DataError, FileError } from '../errors.js'
import { pathFrom } from './about.js'
import { evaluationFiles } from './files.js'
import { type EvaluationResults, readEvaluation } from './finished.js'
import type { JudgeRequest } from './judges/run.js'
import type { Prediction } from './records.js'
import type { GreenRequest } from './reports/score.js'

interface Judged {
  out: string
  truth: unknown
  judge?: JudgeRequest
  green?: GreenRequest
}

interface Looks {
  grounding?: unknown
  evidence?: unknown
  rewards?: unknown
  priors?: readonly unknown[]
}

/** What is asked of an evaluation, by the names that evaluation.json keeps. */
interface Wanted extends Judged {
  systems: readonly string[]
  /** From the folder of the evaluation. */
  samples: string
  asked: EvaluationResults['asked']
  /** What is measured beside answers, where the caller says so. */
  looks?: Looks
}

/**
 * An evaluation that is finished is not replaced by one that would lose a part of it: other systems, samples or decoding, another judge, or
 * a measure that is not asked for. The same request goes on, also with files that changed since, and may ask for more.
 * @throws {FileError} naming what is other.
 */
export async function refuseOther({ out, systems, samples, asked, truth, judge, green, looks }: Wanted): Promise<void> {
  if (!existsSync(join(out, evaluationFiles.results))) return
  // What cannot be read any more is nothing to keep.
  const earlier = await readEvaluation(out).catch(() => null)
  if (!earlier) return
  const { judging, reports } = earlier
  const judges = (of: typeof judging): unknown[] => [of.judge?.model, of.judge?.protocol, of.on, of.second?.model]
  const now = [judge?.endpoint.model, judge?.protocol, judge?.on, judge?.second?.model]
  const losses: [boolean, string][] = [
    [
      !isDeepStrictEqual(
        earlier.systems.map(({ name }) => name),
        systems,
      ),
      'systems',
    ],
    [earlier.inputs.samples !== samples || !isDeepStrictEqual(plain(earlier.asked), plain(asked)), 'questions'],
    [judging.first !== (truth ? 'truth' : 'rules'), 'verdicts'],
    [judging.judge !== null && !isDeepStrictEqual(judges(judging), now), 'judges'],
    [Boolean(reports?.green) && reports?.green?.model !== green?.endpoint.model, 'GREEN'],
    [Boolean(looks && earlier.grounding) && !looks?.grounding, 'grounding'],
    [Boolean(looks && (earlier.attention || earlier.hidden.length > 0)) && !looks?.evidence, 'attention'],
    [Boolean(looks && earlier.rewards.length > 0) && !looks?.rewards, 'rewards'],
    [Boolean(looks && earlier.blind) && (looks?.priors ?? []).length === 0, 'answers without the image'],
  ]
  const lost = losses.flatMap(([isLost, what]) => (isLost ? [what] : []))
  if (lost.length === 0) return
  throw new FileError(`${out} holds an evaluation already, with other ${lost.join(', ')}`, {
    detail: { path: out, lost },
    hint: 'Use --overwrite to replace it, or another --out. Replies that were paid for are kept.',
  })
}

const plain = (value: object): unknown => JSON.parse(JSON.stringify(value))

/** What `refuseOther` compares, of a request. */
export const wantedBy = (
  request: Judged & Looks & { systems: readonly { name: string }[]; samples: string; asked: Wanted['asked'] },
): Wanted => ({
  ...request,
  systems: request.systems.map(({ name }) => name),
  samples: pathFrom(request.out)(request.samples),
  looks: request,
})

/**
 * Answers and samples of a finished evaluation are as many as its numbers say: files that were cut at a line look whole.
 * @throws {DataError} naming the file.
 */
export function checkWhole(
  folder: string,
  { systems, questions, judging, reports }: EvaluationResults,
  samples: readonly Sample[],
  predictions: readonly Prediction[],
): void {
  const fail = (name: string, found: string): never => {
    throw new DataError(`${join(folder, name)} ${found}`, {
      detail: { path: join(folder, name) },
      hint: 'The file was changed after the evaluation. Evaluate again with the command that made it.',
    })
  }
  const judged = samples.filter(({ task }) => task === 'vqa' || judging.first === 'truth').length
  if (judged !== questions) fail(evaluationFiles.samples, `holds ${judged} questions, its evaluation had ${questions}`)
  const written = reports?.systems[0]?.reports
  const free = samples.filter(({ task }) => task === 'report').length
  if (written !== undefined && free !== written)
    fail(evaluationFiles.samples, `holds ${free} reports, its evaluation had ${written}`)
  for (const { name } of systems) {
    const ids = new Set(
      predictions.flatMap(({ system, sampleId, k }) => (system === name && k === 0 ? [sampleId] : [])),
    )
    const missing = samples.find(({ id }) => !ids.has(id))
    if (missing) fail(evaluationFiles.predictions, `has no line for the answer of ${name} to ${missing.id}`)
  }
}
