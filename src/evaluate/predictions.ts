/** Answers of other programs: ours, LLaVA-Med's JSON Lines, the CSV of the FiRe-MPO release. */

import { placeOf } from '../data/jsonl.js'
import type { Sample } from '../data/records.js'
import { DataError } from '../errors.js'
import { countWords } from './groups.js'
import type { Prediction } from './records.js'
import { tableRows } from './table.js'

/** An answer as predictions.jsonl has it; one without a word is none. */
export function predictionOf(
  system: string,
  sampleId: string,
  k: number,
  text: string | null,
  failure: string | null,
): Prediction {
  const said = text !== null && text.trim() !== '' ? text : null
  const why = said === null ? (failure ?? (text === null ? 'no answer' : 'the answer is empty')) : null
  return { system, sampleId, k, sampled: false, text: said, failure: why, words: said === null ? 0 : countWords(said) }
}

/** One answer found in a file. */
interface Found {
  line: number
  id: string
  k: number
  text: string
  /** As the file has it, where it does. */
  question: string | undefined
}

const keys = {
  id: ['sampleId', 'question_id', 'qid', 'id'],
  text: ['text', 'output', 'prediction'],
  question: ['question', 'prompt'],
  k: ['k', 'sequence_id'],
} as const

/**
 * Reads the answers of a file to the given samples.
 *
 * A JSON Lines record or CSV row has an id (`sampleId`, `question_id`, `qid` or `id`) and a text (`text`, `output` or `prediction`); several
 * answers to one question have a number (`k` or `sequence_id`). Where several of these fields are there, they must agree, but for a `text`
 * that is the question and ids of something else. An id is that of a sample, or the end of one: data
 * sets number their questions, and `import` puts the name of the set before the number.
 *
 * @returns for each sample, in their order, its answers by number; empty where the file has none.
 * @throws {DataError} for an answer to a question that was not asked, for one that is there twice, and for a record without id or text, or with two.
 */
export async function readPredictions(
  path: string,
  samples: readonly Sample[],
): Promise<Map<string, ReadonlyMap<number, string>>> {
  const find = sampleFinder(samples)
  const answers = new Map<string, Map<number, string>>(samples.map(({ id }) => [id, new Map()]))
  const strangers: Found[] = []
  for await (const { line, row } of tableRows(path)) {
    const { found, sample } = foundIn(path, line, row, find)
    if (!sample) {
      strangers.push(found)
      continue
    }
    checkQuestion(path, found, sample)
    const given = answers.get(sample.id) as Map<number, string>
    if (given.has(found.k)) {
      throw new DataError(`${placeOf(path, found.line, found.id)}: answer ${found.k} to this question is there twice`, {
        detail: { path, line: found.line, id: found.id },
        hint: 'Number the answers to one question with "k", from 0, or keep one of them.',
      })
    }
    given.set(found.k, found.text)
  }
  if (strangers.length > 0) {
    const [first] = strangers
    throw new DataError(
      `${path} answers ${strangers.length} questions that are not asked, first ${first.id} in line ${first.line}`,
      {
        detail: { path, count: strangers.length, id: first.id },
        hint: `The ids asked are like ${samples[0]?.id}; the number alone will do where only one ends so. Check the split, or import the samples that were answered.`,
      },
    )
  }
  const numbers = [...answers.values()].flatMap((given) => [...given.keys()])
  if (numbers.length > 0 && !numbers.includes(0)) {
    throw new DataError(`${path} has no answer with the number 0`, {
      detail: { path },
      hint: 'Number the answers to one question with "k", from 0: the first is the one that systems are compared by.',
    })
  }
  return answers
}

/** Finds by the whole id, else by the part after the name of the data set, where only one sample ends so. */
function sampleFinder(samples: readonly Sample[]): (id: string) => Sample | undefined {
  const whole = new Map(samples.map((sample) => [sample.id, sample]))
  const ends = new Map<string, Sample | null>()
  for (const sample of samples) {
    const end = sample.id.slice(sample.id.lastIndexOf('-') + 1)
    ends.set(end, ends.has(end) ? null : sample)
  }
  return (id) => whole.get(id) ?? ends.get(id) ?? undefined
}

