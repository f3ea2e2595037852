/** What an earlier run left: kept as far as it is what this run would write, byte for byte. */
import { existsSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import type { z } from 'zod'
import { readJsonl, scanJsonl } from '../data/jsonl.js'
import { type Response, response } from '../data/records.js'
import { DataError, FileError } from '../errors.js'
import { complete } from '../stage/split.js'
import { type Answerer, type Failure, failure, type Outcome } from './answerer.js'
import { type Asked, shownIn } from './questions.js'

/** The part of a file that stands. */
export interface Kept {
  records: number
  bytes: number
}

/** The first questions have these outcomes. */
export interface Recovered {
  answers: Kept
  failures: Kept
}

/**
 * Walks along questions and earlier outcomes. A torn or broken line ends what is kept of its file.
 * @throws {FileError} when a sound answer is not one to the question whose turn it is, under these settings.
 */
export async function recover(
  files: { answers: string; failures: string },
  questions: AsyncIterable<Asked>,
  about: Answerer['about'],
): Promise<Recovered> {
  await using answers = await Earlier.open(files.answers, response)
  await using failures = await Earlier.open(files.failures, failure)
  for await (const next of questions) {
    if (answers.head && isAnswerTo(answers.head, next, about)) await answers.keep()
    else if (failures.head && isOf(failures.head, next)) await failures.keep()
    else break
  }
  if (answers.head) throw otherAnswers(files.answers, answers.kept.records + 1, answers.head)
  return { answers: answers.kept, failures: failures.kept }
}

/** The answers of a run that ended, each found by its question. */
export class KnownAnswers {
  readonly #answers = new Map<string, Response>()

  get count(): number {
    return this.#answers.size
  }

  /** @throws {FileError} when the file holds anything but answers to these questions under these settings, in their order. */
  async read(path: string, questions: AsyncIterable<Asked>, about: Answerer['about']): Promise<void> {
    const lines = readJsonl(path, response)
    const advance = async () => (await lines.next().catch((error) => notAnswers(path, error))).value?.record
    try {
      let head = await advance()
      for await (const question of questions) {
        if (!head || !isAnswerTo(head, question, about)) continue
        this.#answers.set(keyOf(question), head)
        head = await advance()
      }
      if (head) throw otherAnswers(path, this.count + 1, head)
    } finally {
      await lines.return(undefined)
    }
  }

  has(of: Pick<Outcome, 'sampleId' | 'seed'>): boolean {
    return this.#answers.has(keyOf(of))
  }

  /** All outcomes in the questions' order, of which `answerer` is asked the unknown ones only. */
  complete(asked: AsyncIterable<Asked>, answerer: Answerer, signal?: AbortSignal): AsyncGenerator<Outcome> {
    const knownOf = (question: Asked): Outcome | undefined => this.#answers.get(keyOf(question))
    return complete(asked, knownOf, (unknown) => answerer.answer(unknown, signal))
  }
}

const keyOf = ({ sampleId, seed }: Pick<Outcome, 'sampleId' | 'seed'>): string => `${seed} ${sampleId}`

function notAnswers(path: string, error: unknown): never {
  if (!(error instanceof DataError)) throw error
  throw new FileError(`${path} exists already and is not what this run would write`, {
    detail: { path },
    hint: 'Use --overwrite to start again, or another --out.',
    cause: error,
  })
}

class Earlier<T> {
  readonly kept: Kept = { records: 0, bytes: 0 }
  readonly #records: AsyncGenerator<{ record: T; end: number }>
  #head: { record: T; end: number } | undefined

  private constructor(records: AsyncGenerator<{ record: T; end: number }>) {
    this.#records = records
  }

  static async open<S extends z.ZodType>(path: string, schema: S): Promise<Earlier<z.output<S>>> {
    const earlier = new Earlier(soundLines(path, schema))
    await earlier.#advance()
    return earlier
  }

  /** The first record that is not kept yet. */
  get head(): T | undefined {
    return this.#head?.record
  }

  async keep(): Promise<void> {
    this.kept.records += 1
    this.kept.bytes = this.#head?.end ?? this.kept.bytes
    await this.#advance()
  }

  /** What is not read to its end is closed. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#records.return(undefined)
  }

  async #advance(): Promise<void> {
    const { value, done } = await this.#records.next()
    this.#head = done ? undefined : value
  }
}

async function* soundLines<S extends z.ZodType>(
  path: string,
  schema: S,
): AsyncGenerator<{ record: z.output<S>; end: number }> {
  if (!existsSync(path)) return
  for await (const scanned of scanJsonl(path)) {
    if (scanned.problem !== undefined || !scanned.terminated) return
    const parsed = schema.safeParse(scanned.value)
    if (!parsed.success) return
    // As it was written: a record that is copied keeps the order of its keys.
    yield { record: scanned.value as z.output<S>, end: scanned.end }
  }
}

function isAnswerTo(given: Response, asked: Asked, about: Answerer['about']): boolean {
  const { finish: _, leftOut: __, ...sampling } = given.sampling
  const { model, adapter } = given
  return isOf(given, asked) && isDeepStrictEqual({ model, adapter, sampling }, about)
}

function isOf({ sampleId, prompt, images, seed }: Response | Failure, asked: Asked): boolean {
  const isSame = sampleId === asked.sampleId && prompt === asked.prompt && seed === asked.seed
  return isSame && isDeepStrictEqual(images, shownIn(asked))
}

function otherAnswers(path: string, record: number, { sampleId }: Response): FileError {
  return new FileError(`${path} holds answers of another run: its record ${record} (sample ${sampleId}) is not due`, {
    detail: { path, record, sampleId },
    hint: 'Samples, images, model or settings changed. Use --overwrite to start again, or another --out.',
  })
}
