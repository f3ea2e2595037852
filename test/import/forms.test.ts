import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { brotliCompressSync, gzipSync } from 'node:zlib'
import { parquetWriteFile } from 'hyparquet-writer'
import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import { DataError } from '../../src/errors.js'
import { withoutEnd, withoutMarks } from '../../src/import/marks.js'
import { readRows } from '../../src/import/readers.js'
import { notes, reasons, runImport, sourceOf } from './support.js'

const lines = (records: object[]): string => records.map((record) => `${JSON.stringify(record)}\n`).join('')
const png = (): Promise<Buffer> =>
  sharp({ create: { width: 4, height: 4, channels: 3, background: '#123456' } })
    .png()
    .toBuffer()

describe('marks of images in a question', () => {
  const read = (text: string, images: number) => {
    const noted: string[] = []
    return [withoutMarks(text, images, (kind) => noted.push(kind)), ...noted]
  }

  it.each([
    ['<image>\nWhere?\nLeft?', 1, ['Where?\nLeft?', 'image_mark_removed']],
    ['<image> <image>\nWhere?', 2, ['Where?', 'image_mark_removed']],
    ['Where?\n<image>', 1, ['Where?', 'image_mark_moved_to_front']],
    ['Where? <image><image>', 2, ['Where?', 'image_mark_moved_to_front']],
    ['Where?', 2, ['Where?']],
  ])('are taken out of %j where no place is lost', (text, images, expected) => {
    expect(read(text, images)).toEqual(expected)
  })

  it.each([
    ['A: <image>\nB: <image>\nWhat has changed?', 2, /2 marks .* for 2 images.* 2 stand/],
    ['<image><image>Where?', 1, /2 marks .* 1 image/],
    ['<image>Where?', 2, /1 mark.* 2 images/],
    ['Compare <image 1> with <image 2>', 2, /<image 1>/],
  ])('leave the record of %j out', (text, images, message) => {
    expect(() => read(text, images)).toThrow(message)
  })

  it('take no time on long texts', () => {
    const long = `${' '.repeat(2 ** 21)}x`
    expect(read(long, 1)).toEqual([long])
    expect(withoutEnd(long, () => {})).toBe(long)
  })
})