const plain = (text: string): string =>
  text
    .replace(/<image>/g, '')
    .replace(/\s+/g, ' ')
    .trim()
    .toLowerCase()

// A prompt may go on after the question: suffixes ask for short answers.
const asks = (text: unknown, { question }: Sample): boolean =>
  typeof text === 'string' && plain(text).includes(plain(question))

function checkQuestion(path: string, { line, id, question }: Found, sample: Sample): void {
  if (question === undefined || asks(question, sample)) return
  throw new DataError(
    `${placeOf(path, line, id)}: the question is ${JSON.stringify(question)}, the sample's is ${JSON.stringify(sample.question)}`,
    { detail: { path, line, id }, hint: 'The answers are to another set of questions with the same ids.' },
  )
}

/** A field of a record under one of several names. */
type Field = readonly [name: string, value: unknown]

function foundIn(
  path: string,
  line: number,
  record: Record<string, unknown>,
  find: (id: string) => Sample | undefined,
): { found: Found; sample: Sample | undefined } {
  const named = (names: readonly string[]): Field[] =>
    names.flatMap((name): Field[] => (record[name] != null ? [[name, record[name]]] : []))
  const isId = (value: unknown): value is string | number => typeof value === 'string' || typeof value === 'number'
  const ids = named(keys.id).filter(([, value]) => isId(value))
  if (ids.length === 0) throw missing(path, line, undefined, `an id (${keys.id.join(', ')})`)
  // Other programs number their lines too: what names no sample is no id of one.
  const asked = ids.filter(([, value]) => find(String(value)))
  const samples = new Set(asked.map(([, value]) => find(String(value))))
  const id = String((asked[0] ?? ids[0])[1])
  if (samples.size > 1) throw ambiguous(path, line, id, 'name different samples', asked)
  const sample = find(id)
  const texts = named(keys.text).filter(
    ([name, value]) => !(name === 'text' && sample && asks(value, sample) && hasOther(record)),
  )
  if (new Set(texts.map(([, value]) => value)).size > 1)
    throw ambiguous(path, line, id, 'could each be the answer', texts)
  const isThere = keys.text.some((name) => record[name] === null)
  // Null is what programs write where they got no answer.
  const text = texts[0]?.[1] ?? (isThere ? '' : undefined)
  if (typeof text !== 'string') throw missing(path, line, id, `a text (${keys.text.join(', ')})`)
  const [k, question] = [named(keys.k)[0]?.[1], named(keys.question)[0]?.[1]]
  const number = k === undefined || k === '' ? 0 : Number(k)
  if (!(Number.isInteger(number) && number >= 0)) {
    throw missing(path, line, id, `a whole number as ${keys.k.join(' or ')}`)
  }
  const isSaid = typeof question === 'string' && question.trim() !== ''
  return { found: { line, id, k: number, text, question: isSaid ? question : undefined }, sample }
}

/** Whether a record has its answer under another name than `text`, which then may hold the question. */
const hasOther = (record: Record<string, unknown>): boolean =>
  keys.text.some((name) => name !== 'text' && typeof record[name] === 'string')

const ambiguous = (path: string, line: number, id: string, what: string, fields: readonly Field[]): DataError =>
  new DataError(`${placeOf(path, line, id)}: ${fields.map(([name]) => `"${name}"`).join(' and ')} ${what}`, {
    detail: { path, line, id, fields: fields.map(([name]) => name) },
    hint: 'Keep the field with the answer, and one field with the id of the sample.',
  })

function missing(path: string, line: number, id: string | undefined, what: string): DataError {
  return new DataError(`${placeOf(path, line, id)}: expected ${what}`, { detail: { path, line, id } })
}
