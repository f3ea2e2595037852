/** On-policy answers: samples in, one response an answer out, in order; killed at any moment it goes on where it was. */
import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { deleteAll, followLinks, JsonlAppender, publishFile, refuseOtherKind } from '../data/files.js'
import { ConfigError, DataError, FileError, isAbort, throwIfAborted } from '../errors.js'
import { checkOptions } from '../options.js'
import { alone, type Ranks } from '../ranks/ranks.js'
import { byFirst, forgetFound, lockByFirst, StoppedElsewhere, splitWork } from '../stage/split.js'
import { type Answerer, type Failure, heard, type Outcome } from './answerer.js'
import { failuresPath, partPath } from './files.js'
import { type Asked, countQuestions, questions, shownIn } from './questions.js'
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
  /** The processes that ask together; progress is then that of this one's share. All of them make the same call. */
  ranks?: Ranks
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
  const contextKeys = { signal: true, onStart: true, onProgress: true, onFailure: true, ranks: true }
  checkOptions('sampleAnswers, context', context, contextKeys)
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
  const { signal, ranks = alone } = context
  await using _lock = await lockByFirst(ranks, out, 'file', [from])
  // Beside what a link leads to: from another disk it could not take the name.
  const files = { answers: partPath(await followLinks(out)), failures: failuresPath(out) }
  for (const path of Object.values(files)) await refuseOtherKind(path, 'file')
  const known = new KnownAnswers()
  if (existsSync(out) && !overwrite) {
    await known.read(out, asked(), answerer.about)
    if (known.count === total) {
      if (ranks.rank === 0) await forgetFound(out)
      return { total, answers: total, failed: 0, reused: total, interrupted: false, out, failures: null }
    }
  }
  const begin = (): Promise<Recovered> => {
    // Failures without a part are those of a run that ended.
    const earlier = existsSync(files.answers) ? files : { answers: files.answers, failures: files.answers }
    return recover(earlier, asked(), answerer.about)
  }
  let begun: Recovered | undefined
  await byFirst(ranks, `${out} begun`, signal, async () => {
    begun = await begin().catch(async (error) => {
      if (!(overwrite && error instanceof FileError)) throw error
      await deleteAll([files.answers, files.failures])
      return begin()
    })
  })
  const run = new Run(files, begun ?? (await begin()), known, { asked, total, out, strict }, answerer, context)
  return await run.finish(ranks)
}

class Run {
  readonly #files: { answers: string; failures: string }
  readonly #begun: Recovered
  readonly #known: KnownAnswers
  readonly #request: Pick<CollectRequest, 'asked' | 'total' | 'out' | 'strict'>
  readonly #answerer: Answerer
  readonly #context: SampleContext
  /** Answers that were given now. */
  #fresh = 0

  constructor(
    files: { answers: string; failures: string },
    begun: Recovered,
    known: KnownAnswers,
    request: Pick<CollectRequest, 'asked' | 'total' | 'out' | 'strict'>,
    answerer: Answerer,
    context: SampleContext,
  ) {
    this.#files = files
    this.#begun = begun
    this.#known = known
    this.#request = request
    this.#answerer = answerer
    this.#context = context
  }

  /** Asks what is left. */
  async finish(ranks: Ranks): Promise<SampleReport> {
    const { out, asked } = this.#request
    const { signal, onStart, onProgress } = this.#context
    const { about, oneClient } = this.#answerer
    const begun = this.#done
    let shown = false
    try {
      return await splitWork<Asked, Outcome, SampleReport>(ranks, {
        ...{ what: 'answers', output: out, whole: oneClient, signal },
        items: () => after(begun, asked()),
        keyOf: (each) => [about, each.sampleId, each.prompt, each.seed, shownIn(each)],
        groupOf: (each) => shownIn(each).join('') || each.sampleId,
        work: (open, stop) => this.#answers(open, stop),
        finish: (outcomes, told) => this.#write(outcomes, told),
        onProgress(done, total) {
          if (shown) onProgress?.(done, 0)
          else onStart?.(done, total)
          shown = true
        },
        tell: () => this.#fresh,
      })
    } catch (error) {
      if (!isAbort(error, signal) && !(error instanceof StoppedElsewhere)) throw error
      return this.#report(true, this.#fresh)
    }
  }

  get #done(): number {
    return this.#begun.answers.records + this.#begun.failures.records
  }

  /** An outcome for each question that has none. */
  async *#answers(open: AsyncIterable<Asked>, signal?: AbortSignal): AsyncGenerator<Outcome> {
    for await (const given of this.#known.complete(open, this.#answerer, signal)) {
      const outcome = heard(given)
      if ('reason' in outcome && this.#request.strict) throw strictError(outcome)
      if (!('reason' in outcome) && !this.#known.has(outcome)) this.#fresh += 1
      yield outcome
    }
  }

  /** Writes all outcomes, counting in `begun`. */
  async #write(outcomes: AsyncIterable<Outcome>, told: readonly unknown[]): Promise<SampleReport> {
    const { answers, failures } = this.#begun
    const { signal, onStart, onProgress, onFailure } = this.#context
    onStart?.(this.#done, this.#request.total)
    {
      await using answerFile = await JsonlAppender.open(this.#files.answers, answers.bytes)
      await using failureFile = await JsonlAppender.open(this.#files.failures, failures.bytes)
      try {
        for await (const outcome of outcomes) {
          if ('reason' in outcome) {
            await failureFile.append(outcome)
            // Rare, and the order of both files is how a resume finds its place.
            await failureFile.sync()
            failures.records += 1
            onFailure?.(outcome)
          } else {
            await answerFile.append(outcome)
            answers.records += 1
          }
          onProgress?.(this.#done, failures.records)
          throwIfAborted(signal)
        }
      } finally {
        await answerFile.sync()
        if (failures.records === 0) await rm(this.#files.failures, { force: true })
      }
    }
    // A run without an answer is not finished: the same command asks again.
    if (answers.records === 0) await deleteAll([this.#files.answers])
    else await publishFile(this.#files.answers, this.#request.out)
    return this.#report(
      false,
      told.length > 0 ? (told as number[]).reduce((sum, fresh) => sum + fresh, 0) : this.#fresh,
    )
  }

  #report(interrupted: boolean, fresh: number): SampleReport {
    const { total, out } = this.#request
    const { answers, failures } = this.#begun
    return {
      total,
      answers: answers.records,
      failed: failures.records,
      reused: Math.max(0, answers.records - fresh),
      interrupted,
      out,
      failures: failures.records > 0 ? this.#files.failures : null,
    }
  }
}

/** Without the first ones. */
async function* after<T>(count: number, items: AsyncIterable<T>): AsyncGenerator<T> {
  let number = 0
  for await (const item of items) if (number++ >= count) yield item
}

export function strictError({ sampleId, code, reason }: Failure): DataError {
  return new DataError(`Sample ${sampleId}: ${reason}`, {
    detail: { sampleId, code },
    hint: 'Without --strict such a question is written to the .failed.jsonl file and the run goes on.',
  })
}
