/** On-policy answers: samples in, one response an answer out, in order; killed at any moment it goes on where it was. */
import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { deleteAll, followLinks, JsonlAppender, publishFile, refuseOtherKind } from '../data/files.js'
import { lockOutput } from '../data/lock.js'
import { ConfigError, DataError, FileError, isAbort, throwIfAborted } from '../errors.js'
import { checkOptions } from '../options.js'
import { type Answerer, type Failure, heard } from './answerer.js'
import { failuresPath, partPath } from './files.js'
import { type Asked, countQuestions, questions } from './questions.js'
import { KnownAnswers, type Recovered, recover } from './resume.js'
import { type SampleSettings, sampleSettings } from './settings.js'

/** What is asked and where answers go. */
export interface SampleRequest {
  /** Sample records, JSON Lines. */
  samples: string
  /** Response records; appears when it is complete. Until then `<out>.part` grows. */
  out: string
  settings: SampleSettings
  /** Replace answers of other settings. A finished file stays until the new one is complete. */
  overwrite?: boolean
  /** Stop at the first question without an answer. */
  strict?: boolean
}

/** A signal that stops in an orderly way, and who is told about progress. */
export interface SampleContext {
  signal?: AbortSignal
  /** Once, when it is known how much there is to do and how much of it is done. */
  onStart?: (done: number, total: number) => void
  onProgress?: (done: number, failed: number) => void
  /** For each question that has no answer. */
  onFailure?: (failure: Failure) => void
}

/** How far a run came. */
export interface SampleReport {
  /** Answers wanted, given (earlier ones included), and questions that failed. */
  total: number
  answers: number
  failed: number
  /** Those of the answers that an earlier run gave. */
  reused: number
  /** Stopped by the signal; what is done is kept. */
  interrupted: boolean
  out: string
  /** The file with the failed questions, when there are any. */
  failures: string | null
}

/**
 * Asks every question of a sample file that has no answer yet. The final file does not depend on how often the run was
 * interrupted; questions that failed in a run that ended are asked again.
 *
 * @throws {ConfigError} for several answers that would all be the same.
 * @throws {DataError} for a bad sample file, or with `strict` at the first failure.
 * @throws {FileError} when `out` (or its part) holds answers of other settings, or no answers, and `overwrite` is not set.
 * @throws {LockedError} when another run writes to `out`.
 * @throws {EndpointError} when no request can succeed; what is done is kept.
 */
export async function sampleAnswers(
  request: SampleRequest,
  answerer: Answerer,
  context: SampleContext = {},
): Promise<SampleReport> {
  checkOptions('sampleAnswers', request, { samples: true, out: true, settings: true, overwrite: true, strict: true })
  checkOptions('sampleAnswers, settings', request.settings, sampleSettings.shape)
  checkOptions('sampleAnswers, context', context, { signal: true, onStart: true, onProgress: true, onFailure: true })
  const { samples, out, settings, overwrite, strict } = request
  if (settings.answers > 1 && settings.temperature === 0) {
    throw new ConfigError(`${settings.answers} greedy answers would all be the same`, {
      hint: 'Set a temperature, for instance 0.7, or ask for one answer.',
    })
  }
  const total = await countQuestions(samples, settings)
  const asked = () => questions(samples, settings)
  return collectAnswers({ asked, total, out, from: samples, overwrite, strict }, answerer, context)
}

/** Questions from anywhere, in an order that is always the same, and where their answers go. */
export interface CollectRequest extends Pick<SampleRequest, 'out' | 'overwrite' | 'strict'> {
  asked: () => AsyncGenerator<Asked>
  total: number
  /** The file that they come from: it is not written to. */
  from: string
}

