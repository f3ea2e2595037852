/** The kinds of record files: how each is told, and what is counted of it. */
import { z } from 'zod'
import { emptySide, pairProblem } from '../data/pairs.js'
import { type ImageRef, pair, response, sample } from '../data/records.js'
import type { Example, Inspection, Problems, Severity } from './report.js'
import { Categories, type Examples, Numbers, Seen } from './tally.js'

/** What one record is looked at with. */
export interface Place {
  /** `line 12: record q3` */
  where: string
  line: number
}

/** Gathers what there is to say about the records of one kind. */
export interface Collector<T> {
  add(record: T, place: Place): void
  /** Images that the record refers to, for whoever checks them. */
  images?(record: T): ImageRef[]
  /** What no counter of the sheet says. */
  facts?(): Inspection['facts']
}

export interface Shared {
  problems: Problems
  /** In which splits an image was seen, over all files of one inspection. */
  leakage: Leakage
  sheet: Sheet
  kept: Examples<Example>
}

export interface Kind<T> {
  name: string
  schema: z.ZodType<T>
  collect(shared: Shared): Collector<T>
}

/** Finds images that splits share; each is told once, however many records ask about it. */
export class Leakage {
  readonly #images = new Seen()
  readonly #splits: string[] = []

  /** The split that the image was in alone until now, when it is another one. */
  add(image: string, split: string): string | undefined {
    if (!this.#splits.includes(split)) this.#splits.push(split)
    const place = this.#splits.indexOf(split)
    const first = this.#images.add(image, place)
    if (first === undefined || first === place || first < 0) return undefined
    this.#images.set(image, -1)
    return this.#splits[first]
  }
}

/** Named counters that come out in the order in which they were first used. */
export class Sheet {
  readonly #categories = new Map<string, Categories>()
  readonly #numbers = new Map<string, Numbers>()