describe('preferences of other trainers', () => {
  it('concatenates parts, and takes images out of them', async () => {
    const data = `data:image/png;base64,${(await png()).toString('base64')}`
    const asks = (...content: object[]) => [{ role: 'user', content }]
    const parts = (...texts: string[]) => texts.map((text) => ({ type: 'text', text }))
    const answers = { chosen: [{ role: 'assistant', content: parts('No effu', 'sion.') }], rejected: 'An effusion.' }
    const source = await sourceOf({
      'train.jsonl': lines([
        { prompt: asks({ type: 'image' }, ...parts('Is there an ', 'effusion?')), images: ['a.png'], ...answers },
        { prompt: asks({ type: 'image', image: 'a.png' }, ...parts('Where?')), ...answers },
        { prompt: asks({ type: 'image_url', image_url: { url: 'a.png' } }, ...parts('Where?')), ...answers },
        { prompt: asks({ type: 'image_url', image_url: { url: data } }, ...parts('Where?')), ...answers },
        { prompt: asks({ type: 'image', url: 'https://example.org/a.png' }, ...parts('Where?')), ...answers },
        { prompt: asks({ type: 'video', video: 'a.mp4' }, ...parts('Where?')), ...answers },
        { prompt: asks(...parts('Before:'), { type: 'image' }, ...parts('Now?')), images: ['a.png'], ...answers },
      ]),
      'a.png': 1,
    })
    const done = await runImport({ kind: 'trl', source })
    expect(done.pairs.map(({ prompt, chosen, images }) => [prompt, chosen, images.length])).toEqual([
      ['Is there an effusion?', 'No effusion.', 1],
      ...Array(3).fill(['Where?', 'No effusion.', 1]),
    ])
    expect(done.report.problems.map(({ reason, message }) => [reason, message])).toEqual([
      ['missing_image', expect.stringContaining('nothing is fetched')],
      ['wrong_type', expect.stringContaining('"video"')],
      ['image_places', expect.stringContaining('1 mark')],
    ])
  })

  it('reads question, conversations, messages and single answers', async () => {
    const says = (from: string, value: string) => ({ from, value })
    const source = await sourceOf({
      'train.json': [
        { question: 'Where?', chosen: 'Left.</s>', rejected: ' Right.', image: 'a.png' },
        {
          conversations: [says('human', '<image>Where?')],
          chosen: says('gpt', 'Left.'),
          rejected: says('gpt', 'Right.'),
          images: ['a.png'],
        },
        {
          messages: [
            { role: 'user', content: 'Where?' },
            { role: 'assistant', content: 'Left.' },
          ],
          rejected_response: 'Right.',
          images: ['a.png'],
        },
        { prompt: 'Where?', chosen: 'Left.', rejected: ['Right.', 'Both.'], image: 'a.png' },
        { prompt: 'Where?', chosen: ['Left.'], rejected: ['Right.'], image: 'a.png' },
        { chosen: 'Left.', rejected: 'Right.', image: 'a.png' },
      ],
      'a.png': 1,
    })
    const done = await runImport({ kind: 'trl', source })
    expect(done.pairs.map(({ prompt, chosen, rejected }) => [prompt, chosen, rejected])).toEqual(
      Array(4).fill(['Where?', 'Left.', 'Right.']),
    )
    expect(notes(done)).toEqual({ end_token_removed: 1, outer_spaces: 1, image_mark_removed: 1, list_of_one_text: 2 })
    expect(done.report.problems).toMatchObject([
      { index: 3, message: 'rejected: expected one answer, found a list of 2 texts' },
      { index: 5, reason: 'missing_field', message: expect.stringContaining('prompt, question') },
    ])
  })
})