/** What `sampleAnswers` does once it is known what to ask. */
export async function collectAnswers(
  { asked, total, out, from, overwrite = false, strict = false }: CollectRequest,
  answerer: Answerer,
  context: SampleContext = {},
): Promise<SampleReport> {
  await using _lock = await lockOutput(out, 'file', [from])
  // Beside what a link leads to: from another disk it could not take the name.
  const files = { answers: partPath(await followLinks(out)), failures: failuresPath(out) }
  for (const path of Object.values(files)) await refuseOtherKind(path, 'file')
  const known = new KnownAnswers()
  if (existsSync(out) && !overwrite) {
    await known.read(out, asked(), answerer.about)
    if (known.count === total) {
      return { total, answers: total, failed: 0, reused: total, interrupted: false, out, failures: null }
    }
  }
  const begin = async () => {
    const walk = asked()
    // Failures without a part are those of a run that ended.
    const earlier = existsSync(files.answers) ? files : { answers: files.answers, failures: files.answers }
    return { walk, begun: await recover(earlier, walk, answerer.about) }
  }
  const { walk, begun } = await begin().catch(async (error) => {
    if (!(overwrite && error instanceof FileError)) throw error
    await deleteAll([files.answers, files.failures])
    return begin()
  })
  const { answers, failures } = begun
  context.onStart?.(answers.records + failures.records, total)
  const run = new Run(files, begun, known, strict, context)
  const interrupted = await run.finish(answerer, walk)
  // A run without an answer is not finished: the same command asks again.
  if (!interrupted && answers.records === 0) await deleteAll([files.answers])
  else if (!interrupted) await publishFile(files.answers, out)
  return {
    total,
    answers: answers.records,
    failed: failures.records,
    reused: answers.records - run.fresh,
    interrupted,
    out,
    failures: failures.records > 0 ? files.failures : null,
  }
}

class Run {
  readonly #files: { answers: string; failures: string }
  readonly #begun: Recovered
  readonly #known: KnownAnswers
  readonly #strict: boolean
  readonly #context: SampleContext
  /** Answers that were given now. */
  fresh = 0

  constructor(
    files: { answers: string; failures: string },
    begun: Recovered,
    known: KnownAnswers,
    strict: boolean,
    context: SampleContext,
  ) {
    this.#files = files
    this.#begun = begun
    this.#known = known
    this.#strict = strict
    this.#context = context
  }

  /** Asks what is left, counting in `begun`; resolves with whether the signal ended it. */
  async finish(answerer: Answerer, walk: AsyncGenerator<Asked>): Promise<boolean> {
    const { answers, failures, next } = this.#begun
    const { signal, onProgress, onFailure } = this.#context
    await using answerFile = await JsonlAppender.open(this.#files.answers, answers.bytes)
    await using failureFile = await JsonlAppender.open(this.#files.failures, failures.bytes)
    try {
      if (next === undefined) return false
      for await (const given of this.#known.complete(from(next, walk), answerer, signal)) {
        const outcome = heard(given)
        if ('reason' in outcome) {
          if (this.#strict) throw strictError(outcome)
          await failureFile.append(outcome)
          // Rare, and the order of both files is how a resume finds its place.
          await failureFile.sync()
          failures.records += 1
          onFailure?.(outcome)
        } else {
          await answerFile.append(outcome)
          answers.records += 1
          if (!this.#known.has(outcome)) this.fresh += 1
        }
        onProgress?.(answers.records + failures.records, failures.records)
        throwIfAborted(signal)
      }
      return false
    } catch (error) {
      if (isAbort(error, signal)) return true
      throw error
    } finally {
      await answerFile.sync()
      if (failures.records === 0) await rm(this.#files.failures, { force: true })
    }
  }
}

async function* from(next: Asked, rest: AsyncGenerator<Asked>): AsyncGenerator<Asked> {
  yield next
  yield* rest
}

export function strictError({ sampleId, code, reason }: Failure): DataError {
  return new DataError(`Sample ${sampleId}: ${reason}`, {
    detail: { sampleId, code },
    hint: 'Without --strict such a question is written to the .failed.jsonl file and the run goes on.',
  })
}