  count(name: string, value: string): void {
    getOrAdd(this.#categories, name, () => new Categories()).add(value)
  }

  measure(name: string, value: number): void {
    getOrAdd(this.#numbers, name, () => new Numbers()).add(value)
  }

  result(): Pick<Inspection, 'distributions' | 'spreads'> {
    return {
      distributions: [...this.#categories].map(([name, values]) => ({ name, counts: values.counts() })),
      spreads: [...this.#numbers].flatMap(([name, values]) => {
        const spread = values.spread()
        return spread ? [{ name, spread }] : []
      }),
    }
  }
}

function getOrAdd<T>(map: Map<string, T>, name: string, make: () => T): T {
  const known = map.get(name)
  if (known !== undefined) return known
  const made = make()
  map.set(name, made)
  return made
}

const words = (text: string): number => text.split(/\s+/).filter((word) => word !== '').length

/** The key under which an id counts as taken, with what to call it. */
function unique(seen: Seen, problems: Problems, severity: Severity, what: string) {
  return (key: string, { where, line }: Place): void => {
    const earlier = seen.add(key, line)
    if (earlier !== undefined) problems.add(severity, what, `${where}: first in line ${earlier}`)
  }
}

const samples: Kind<z.output<typeof sample>> = {
  name: 'samples',
  schema: sample,
  collect({ problems, leakage, sheet, kept }) {
    const images = new Seen()
    const noteId = unique(new Seen(), problems, 'error', 'the id is taken by an earlier record')
    const noteQuestion = unique(new Seen(), problems, 'warning', 'the same question about the same images again')
    return {
      add(record, place) {
        const { id, split, question, answer } = record
        noteId(id, place)
        noteQuestion(JSON.stringify([record.images.map(({ sha256 }) => sha256), question, answer]), place)
        if (question.trim() === '') problems.add('error', 'the question is empty', place.where)
        if (answer.trim() === '') problems.add('warning', 'the answer is empty', place.where)
        for (const { sha256 } of record.images) {
          images.add(sha256, place.line)
          const other = leakage.add(sha256, split)
          if (other !== undefined) {
            problems.add('warning', `an image of split "${other}" is also in split "${split}"`, place.where)
          }
        }
        for (const name of ['dataset', 'split', 'task', 'answerType', 'language'] as const)
          sheet.count(name, record[name])
        sheet.count('images per record', String(record.images.length))
        if (record.answerType === 'closed') sheet.count('closed answers', answer.toLowerCase())
        sheet.measure('words of a question', words(question))
        sheet.measure('words of an answer', words(answer))
        kept.add(id, { title: id, texts: [plain('question', question), plain('answer', answer)] })
      },
      images: (record) => record.images,
      facts: () => [['distinct images', images.size]],
    }
  },
}

const responses: Kind<z.output<typeof response>> = {
  name: 'responses',
  schema: response,
  collect({ problems, sheet, kept }) {
    const asked = new Seen()
    const noteAnswer = unique(new Seen(), problems, 'error', 'the same sample with the same seed again')
    const said = new Seen()
    let repeated = 0
    return {
      add(record, place) {
        const { sampleId, text, prompt, seed, sampling } = record
        noteAnswer(`${sampleId}\n${seed}`, place)
        asked.add(sampleId, place.line)
        if (said.add(`${sampleId}\n${text}`, place.line) !== undefined) repeated += 1
        if (text.trim() === '') problems.add('warning', 'the answer is empty', place.where)
        sheet.count('model', record.model)
        sheet.count('adapter', record.adapter ?? '(none)')
        sheet.count('ended by', String(sampling.finish ?? '(not said)'))
        sheet.count('temperature', String(sampling.temperature ?? '(not said)'))
        sheet.measure('words of an answer', words(text))
        if (record.tokens.length > 0) sheet.measure('tokens of an answer', record.tokens.length)
        kept.add(`${sampleId}\n${seed}`, { title: sampleId, texts: [plain('prompt', prompt), plain('answer', text)] })
      },
      facts: () => [
        ['samples asked', asked.size],
        ['answers that their sample has already', repeated],
      ],
    }
  },
}

const failedQuestion = z.object({ sampleId: z.string(), code: z.string(), reason: z.string() })

const failures: Kind<z.output<typeof failedQuestion>> = {
  name: 'failed questions',
  schema: failedQuestion,
  collect({ sheet, kept }) {
    return {
      add({ sampleId, code, reason }) {
        sheet.count('code', code)
        kept.add(sampleId, { title: sampleId, texts: [plain('reason', reason)] })
      },
    }
  },
}

const pairs: Kind<z.output<typeof pair>> = {
  name: 'pairs',
  schema: pair,
  collect({ problems, sheet, kept }) {
    const noteId = unique(new Seen(), problems, 'error', 'the id is taken by an earlier record')
    const noteTexts = unique(new Seen(), problems, 'warning', 'the same two answers to the same question again')
    const images = new Seen()
    let corrupted = 0
    return {
      add(record, place) {
        const { id, chosen, rejected, edits, prompt } = record
        noteId(id, place)
        noteTexts(JSON.stringify([record.images.map(({ sha256 }) => sha256), prompt, chosen, rejected]), place)
        const problem = pairProblem(record)
        if (problem) problems.add('error', 'an invariant of pairs does not hold', `${place.where}: ${problem}`)
        if (chosen === rejected) problems.add('warning', 'chosen and rejected are the same text', place.where)
        else if (emptySide(record))
          problems.add('warning', `the ${emptySide(record)} answer has no phrase`, place.where)
        for (const { sha256 } of record.images) images.add(sha256, place.line)
        noteTwin(record, problems, place)
        if (record.corrupted) {
          corrupted += 1
          sheet.count('corruption', record.corrupted.method)
          sheet.measure('sigma', record.corrupted.sigma)
        }
        sheet.count('origin', record.origin)
        sheet.count('images per record', String(record.images.length))
        for (const { category } of edits) sheet.count('category of an edit', category)
        sheet.measure('edits of a pair', edits.length)
        sheet.measure('words of the chosen answer', words(chosen))
        sheet.measure('words of the rejected answer', words(rejected))
        const edited = edits.reduce((total, { chosen: [start, end] }) => total + words(chosen.slice(start, end)), 0)
        if (words(chosen) > 0)
          sheet.measure('edited words of the chosen answer, %', Math.round((100 * edited) / words(chosen)))
        kept.add(id, pairExample(record))
      },
      images: (record) => [...record.images, ...(record.corrupted?.images ?? [])],
      facts: () => [
        ['distinct images', images.size],
        ['pairs with a corrupted twin', corrupted],
      ],
    }
  },
}

function noteTwin({ images, corrupted }: z.output<typeof pair>, problems: Problems, { where }: Place): void {
  if (!corrupted) return
  const same = images.length > 0 && images.every(({ sha256 }, index) => corrupted.images[index]?.sha256 === sha256)
  if (same) problems.add('warning', 'the corrupted image has the bytes of the clean one', where)
}

function pairExample({ id, prompt, chosen, rejected, edits, origin }: z.output<typeof pair>): Example {
  const marks = (side: 'chosen' | 'rejected') =>
    edits.map((edit) => ({ start: edit[side][0], end: edit[side][1], kind: side }))
  return {
    title: `${id} (${[origin, ...new Set(edits.map(({ category }) => category))].join(', ')})`,
    texts: [
      plain('prompt', prompt),
      { label: 'chosen', text: chosen, marks: marks('chosen') },
      { label: 'rejected', text: rejected, marks: marks('rejected') },
    ],
  }
}

const rejectedAnswer = z.object({
  id: z.string(),
  sampleId: z.string(),
  reason: z.string(),
  detail: z.string(),
  text: z.string().optional(),
})

const rejections: Kind<z.output<typeof rejectedAnswer>> = {
  name: 'rejected answers',
  schema: rejectedAnswer,
  collect({ problems, sheet, kept }) {
    const noteId = unique(new Seen(), problems, 'error', 'the id is taken by an earlier record')
    return {
      add({ id, reason, detail, text = '' }, place) {
        noteId(id, place)
        sheet.count('reason', reason)
        kept.add(id, { title: `${id} (${reason})`, texts: [plain('answer', text), plain('detail', detail)] })
      },
    }
  },
}

const judgedAnswer = z.object({
  system: z.string(),
  sampleId: z.string(),
  k: z.number().int(),
  imageId: z.string(),
  answerType: z.string(),
  question: z.string(),
  reference: z.string(),
  text: z.string().nullable(),
  verdict: z.string(),
  by: z.string(),
})

const verdicts: Kind<z.output<typeof judgedAnswer>> = {
  name: 'verdicts',
  schema: judgedAnswer,
  collect({ problems, sheet, kept }) {
    const noteId = unique(new Seen(), problems, 'error', 'the answer has a verdict already')
    const images = new Seen()
    return {
      add({ system, sampleId, k, imageId, answerType, question, reference, text, verdict, by }, place) {
        const id = `${system}: ${sampleId}${k > 0 ? `#${k}` : ''}`
        noteId(id, place)
        images.add(imageId, place.line)
        sheet.count(system, verdict)
        sheet.count(`${answerType} questions`, verdict)
        sheet.count('judged by', by)
        const texts = [plain('question', question), plain('reference', reference), plain('answer', text ?? '')]
        kept.add(id, { title: `${id} (${verdict})`, texts })
      },
      facts: () => [['distinct images', images.size]],
    }
  },
}

const answerOfSystem = z.object({
  system: z.string(),
  sampleId: z.string(),
  k: z.number().int(),
  text: z.string().nullable(),
  failure: z.string().nullable(),
  words: z.number(),
})

const predictions: Kind<z.output<typeof answerOfSystem>> = {
  name: 'predictions',
  schema: answerOfSystem,
  collect({ problems, sheet, kept }) {
    const noteId = unique(new Seen(), problems, 'error', 'the answer is there already')
    return {
      add({ system, sampleId, k, text, failure, words }, place) {
        const id = `${system}: ${sampleId}${k > 0 ? `#${k}` : ''}`
        noteId(id, place)
        sheet.count(system, failure ?? 'answered')
        sheet.measure('words', words)
        kept.add(id, { title: id, texts: [plain('answer', text ?? '')] })
      },
    }
  },
}

const scoredReport = z.object({
  system: z.string(),
  sampleId: z.string(),
  raw: z.string().nullable(),
  strict: z.object({ status: z.string(), green: z.number().nullable() }).nullable(),
  scores: z.record(z.string(), z.number()),
})

const reports: Kind<z.output<typeof scoredReport>> = {
  name: 'scored reports',
  schema: scoredReport,
  collect({ sheet, kept }) {
    return {
      add({ system, sampleId, raw, strict, scores }) {
        sheet.count(system, strict?.status ?? 'not read by GREEN')
        if (strict?.green != null) sheet.measure(`${system}: GREEN`, strict.green)
        for (const [name, value] of Object.entries(scores)) sheet.measure(`${system}: ${name}`, value)
        kept.add(sampleId, { title: `${system}: ${sampleId}`, texts: [plain('reply', raw ?? '')] })
      },
    }
  },
}

const lookedAt = z.object({
  system: z.string(),
  sampleId: z.string(),
  kind: z.string(),
  skipped: z.string().nullable(),
  ar: z.array(z.number().nullable()),
})

const grounding: Kind<z.output<typeof lookedAt>> = {
  name: 'grounding',
  schema: lookedAt,
  collect({ sheet }) {
    return {
      add({ system, kind, skipped }) {
        sheet.count(`${system}: ${kind}`, skipped ?? 'measured')
      },
    }
  },
}

const maskEntry = z.object({ image: z.string(), concept: z.string().optional(), mask: z.unknown() })

const masks: Kind<z.output<typeof maskEntry>> = {
  name: 'masks',
  schema: maskEntry.refine(({ mask }) => mask !== undefined),
  collect({ sheet }) {
    const images = new Seen()
    return {
      add({ image, concept = '(none)', mask }, place) {
        images.add(image, place.line)
        sheet.count('concept', concept)
        sheet.count('form', formOf(mask))
      },
      facts: () => [['distinct images', images.size]],
    }
  },
}

/** A mask is a file's name, or an object that its keys tell. */
function formOf(mask: unknown): string {
  if (typeof mask !== 'object' || mask === null) return 'file'
  return Array.isArray(mask) ? 'several' : Object.keys(mask).sort().join(', ')
}

const probed = z.object({
  sampleId: z.string(),
  question: z.string(),
  answer: z.string(),
  before: z.object({}),
  after: z.object({}),
})

const attention: Kind<z.output<typeof probed>> = {
  name: 'attention maps',
  schema: probed,
  collect({ kept }) {
    return {
      add({ sampleId, question, answer }) {
        kept.add(sampleId, { title: sampleId, texts: [plain('question', question), plain('answer', answer)] })
      },
    }
  },
}

const hiddenLesion = z.object({
  method: z.string(),
  sampleId: z.string(),
  question: z.string(),
  reference: z.string(),
  hidden: z.object({ after: z.object({ text: z.string(), correct: z.boolean() }) }),
})

const hidden: Kind<z.output<typeof hiddenLesion>> = {
  name: 'hidden lesions',
  schema: hiddenLesion,
  collect({ sheet, kept }) {
    return {
      add({ method, sampleId, question, reference, hidden: { after } }) {
        sheet.count(method, after.correct ? 'right with the lesion hidden' : 'not right with the lesion hidden')
        const texts = [plain('question', question), plain('reference', reference), plain('answer', after.text)]
        kept.add(sampleId, { title: `${sampleId} (${method})`, texts })
      },
    }
  },
}

const ofStep = z.object({ step: z.number().int() }).catchall(z.number())

/** A step of training, or an evaluation behind one. */
const metricsRow = z.union([ofStep.extend({ loss: z.number() }), ofStep.extend({ eval_loss: z.number() })])

const metrics: Kind<z.output<typeof metricsRow>> = {
  name: 'metrics',
  schema: metricsRow,
  collect({ problems }) {
    const seen = new Map<string, { first: number; last: number }>()
    let before: number | undefined
    return {
      add({ step, ...row }, { where }) {
        const expected = row.loss === undefined ? before : (before ?? step - 1) + 1
        if (expected !== undefined && step !== expected) {
          problems.add('warning', 'steps do not follow each other', `${where}: step ${step} after ${before}`)
        }
        before = step
        for (const [name, last] of Object.entries(row)) seen.set(name, { first: seen.get(name)?.first ?? last, last })
      },
      facts: () =>
        [...seen].map(([name, { first, last }]) => [name, `${short(first)} at first, ${short(last)} at last`]),
    }
  },
}

const short = (value: number): string => String(Number(value.toPrecision(4)))

const plain = (label: string, text: string) => ({ label, text, marks: [] })

/** In the order they are tried: the strictest first. */
export const kinds = [
  ...[
    samples,
    pairs,
    responses,
    rejections,
    failures,
    verdicts,
    predictions,
    reports,
    grounding,
    attention,
    hidden,
    masks,
    metrics,
  ],
] as unknown as readonly Kind<never>[]
