/**
 * Sources of imports, mutated: every record is taken over unchanged, taken over with a counted note, or left out with a
 * counted reason; or the whole source is refused in words. Nothing crashes, hangs, or is lost behind a 0.
 */
import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parquetWriteFile } from 'hyparquet-writer'
import { describe, expect, it } from 'vitest'
import { FireError, InternalError } from '../../src/errors.js'
import { type Imported, runImport, sourceOf } from '../import/support.js'
import { drawsOf, pick, rounds, timeFor } from './campaign.js'

type Draws = ReturnType<typeof drawsOf>
type Source = Record<string, unknown>

/** A form of a kind: records with a mark `m<number>` in their texts, and how files hold them. */
interface Form {
  kind: string
  record(index: number): Source
  /** Texts of a record that come out as they are, by field. */
  texts: string[]
  files(records: Source[]): Record<string, string | object> | ((folder: string) => void)
}

const ask = (index: number): string => `m${index}. Is there an effusion on the left, as é and 肺 say?`
const turns = (index: number, answer: string): object[] => [
  { from: 'human', value: `<image>\n${ask(index)}` },
  { from: 'gpt', value: answer },
]
const says = (content: unknown): object[] => [{ role: 'assistant', content }]

const own = (index: number): Source => ({
  id: `r${index}`,
  question: ask(index),
  answer: `no ${index}`,
  image: 'a.png',
})
const pairOf = (index: number): Source => ({
  id: index,
  chosen: `No ${index}.`,
  rejected: `Yes ${index}.`,
  images: ['a.png'],
})
const lines = (records: object[]): string => records.map((record) => `${JSON.stringify(record)}\n`).join('')
const table = (mark: string, records: Source[]): string => {
  const keys = [...new Set(records.flatMap((record) => Object.keys(record)))]
  const cell = (value: unknown): string => {
    const text = typeof value === 'object' && value !== null ? JSON.stringify(value) : String(value ?? '')
    return /["\r\n]/.test(text) || text.includes(mark) ? `"${text.replaceAll('"', '""')}"` : text
  }
  return [keys, ...records.map((record) => keys.map((key) => record[key]))]
    .map((row) => `${row.map(cell).join(mark)}\n`)
    .join('')
}
const halves = (records: Source[]): [Source[], Source[]] => [records.slice(0, 3), records.slice(3)]
const text = (value: unknown): string | null =>
  value === undefined || value === null ? null : typeof value === 'string' ? value : JSON.stringify(value)

const forms: Form[] = [
  { kind: 'jsonl', record: own, texts: ['question', 'answer'], files: (all) => ({ 'own.jsonl': lines(all) }) },
  {
    kind: 'jsonl',
    record: own,
    texts: ['question', 'answer'],
    files: (all) => ({ 'train.json': JSON.stringify(all, null, 1) }),
  },
  {
    kind: 'jsonl',
    record: own,
    texts: ['question', 'answer'],
    files: (all) => ({ 'all.json': JSON.stringify({ version: '1', train: halves(all)[0], test: halves(all)[1] }) }),
  },
  {
    kind: 'jsonl',
    record: (at) => ({
      id: at,
      messages: [{ role: 'user', content: ask(at) }, ...says(`no ${at}`)],
      images: ['a.png'],
    }),
    texts: [],
    files: (all) => ({ 'train.jsonl': lines(halves(all)[0]), 'test.jsonl': lines(halves(all)[1]) }),
  },
  ...[',', ';', '\t'].map(
    (mark): Form => ({
      kind: 'csv',
      record: own,
      texts: ['question', 'answer'],
      files: (all) => ({ 'own.csv': table(mark, all) }),
    }),
  ),
  {
    kind: 'trl',
    record: (at) => ({ ...pairOf(at), prompt: ask(at) }),
    texts: ['prompt', 'chosen', 'rejected'],
    files: (all) => ({ 'train.jsonl': lines(all) }),
  },
  {
    kind: 'trl',
    record: (at) => ({
      ...pairOf(at),
      prompt: [
        {
          role: 'user',
          content: [
            { type: 'image', image: 'a.png' },
            { type: 'text', text: ask(at) },
          ],
        },
      ],
      chosen: says([
        { type: 'text', text: 'No' },
        { type: 'text', text: ` ${at}.` },
      ]),
      images: undefined,
    }),
    texts: [],
    files: (all) => ({ 'train.json': JSON.stringify(all) }),
  },
  {
    kind: 'trl',
    record: (at) => ({ prompt: ask(at), chosen: `No ${at}.`, rejected: `Yes ${at}.`, image: 'a.png' }),
    texts: ['prompt', 'chosen', 'rejected'],
    files: (all) => (folder) =>
      writeParquet(join(folder, 'train.parquet'), ['prompt', 'chosen', 'rejected', 'image'], all),
  },
  {
    kind: 'rrpo',
    record: (at) => ({
      ...{ question: ask(at), answer: `No ${at}.`, pred: `Yes ${at}.`, image: 'a.png' },
      ...{ answer_masked: `<MASK>No</MASK> ${at}.`, pred_masked: `<MASK>Yes</MASK> ${at}.` },
    }),
    texts: ['question', 'answer'],
    files: (all) => ({ 'rrpo.jsonl': lines(all) }),
  },
  {
    kind: 'rrpo',
    record: (at) => ({
      ...pairOf(at),
      prompt: ask(at),
      chosen: `<mask>No</mask> ${at}.`,
      rejected: `<mask>Yes</mask> ${at}.`,
    }),
    texts: ['prompt'],
    files: (all) => ({ 'pairs.json': JSON.stringify(all) }),
  },
  {
    kind: 'mmedpo',
    record: (at) => ({
      id: at,
      image: 'a.png',
      weighted_score: 0.5,
      conversations: turns(at, 'no'),
      rejected_conversations: turns(at, 'yes'),
    }),
    texts: [],
    files: (all) => ({ 'a_dpo_weighted.json': JSON.stringify(all, null, 2) }),
  },
  {
    kind: 'slake',
    record: (at) => ({
      qid: at,
      img_name: 'x/source.png',
      q_lang: 'en',
      question: ask(at),
      answer: `no ${at}`,
      answer_type: 'CLOSED',
    }),
    texts: ['question', 'answer'],
    files: (all) => ({ 'train.json': JSON.stringify(halves(all)[0]), 'test.json': JSON.stringify(halves(all)[1]) }),
  },
  {
    kind: 'vqa-rad',
    record: (at) => ({
      ...{ qid: at, phrase_type: at % 2 ? 'freeform' : 'test_para', qid_linked_id: `x${at}`, image_name: 'a.png' },
      ...{ question: ask(at), answer: `no ${at}`, answer_type: 'OPEN' },
    }),
    texts: ['question', 'answer'],
    files: (all) => ({ 'VQA_RAD Dataset Public.json': JSON.stringify(all, null, 1) }),
  },
  {
    kind: 'vqa-rad',
    record: (at) => ({ id: at, image: 'a.png', answer_type: 'OPEN', conversations: turns(at, `no ${at}`) }),
    texts: [],
    files: (all) => ({ 'train.json': JSON.stringify(halves(all)[0]), 'test.json': JSON.stringify(halves(all)[1]) }),
  },
  {
    kind: 'vqa-rad',
    record: (at) => ({ image: 'a.png', question: ask(at), answer: `no ${at}` }),
    texts: ['question', 'answer'],
    files: (all) => (folder) => writeParquet(join(folder, 'train.parquet'), ['image', 'question', 'answer'], all),
  },
  {
    kind: 'iu-xray',
    record: (at) => ({
      id: `CXR${at}`,
      report: `${ask(at)} XXXX`,
      image_path: ['a.png', 'b.png'],
      split: at < 3 ? 'train' : 'test',
    }),
    texts: ['report'],
    files: (all) => ({ 'annotation.json': JSON.stringify({ train: halves(all)[0], test: halves(all)[1] }) }),
  },
  {
    kind: 'iu-xray',
    record: (at) => ({ uid: at, MeSH: 'normal', findings: ask(at), impression: 'Normal.' }),
    texts: ['findings'],
    files: (all) => ({
      'indiana_reports.csv': table(',', all),
      'indiana_projections.csv': table(
        ',',
        all.map((_, at) => ({ uid: at, filename: 'a.png', projection: 'Frontal' })),
      ),
    }),
  },
]

/** `image` is written as the hub does, the rest as texts that may be missing. */
function writeParquet(filename: string, names: string[], records: Source[]): void {
  const column = { type: 'BYTE_ARRAY' as const, converted_type: 'UTF8' as const, repetition_type: 'OPTIONAL' as const }
  parquetWriteFile({
    filename,
    schema: [
      { name: 'root', num_children: names.length },
      ...names.flatMap((name) =>
        name === 'image'
          ? [
              { name, num_children: 1, repetition_type: 'OPTIONAL' as const },
              { ...column, name: 'path' },
            ]
          : [{ ...column, name }],
      ),
    ],
    columnData: names.map((name) => ({
      name,
      data: records.map((record) => (name === 'image' ? { path: text(record[name]) } : text(record[name]))),
    })),
  })
}

const deep = (levels: number): unknown => (levels === 0 ? 1 : [deep(levels - 1)])

/** What becomes of one field of one record. */
const values: ((value: unknown) => unknown)[] = [
  ...[undefined, null, '', ' ', 0, -1.5, true, [], {}, [[]], { a: 1 }, 'NULL', Number.NaN].map((value) => () => value),
  () => 12345678901234567890n,
  () => deep(70),
  () => deep(3),
  (value) => [value],
  (value) => [value, value],
  (value) => ({ role: 'assistant', content: value }),
  (value) => ({ from: 'human', value }),
  (value) => [{ role: 'user', content: [{ type: 'text', text: value }] }],
  (value) => [
    {
      role: 'user',
      content: [
        { type: 'video', video: 'a.mp4' },
        { type: 'text', text: value },
      ],
    },
  ],
  (value) => ({ path: value }),
  (value) => ({ bytes: { type: 'Buffer', data: [1, 2, 3] }, path: value }),
  ...[
    'data:image/png;base64,iVBORw0KGgo=',
    'data:text/plain,hello',
    'https://example.org/a.png',
    '.\\a.png',
    '../a.png',
  ].map((value) => () => value),
  ...['/etc/passwd', 'none.png', 'a.png\0', 'a.png#2', `${'x/'.repeat(5000)}a.png`, 'Closed-ended', 'UNKNOWN'].map(
    (value) => () => value,
  ),
  ...[
    '  %',
    '% ',
    '%\n',
    '%\t%',
    '<image>%',
    '<image>\n%',
    '%<image>',
    '% <image> %',
    '<image><image>%',
    '<|image_pad|>%',
    '%</s>',
  ].map(fill),
  ...[
    '%<|im_end|>',
    '%<|im_end|>\n',
    '<|im_start|>user\n%',
    '<mask>%</mask>',
    '<mask>%',
    '%"%',
    '"%"',
    "%'",
    '%;%,%\t%',
    '\ufeff%',
    '%\u2028%',
  ].map(fill),
  ...['%\0', '%\ud800', '\u202e%', '%\r\n%', '%\r%', '<image 1>%', '{"a": %}', '%\u001b[31m', '=%'].map(fill),
  (value) => `${value} ${'long '.repeat(40_000)}`,
]

function fill(pattern: string): (value: unknown) => unknown {
  return (value) => pattern.replaceAll('%', typeof value === 'string' ? value : JSON.stringify(value ?? null))
}

const bigint = /"bigint:(\d+)"/g

/** JSON with what is no JSON: whole numbers without end, NaN. */
function rawValue(value: unknown): unknown {
  return typeof value === 'bigint'
    ? `bigint:${value}`
    : typeof value === 'number' && Number.isNaN(value)
      ? 'is:NaN'
      : value
}

const raw = (content: string): string => content.replace(bigint, '$1').replaceAll('"is:NaN"', 'NaN')

/** What becomes of a file's bytes. */
const damages: ((bytes: Buffer, draws: Draws) => Buffer)[] = [
  (bytes) => Buffer.concat([Buffer.from('\ufeff'), bytes]),
  (bytes) => Buffer.from(`\ufeff${bytes.toString()}`, 'utf16le'),
  (bytes) => Buffer.from(`\ufeff${bytes.toString()}`, 'utf16le').swap16(),
  (bytes) => Buffer.from(bytes.toString(), 'utf16le'),
  (bytes) => Buffer.from(bytes.toString(), 'latin1'),
  (bytes) => Buffer.from(bytes.toString().replaceAll('\n', '\r\n')),
  (bytes) => Buffer.from(bytes.toString().replaceAll('\n', '\r')),
  (bytes) => Buffer.from(bytes.toString().replaceAll('\n', '\n\n')),
  (bytes) => Buffer.from(bytes.toString().replace(/[}\]]\s*$/, (end) => `,${end}`)),
  (bytes) => Buffer.from(`sep=;\n${bytes}`),
  (bytes) => Buffer.from(bytes.toString().replaceAll(/^/gm, ',')),
  (bytes) => Buffer.concat([bytes, bytes]),
  (bytes, draws) => bytes.subarray(0, at(draws, bytes)),
  (bytes, draws) => bytes.subarray(at(draws, bytes)),
  (bytes, draws) => swapped(bytes, at(draws, bytes), draws.integers(1, 0, 256)[0]),
  (bytes, draws) => swapped(bytes, at(draws, bytes), 34),
  (bytes, draws) => swapped(bytes, at(draws, bytes), 10),
  (bytes, draws) => swapped(bytes, at(draws, bytes), 0),
  (bytes, draws) => Buffer.concat([bytes.subarray(0, at(draws, bytes)), Buffer.alloc(1000, '['), bytes]),
  () => Buffer.alloc(0),
  () => Buffer.from('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n'),
]

