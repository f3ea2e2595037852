/** What an earlier run left: kept as far as it is what this run would write, byte for byte. */
import { existsSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import type { z } from 'zod'
import { scanJsonl } from '../data/jsonl.js'
import { type Response, response } from '../data/records.js'
import { FileError } from '../errors.js'
import { type Answerer, type Failure, failure } from './answerer.js'
import { type Asked, shownIn } from './questions.js'

/** The part of a file that stands. */
export interface Kept {
  records: number
  bytes: number
}

export interface Recovered {
  answers: Kept
  failures: Kept
  /** The first question without an outcome; undefined when all have one. */
  next: Asked | undefined
}

/**
 * Walks along questions and earlier outcomes. A torn or broken line ends what is kept of its file.
 * @throws {FileError} when a sound answer is not one to the question whose turn it is, under these settings.
 */
export async function recover(
  files: { answers: string; failures: string },
  questions: AsyncIterator<Asked>,
  about: Answerer['about'],
): Promise<Recovered> {
  const answers = await Earlier.open(files.answers, response)
  const failures = await Earlier.open(files.failures, failure)
  for (;;) {
    const { value: next, done } = await questions.next()
    if (!done && answers.head && isAnswerTo(answers.head, next, about)) await answers.keep()
    else if (!done && failures.head && isOf(failures.head, next)) await failures.keep()
    else if (answers.head) throw otherAnswers(files.answers, answers.kept.records + 1, answers.head)
    else return { answers: answers.kept, failures: failures.kept, next: done ? undefined : next }
  }
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
    yield { record: parsed.data, end: scanned.end }
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