describe('samples of other trainers', () => {
  it('reads messages and conversations', async () => {
    const source = await sourceOf({
      'own.jsonl': lines([
        {
          messages: [
            { role: 'system', content: 'Be brief.' },
            { role: 'user', content: '<image>\nWhere?' },
            { role: 'assistant', content: 'Left' },
          ],
          images: ['a.png'],
        },
        {
          conversations: [
            { from: 'human', value: 'Where?\n<image>' },
            { from: 'gpt', value: 'Left' },
          ],
          image: 'a.png',
        },
      ]),
      'a.png': 1,
    })
    const done = await runImport({ kind: 'jsonl', source })
    expect(done.samples.map(({ question, answer }) => [question, answer])).toEqual(Array(2).fill(['Where?', 'Left']))
    expect(done.samples[0].meta.system).toBe('Be brief.')
    expect(notes(done)).toEqual({ system_prompt_in_meta: 1, image_mark_removed: 1, image_mark_moved_to_front: 1 })
  })

  it('decodes data URIs and names no image by its bytes', async () => {
    const bytes = (await png()).toString('base64')
    const row = { question: 'q', answer: 'a' }
    const source = await sourceOf({
      'own.jsonl': lines([
        { ...row, image: `data:image/png;base64,${bytes}` },
        { ...row, image: { bytes } },
        { ...row, image: `data:image/png;base64,${bytes.slice(0, 40)}` },
        { ...row, image: 'data:image/svg+xml,%3Csvg/%3E' },
      ]),
      'own.csv': `question,answer,image\nq,a,"data:image/png;base64,${bytes}"\n`,
    })
    const done = await runImport({ kind: 'jsonl', source })
    expect(done.samples.map(({ images }) => images[0].width)).toEqual([4, 4])
    expect(reasons(done)).toEqual(
      Array(2)
        .fill([null, 'damaged_image'])
        .map(([id]) => [expect.toSatisfy((each) => each === id || /own-\d/.test(each)), 'damaged_image']),
    )
    for (const { message } of done.report.problems) expect(message.length).toBeLessThan(300)
    expect((await runImport({ kind: 'csv', source })).samples.length).toBe(1)
  })

  it('takes splits from keys, and makes ids unique that begin again', async () => {
    const row = (id: number, question: string) => ({ id, question, answer: 'no', image: 'a.png' })
    const source = await sourceOf({
      'all.json': { version: '1', train: [row(0, 'a'), row(1, 'b'), row(1, 'c')], test: [row(0, 'd'), row(1, 'b')] },
      'a.png': 1,
    })
    const done = await runImport({ kind: 'jsonl', source })
    expect(done.samples.map(({ id, split, question }) => [id, split, question])).toEqual([
      ['0', 'train', 'a'],
      ['1', 'train', 'b'],
      ['0-test', 'test', 'd'],
    ])
    // The second of an id in a split, and a copy of a record in another.
    expect(reasons(done)).toEqual([
      ['1', 'duplicate_id'],
      ['1', 'duplicate_id'],
    ])
    expect(notes(done)).toEqual({ id_made_unique: 1 })
    const slake = { img_name: 'a.png', q_lang: 'en', question: 'q', answer: 'a' }
    const dict = await sourceOf({
      'all.json': { train: [{ ...slake, qid: 1 }], val: [{ ...slake, qid: 2 }] },
      'a.png': 1,
    })
    expect(Object.keys((await runImport({ kind: 'slake', source: dict })).report.counts)).toEqual([
      'train',
      'validation',
    ])
  })

  it.each(['yes_no_exact', 'paper_substring'] as const)('needs no known answer_type by %s', async (closedRule) => {
    const row = { question: 'q', image: 'a.png', answer: 'yes' }
    const source = await sourceOf({
      'own.jsonl': lines([
        { ...row, answer_type: 'binary' },
        { ...row, answer_type: 3 },
      ]),
      'a.png': 1,
    })
    const done = await runImport({ kind: 'jsonl', source, closedRule })
    expect(done.samples.map(({ answerType }) => answerType)).toEqual(['closed', 'closed'])
    expect(notes(done)).toEqual({ answer_type_unknown: 2 })
  })

  it('leaves out a record that has a field twice, or too deep, or too many', async () => {
    const row = '"question": "q", "image": "a.png", "answer": "a"'
    const source = await sourceOf({
      'own.jsonl': [
        `{${row}, "answer": "b"}`,
        `{${row}, "x": ${'['.repeat(100_000)}${']'.repeat(100_000)}}`,
        `{${row}, ${Array.from({ length: 20_000 }, (_, at) => `"c${at}": 1`).join()}}`,
        `{${row}, "n": 12345678901234567890, "m": [NaN, -Infinity], "s": "NaN"}`,
      ].join('\n'),
      'a.png': 1,
    })
    const done = await runImport({ kind: 'jsonl', source })
    expect(done.report.leftOut).toEqual({ duplicate_field: 1, wrong_type: 1, wrong_columns: 1 })
    expect(done.samples[0].meta).toMatchObject({ n: '12345678901234567890', m: [null, null], s: 'NaN' })
    expect(notes(done)).toEqual({ large_number_as_text: 1, nan_as_null: 1 })
  })
})