const at = (draws: Draws, bytes: Buffer): number => draws.integers(1, 0, bytes.length)[0]

function swapped(bytes: Buffer, index: number, byte: number): Buffer {
  const copy = Buffer.from(bytes)
  copy[index] = byte
  return copy
}

const many = 6

/** Whole records that something happens to. */
const shuffles: ((records: Source[]) => Source[])[] = [
  (records) => [...records, structuredClone(records[0])],
  (records) =>
    records.map((record) => ({ ...record, ...('id' in record && { id: 7 }), ...('qid' in record && { qid: 7 }) })),
  (records) =>
    records.map((record, index) =>
      index === 1
        ? { ...record, ...Object.fromEntries(Array.from({ length: 1000 }, (_, each) => [`extra${each}`, each])) }
        : record,
    ),
  (records) => records.map((record, index) => ({ ...record, split: index % 2 ? 'dev' : 'train' })),
  (records) =>
    [...records, 3 as unknown as Source, null as unknown as Source, 'text' as unknown as Source].slice(
      0,
      records.length + 3,
    ),
]

/** One round: what was mutated, the records as they then are, and the files. */
function mutate(
  form: Form,
  draws: Draws,
): {
  what: string
  records: Source[] | undefined
  files: ReturnType<Form['files']>
  damage?: (bytes: Buffer) => Buffer
} {
  const records = Array.from({ length: many }, (_, index) => form.record(index))
  const [choice, which, index] = draws.integers(3, 0, 1 << 20)
  const whole = form.files(records)
  const tabular = typeof whole === 'function' || Object.keys(whole).some((name) => name.endsWith('.csv'))
  if (choice % 4 === 0) {
    const number = which % damages.length
    return {
      what: `damage ${number}`,
      records: undefined,
      files: form.files(records),
      damage: (bytes) => damages[number](bytes, draws),
    }
  }
  if (choice % 16 === 1 && !tabular) {
    const number = which % shuffles.length
    const shuffled = shuffles[number](records)
    return { what: `shuffle ${number}`, records: shuffled, files: form.files(shuffled) }
  }
  const record = records[index % many]
  const key = pick(draws, Object.keys(record))
  const number = which % values.length
  record[key] = rawValue(values[number](record[key]))
  return { what: `value ${number} in ${key} of record ${index % many}`, records, files: form.files(records) }
}

