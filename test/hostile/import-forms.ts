/** Good sources of imports, one for each form of each kind: what a campaign mutates. */
import { join } from 'node:path'
import { parquetWriteFile } from 'hyparquet-writer'

export type Source = Record<string, unknown>

/** A form of a kind: records with a mark `m<number>` in their texts, and how files hold them. */
export interface Form {
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

export const forms: Form[] = [
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