describe('text files', () => {
  const json =
    '[{"question": "Où?", "answer": "a", "image": "a.png"},\n{"question": "q", "answer": "b", "image": "a.png"}]'

  it.each([
    ['UTF-16 LE', Buffer.from(`\ufeff${json}`, 'utf16le')],
    ['UTF-16 BE', Buffer.from(`\ufeff${json}`, 'utf16le').swap16()],
    ['a byte-order mark', Buffer.from(`\ufeff${json}`)],
    ['line ends of Windows', Buffer.from(json.replaceAll('\n', '\r\n'))],
  ])('reads %s', async (_, bytes) => {
    const done = await runImport({ kind: 'jsonl', source: await sourceOf({ 'own.json': bytes, 'a.png': 1 }) })
    expect(done.samples.map(({ question }) => question)).toEqual(['Où?', 'q'])
    expect(done.samples[1].meta.importedFrom).toMatchObject({ line: 2 })
  })

  it.each([
    ['own.json', Buffer.from(json, 'latin1'), /own\.json:1: the bytes are not UTF-8/, /iconv -f WINDOWS-1252/],
    ['own.jsonl', Buffer.from(json, 'utf16le'), /UTF-16 without a byte-order mark/, /iconv -f UTF-16LE/],
    [
      'own.jsonl',
      'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n',
      /Git LFS pointer/,
      /git lfs pull/,
    ],
  ])('names what is wrong with %s', async (name, content, message, hint) => {
    const failure = await runImport({ kind: 'jsonl', source: await sourceOf({ [name]: content }) }).catch(
      (error) => error,
    )
    expect(failure).toBeInstanceOf(DataError)
    expect(failure.message).toMatch(message)
    expect(failure.hint).toMatch(hint)
  })

  it.each([
    ['sep=;\nquestion;answer;image\nWhere?;left;a.png\n', ['Where?', 'left'], {}],
    ['question,answer,image\nWhat is the 5" lesion?,a 5" mass,a.png\n', ['What is the 5" lesion?', 'a 5" mass'], {}],
    ['question,answer,image\n"a 5" mass, left",no,a.png\n', ['a 5" mass, left', 'no'], { stray_quote: 1 }],
    [',question,answer,image\n7,Where?,left,a.png\n', ['Where?', 'left'], { unnamed_column_dropped: 1 }],
    ['question;answer;image;\nWhere?;left;a.png;\n', ['Where?', 'left'], {}],
    ['question\tanswer\timage\nWhere?\tleft\t.\\img\\a.png\n', ['Where?', 'left'], { backslash_in_path: 1 }],
    ['question,answer,image\rWhere?,left,a.png\r', ['Where?', 'left'], {}],
  ])('reads %j', async (text, [question, answer], noted) => {
    const done = await runImport({
      kind: 'csv',
      source: await sourceOf({ 'own.csv': text, 'a.png': 1, 'img/a.png': 1 }),
    })
    expect(done.samples).toMatchObject([{ question, answer }])
    expect(notes(done)).toEqual(noted)
  })

  it.each([
    ['"open,yes\na.png,"q",no\n', /own\.csv:2: not valid CSV/],
    ['"open,no,a.png\n', /own\.csv:2: not valid CSV \(a quote is not closed/],
  ])('refuses a quote that would swallow records: %j', async (rows, message) => {
    const source = await sourceOf({ 'own.csv': `question,answer,image\n${rows}`, 'a.png': 1 })
    await expect(runImport({ kind: 'csv', source })).rejects.toThrow(message)
  })

  it('reads cells in quotes wherever the file is cut into pieces', async () => {
    const cells = Array.from({ length: 40_000 }, (_, row) => `${'x'.repeat(row % 61)}"${row},\r\n"`)
    const rows = cells.map((cell) => `"${cell.replaceAll('"', '""')}","",${cell.length}\r\n`)
    const source = await sourceOf({ 'own.csv': `a,b,c\r\n${rows.join('')}` })
    const read: unknown[] = []
    for await (const { value, line } of readRows(join(source, 'own.csv'))) read.push([value, line])
    expect(read).toEqual(cells.map((a, row) => [{ a, b: '', c: String(a.length) }, 2 + 2 * row]))
  })

  it('refuses a long line of stray quotes in time', async () => {
    const source = await sourceOf({ 'own.csv': `a\n"${'x"y'.repeat(500_000)}\n"b"\n` })
    const read = async () => {
      for await (const row of readRows(join(source, 'own.csv'))) expect(row).toBeUndefined()
    }
    await expect(read()).rejects.toThrow(/own\.csv:2: .*over several lines/)
  })

  it('says which file beside others it did not read, and what it found instead', async () => {
    const row = { question: 'q', answer: 'a', image: 'a.png' }
    const source = await sourceOf({ 'own.jsonl': lines([row]), 'other.jsonl': lines([{ q: 1 }]), 'a.png': 1 })
    expect((await runImport({ kind: 'jsonl', source })).report.notes).toEqual([
      { note: 'file_not_read', count: 1, first: 'other.jsonl' },
    ])
    await expect(runImport({ kind: 'jsonl', source: join(source, 'other.jsonl') })).rejects.toThrow(
      /other\.jsonl have q$/,
    )
  })

  it('does not block the same command after an import that took nothing', async () => {
    const source = await sourceOf({
      'own.jsonl': lines([{ question: 'q', answer: 'a', image: 'a.png' }]),
      'pictures/a.png': 1,
    })
    const out = join(source, 'out')
    expect((await runImport({ kind: 'jsonl', source, out })).samples).toEqual([])
    expect((await runImport({ kind: 'jsonl', source, out, images: join(source, 'pictures') })).samples.length).toBe(1)
    await expect(runImport({ kind: 'jsonl', source, out })).rejects.toThrow(/exists already/)
  })
})

describe('parquet', () => {
  const compressors = {
    GZIP: (bytes: Uint8Array) => new Uint8Array(gzipSync(bytes)),
    BROTLI: (bytes: Uint8Array) => new Uint8Array(brotliCompressSync(bytes)),
    LZ4_RAW: literalLz4,
    ZSTD: literalZstd,
  }

  it.each(['GZIP', 'BROTLI', 'LZ4_RAW', 'ZSTD', 'UNCOMPRESSED'] as const)(
    'reads %s, raw bytes and texts without a type',
    async (codec) => {
      const source = await sourceOf({})
      parquetWriteFile({
        filename: join(source, 'train.parquet'),
        codec,
        compressors,
        columnData: [
          { name: 'image', data: [new Uint8Array(await png())], type: 'BYTE_ARRAY' },
          { name: 'question', data: [new TextEncoder().encode('Où?')], type: 'BYTE_ARRAY' },
          { name: 'answer', data: ['left'], type: 'STRING' },
        ],
      })
      const done = await runImport({ kind: 'vqa-rad', source })
      expect(done.samples).toMatchObject([{ question: 'Où?', answer: 'left', images: [{ width: 4 }] }])
      expect(notes(done)).toEqual({ bytes_as_text: 1 })
    },
  )

  it('refuses a damaged one with its name', async () => {
    const source = await sourceOf({})
    await writeFile(join(source, 'train.parquet'), `PAR1${'x'.repeat(200)}PAR1`)
    await expect(runImport({ kind: 'vqa-rad', source })).rejects.toThrow(
      /train\.parquet:1: not a readable parquet file/,
    )
    expect(existsSync(join(source, 'out'))).toBe(false)
  })
})

/** One block of literals, which every decoder must take. */
function literalLz4(bytes: Uint8Array): Uint8Array {
  const head: number[] = bytes.length < 15 ? [bytes.length << 4] : [0xf0]
  for (let rest = bytes.length - 15; rest >= 0; rest -= 255) head.push(Math.min(rest, 255))
  return Uint8Array.from([...head, ...bytes])
}

/** One raw block: magic, a header with a size of four bytes, the block. */
function literalZstd(bytes: Uint8Array): Uint8Array {
  const size = new Uint8Array(Uint32Array.of(bytes.length).buffer)
  const block = (bytes.length << 3) | 1
  return Uint8Array.from([
    0x28,
    0xb5,
    0x2f,
    0xfd,
    0xa0,
    ...size,
    block & 255,
    (block >> 8) & 255,
    block >> 16,
    ...bytes,
  ])
}