/** Every text that a record of the output has. */
const textsOf = (record: object): unknown[] => {
  const { question, answer, prompt, chosen, rejected } = record as Source
  return [question, answer, prompt, chosen, rejected]
}

function account(form: Form, records: Source[] | undefined, { report, samples, pairs }: Imported): void {
  const written = Math.max(samples.length, pairs.length)
  expect(written + report.problems.length).toBe(report.read)
  expect(Object.values(report.leftOut).reduce((sum, count) => sum + (count ?? 0), 0)).toBe(report.problems.length)
  for (const { message, file } of report.problems) expect([message.length < 600, file !== '']).toEqual([true, true])
  const out = samples.length > 0 ? samples : pairs
  expect(new Set(out.map(({ id }) => id)).size).toBe(out.length)
  if (records === undefined) {
    // Nobody knows what damaged bytes mean; what is missing must not be missing in silence.
    const marks = Array.from({ length: many }, (_, index) => `m${index}.`)
    const gone = marks.filter((mark) => !out.some((record) => JSON.stringify(record).includes(mark)))
    if (gone.length > 0) expect(report.problems.length + report.notes.length).toBeGreaterThan(0)
    return
  }
  expect(report.read).toBe(records.length)
  for (const record of out) {
    const mark = /\bm(\d)\./.exec(JSON.stringify(textsOf(record)))
    const source = records.find((each) => mark && JSON.stringify(each).includes(mark[0]))
    for (const key of source ? form.texts : []) {
      // Files other than JSON cannot hold half of a character.
      const said = typeof source?.[key] === 'string' ? Buffer.from(source[key]).toString() : undefined
      if (said !== undefined && ![said, source?.[key]].some((each) => textsOf(record).includes(each)))
        expect(report.notes, said.slice(0, 80)).not.toEqual([])
    }
  }
}

