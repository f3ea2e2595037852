/** What happens to the source of an import: to a field, to whole records, to the bytes of a file. */
import type { Draws } from '../../src/bench/random.js'
import { pick } from './campaign.js'
import type { Form, Source } from './import-forms.js'

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

export const raw = (content: string): string => content.replace(bigint, '$1').replaceAll('"is:NaN"', 'NaN')

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

/** Records of a source. */
export const many = 6

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
export function mutate(
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