describe('imports of mutated sources', () => {
  const count = rounds(60, 900)
  it(
    `accounts for every record in ${count} rounds`,
    async () => {
      const tally = { refused: 0, imported: 0 }
      for (let round = 0; round < count; round += 1) {
        const draws = drawsOf('imports', round)
        const form = forms[round % forms.length]
        const { what, records, files, damage } = mutate(form, draws)
        const place = `round ${round}: ${form.kind}, ${what}`
        const source = await sourceOf({
          'a.png': 1,
          'b.png': 2,
          'imgs/x/source.png': 3,
          ...(typeof files === 'function' ? {} : contents(files, damage)),
        })
        if (typeof files === 'function') {
          files(source)
          if (damage) await damageParquet(source, damage)
        }
        const started = performance.now()
        const out = join(source, 'out')
        const done = await runImport({ kind: form.kind, source, out }).catch((error) => error)
        expect(performance.now() - started, place).toBeLessThan(60_000)
        if (done instanceof Error) {
          tally.refused += 1
          expect(done, `${place}: ${done.stack}`).toBeInstanceOf(FireError)
          expect(done, place).not.toBeInstanceOf(InternalError)
          expect(existsSync(out), place).toBe(false)
          if (records) expect(done.message, place).toMatch(/layout|looks like|splits|not valid|twice/)
        } else {
          tally.imported += 1
          try {
            account(form, records, done)
          } catch (error) {
            throw new Error(`${place}: ${(error as Error).message}\n${JSON.stringify(done.report).slice(0, 3000)}`, {
              cause: error,
            })
          }
        }
      }
      console.log(JSON.stringify(tally))
      expect(process.resourceUsage().maxRSS).toBeLessThan(1_000_000)
      expect(tally.imported).toBeGreaterThan(count / 2)
    },
    timeFor(60_000),
  )
})

function contents(
  files: Record<string, string | object>,
  damage: ((bytes: Buffer) => Buffer) | undefined,
): Record<string, string | object> {
  return Object.fromEntries(
    Object.entries(files).map(([name, content], index) => {
      const written = raw(String(content))
      return [name, damage && index === 0 ? damage(Buffer.from(written)) : written]
    }),
  )
}

async function damageParquet(folder: string, damage: (bytes: Buffer) => Buffer): Promise<void> {
  const path = join(folder, 'train.parquet')
  await writeFile(path, damage(await readFile(path)))
}
