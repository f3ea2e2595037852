import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { copyFile, mkdir, readdir, readFile, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { thisOwner } from '../../src/data/owner.js'
import { DataError, FileError } from '../../src/errors.js'
import { parseShares } from '../../src/import/index.js'
import { assignSplit, ImageGroups } from '../../src/import/split.js'
import { goneOwner } from '../data/owners.js'
import { temporaryFolder } from '../fakes/world.js'
import { notes, reasons, runImport, sourceOf } from './support.js'

const line = (fields: object) =>
  `${JSON.stringify({ image: 'a.png', question: 'Normal?', answer: 'Yes', ...fields })}\n`

describe('jsonl', () => {
  it('keeps texts, unknown fields and splits as they are', async () => {
    const source = await sourceOf({
      'own.jsonl':
        line({ id: 'a', split: 'val', question: ' Two\nlines? ', patient: 7, meta: { unit: 'x' } }) +
        line({ images: ['a.png', 'b.png'], answer: 'left', answer_type: 'closed', language: 'de', task: 'report' }) +
        line({ id: 3, image: [{ path: 'b.png', sha256: '0', width: 1, height: 1 }] }),
      'a.png': 1,
      'b.png': 1,
    })
    const done = await runImport({ kind: 'jsonl', source })
    const [first, second, third] = done.samples
    expect(first).toMatchObject({ id: 'a', split: 'validation', question: ' Two\nlines? ', answerType: 'closed' })
    expect(first.meta).toMatchObject({ patient: 7, unit: 'x', importedFrom: { file: 'own.jsonl', line: 1 } })
    expect(second).toMatchObject({ id: 'own-1', split: 'all', language: 'de', task: 'report', answerType: 'open' })
    expect(third.id).toBe('3')
    // Two names, the same bytes: one file.
    expect(second.images[1]).toEqual({ ...second.images[0], name: 'b.png' })
    expect(await readdir(join(done.out, 'images'))).toEqual([`${second.images[0].sha256}.png`])
    expect(done.report.images).toEqual({ stored: 1, sameContent: 1, missing: 0, recordsWithout: 0 })
  })

  it('knows JSON Lines under the name of JSON', async () => {
    const source = await sourceOf({ 'own.json': line({ id: 'a' }) + line({ id: 'b' }), 'a.png': 1 })
    expect((await runImport({ kind: 'jsonl', source })).samples.map(({ id }) => id)).toEqual(['a', 'b'])
  })

  it('names the field that was probably meant', async () => {
    const csv = await sourceOf({ 'own.csv': 'id,question,anser,image\na,Normal?,Yes,a.png\n', 'a.png': 1 })
    await expect(runImport({ kind: 'csv', source: csv })).rejects.toThrow(
      /have id, question, anser, image; did you mean answer by "anser"\?$/,
    )
    const own = line({ id: 'a' }) + line({ id: 'b', answer: undefined, anser: 'Yes' })
    const { out } = await runImport({ kind: 'jsonl', source: await sourceOf({ 'own.jsonl': own, 'a.png': 1 }) })
    const { problems } = JSON.parse(await readFile(join(out, 'import.report.json'), 'utf8'))
    expect(problems).toMatchObject([{ message: 'answer is missing; there is "anser": did you mean answer?' }])
  })

  it('lists what it leaves out, and why', async () => {
    const source = await sourceOf({
      'own.jsonl': [
        ...[
          line({ id: 'a' }),
          line({ id: 'a' }),
          '[1]\n',
          line({ id: 'b', answer: ['x'] }),
          line({ id: 'c', answer: ' ' }),
        ],
        ...[line({ id: 'd', answer_type: 'maybe' }), line({ id: 'e', image: 4 }), line({ id: 'f', image: undefined })],
        ...[line({ id: 'g', question: null }), line({ id: 'h', task: 'x' }), line({ id: 'i', meta: [] }), 'null\n'],
        ...[
          line({ id: 'j', image: 'broken.png' }),
          line({ id: 'k', image: 'text.png' }),
          line({ id: 'l', image: 'none.png' }),
          line({ id: 'm', images: ['broken.png', 'again.png'] }),
        ],
      ].join(''),
      'a.png': 1,
      'broken.png': 2,
      'text.png': 'not an image',
    })
    await truncate(join(source, 'broken.png'), 60)
    await copyFile(join(source, 'broken.png'), join(source, 'again.png'))
    const done = await runImport({ kind: 'jsonl', source })
    expect(reasons(done)).toEqual([
      ['a', 'duplicate_id'],
      [null, 'not_an_object'],
      ['b', 'wrong_type'],
      ['c', 'empty_text'],
      ['d', 'wrong_type'],
      ['e', 'wrong_type'],
      ['f', 'no_image'],
      ['g', 'missing_field'],
      ['h', 'wrong_type'],
      ['i', 'wrong_type'],
      [null, 'not_an_object'],
      ['j', 'damaged_image'],
      ['k', 'damaged_image'],
      ['l', 'missing_image'],
      ['m', 'damaged_image'],
    ])
    expect(done.report).toMatchObject({ read: 16, samples: 1, leftOut: { wrong_type: 5, damaged_image: 3 } })
    expect((await readdir(join(done.out, 'images'))).length).toBe(1)
    const kept = await runImport({ kind: 'jsonl', source, allowMissingImages: true })
    expect(kept.samples.map(({ id, images }) => [id, images.length])).toEqual([
      ['a', 1],
      ['f', 0],
      ['l', 0],
    ])
  })

  it.each(['../../etc/passwd', '/etc/passwd', 'C:\\x.png', 'x\\..\\..\\y.png', 'x/../../y.png', '', 'a\0.png'])(
    'reads nothing outside the image root: %j',
    async (image) => {
      const source = await sourceOf({ 'in/own.jsonl': line({ id: 'a', image: [image] }), 'y.png': 2, 'in/x/b.png': 1 })
      const done = await runImport({ kind: 'jsonl', source: join(source, 'in'), allowMissingImages: true })
      expect(reasons(done)).toEqual([['a', image === '' ? 'wrong_type' : 'unsafe_path']])
      expect(existsSync(join(done.out, 'images'))).toBe(false)
    },
  )

  it('follows links inside the image root only, and waits for no pipe', async () => {
    const source = await sourceOf({
      'in/own.jsonl':
        line({ id: 'a', image: 'inside.png' }) +
        line({ id: 'b', image: 'outside.png' }) +
        line({ id: 'c', image: 'folder/y.png' }) +
        line({ id: 'd', image: 'pipe.png' }),
      'in/a.png': 1,
      'y.png': 2,
    })
    await symlink('a.png', join(source, 'in', 'inside.png'))
    await symlink('../y.png', join(source, 'in', 'outside.png'))
    await symlink('..', join(source, 'in', 'folder'))
    execFileSync('mkfifo', [join(source, 'in', 'pipe.png')])
    const done = await runImport({ kind: 'jsonl', source: join(source, 'in') })
    expect(reasons(done)).toEqual([
      ['b', 'unsafe_path'],
      ['c', 'unsafe_path'],
      ['d', 'unsupported_image'],
    ])
    expect(done.samples.map(({ id }) => id)).toEqual(['a'])
    const link = join(source, 'link')
    await symlink('in', link)
    expect((await runImport({ kind: 'jsonl', source: link })).samples.length).toBe(1)
  })

  it.each([
    [
      'own.json',
      '[{"question": "q", "answer": "a"},\n{"question": "q", "ans',
      /own\.json:2: not valid JSON, or cut off/,
    ],
    ['own.json', '[\n{"question": "q",\n"answer": nan}]', /own\.json:2: not valid JSON/],
    ['own.json', '[{"question": "q", "answer": "a"}]\n]', /own\.json:\d: not valid JSON/],
    ['own.json', '"text"', /own\.json:1: the file holds neither/],
    ['own.jsonl', '{"question": "q", "answer": "a"}\n{"question": "q"', /own\.jsonl:2: not a JSON object/],
    ['own.json', Buffer.from('5b7b2261223a22ff227d5d', 'hex'), /not UTF-8/],
  ])('refuses a damaged %s as a whole: %j', async (name, content, message) => {
    const source = await sourceOf({ [name]: content })
    const out = join(source, 'out')
    await expect(runImport({ kind: 'jsonl', source, out })).rejects.toThrow(message)
    await expect(runImport({ kind: 'jsonl', source, out })).rejects.toThrow(DataError)
    expect(await readdir(source)).toEqual([name])
  })
})

describe('csv', () => {
  it('reads byte-order marks, quotes, lines in cells and several images', async () => {
    const text =
      '\ufeffid;images;question;answer;answer_type;note\r\n' +
      'a;a.png|b.png;"Is it ""normal""?\r\nSay; yes or no";yes;CLOSED;"x, y"\r\n\r\n' +
      'b;a.png;Where?;left;OPEN;\r\n'
    const source = await sourceOf({ 'own.csv': text, 'a.png': 1, 'b.png': 2 })
    const done = await runImport({ kind: 'csv', source })
    expect(done.samples[0]).toMatchObject({ question: 'Is it "normal"?\r\nSay; yes or no', meta: { note: 'x, y' } })
    expect(done.samples[0].images.length).toBe(2)
    expect(done.samples[1].meta.importedFrom).toMatchObject({ line: 5, index: 1 })
    expect(notes(done)).toEqual({})
  })

  it.each([
    ['image,question,answer\na.png,"open,yes\na.png,q,no\n', /own\.csv:2: not valid CSV.*[Qq]uote/],
    ['image,question,answer,answer\n', /header has "answer" twice/],
    ['image,question,reply\na.png,q,no\n', /nothing that looks like csv/],
  ])('refuses %j', async (text, message) => {
    const source = await sourceOf({ 'own.csv': text, 'a.png': 1 })
    await expect(runImport({ kind: 'csv', source })).rejects.toThrow(message)
  })

  it('refuses a table whose "split" is something else', async () => {
    const rows = Array.from({ length: 70 }, (_, row) => `a.png,q,no,patient ${row}`)
    const source = await sourceOf({ 'own.csv': `image,question,answer,split\n${rows.join('\n')}`, 'a.png': 1 })
    await expect(runImport({ kind: 'csv', source })).rejects.toThrow(/more than 64 different splits/)
  })
})

describe('the folder', () => {
  it('is replaced only on request, and only where it is an earlier import', async () => {
    const source = await sourceOf({ 'own.jsonl': line({ id: 'a' }), 'a.png': 1, README: 'Take it.', LICENSE: 'MIT' })
    await symlink('/etc/passwd', join(source, 'LICENSE.link'))
    const first = await runImport({ kind: 'jsonl', source })
    const { out } = first
    expect((await readdir(out)).sort()).toEqual([
      'LICENSE.md',
      'images',
      'import.report.json',
      'samples.jsonl',
      'source',
    ])
    expect((await readdir(join(out, 'source'))).sort()).toEqual(['LICENSE', 'README'])
    await expect(runImport({ kind: 'jsonl', source, out })).rejects.toThrow(FileError)
    await writeFile(join(source, 'own.jsonl'), line({ id: 'b' }))
    const leftover = join(out, '..', `.tmp-out-${goneOwner()}.0b2e4b2a`)
    const foreign = join(out, '..', `.tmp-out-${thisOwner()}.0b2e4b2a`)
    await mkdir(leftover)
    await mkdir(foreign)
    expect((await runImport({ kind: 'jsonl', source, out, overwrite: true })).samples[0].id).toBe('b')
    expect([existsSync(leftover), existsSync(foreign)]).toEqual([false, true])
    const other = await temporaryFolder()
    await writeFile(join(other, 'mine'), '')
    await expect(runImport({ kind: 'jsonl', source, out: other, overwrite: true })).rejects.toThrow(/no earlier import/)
    await writeFile(join(source, 'import.report.json'), '{}')
    await expect(runImport({ kind: 'jsonl', source, out: source, overwrite: true })).rejects.toThrow(/is read from it/)
  })

  it.each([
    ['zip', 'PK\x03\x04rest'],
    ['tgz', Buffer.from([0x1f, 0x8b, 8, 0])],
    ['tar', `${'\0'.repeat(257)}ustar`],
  ])('refuses a %s and says to unpack it', async (extension, content) => {
    const source = await sourceOf({ [`data.${extension}`]: content })
    const failure = await runImport({ kind: 'jsonl', source: join(source, `data.${extension}`) }).catch(
      (error) => error,
    )
    expect(failure).toBeInstanceOf(DataError)
    expect(failure.hint).toMatch(/Unpack it first/)
  })

  it('passes over folders and pipes that are named like files', async () => {
    const source = await sourceOf({ 'own.jsonl': line({ id: 'a' }), 'x.jsonl/y': '', 'a.png': 1 })
    execFileSync('mkfifo', [join(source, 'z.jsonl')])
    await symlink('none', join(source, 'dead.jsonl'))
    expect((await runImport({ kind: 'jsonl', source })).report.files.map(({ name }) => name)).toEqual(['own.jsonl'])
  })

  it('points at an archive that lies where images are missing', async () => {
    const source = await sourceOf({ 'own.jsonl': line({ id: 'a' }), 'imgs.zip': 'PK' })
    const { report } = await runImport({ kind: 'jsonl', source })
    expect(report.problems[0].message).toMatch(/imgs\.zip lies there: unpack it first/)
  })

  it('says what it expected where it recognises nothing', async () => {
    const failure = await runImport({ kind: 'slake', source: await sourceOf({ 'x.json': [{ a: 1 }] }) }).catch((e) => e)
    expect(failure.hint).toMatch(/splits: train\.json.*\n.*per-image/)
    await expect(runImport({ kind: 'slake', source: '/none' })).rejects.toThrow(FileError)
    await expect(runImport({ kind: 'x', source: '/' })).rejects.toThrow(/no kind 'x'/)
    await expect(runImport({ kind: 'slake', source: '/tmp', layout: 'x' })).rejects.toThrow(/no layout 'x'/)
  })

  it('writes nothing when it is stopped', async () => {
    const source = await sourceOf({ 'own.jsonl': line({}).repeat(20) })
    const controller = new AbortController()
    const reason = new Error('enough')
    const onProgress = (read: number) => read === 5 && controller.abort(reason)
    const out = join(source, 'out')
    const stopped = runImport({ kind: 'jsonl', source, out, signal: controller.signal, onProgress })
    await expect(stopped).rejects.toMatchObject({ name: 'AbortedError', cause: reason })
    expect(await readdir(source)).toEqual(['own.jsonl'])
  })
})

describe('splitting by image', () => {
  it('keeps records together that share an image through others', () => {
    const groups = new ImageGroups()
    for (const images of [['c', 'b'], ['d'], ['e', 'f'], ['b', 'a'], ['f', 'c']]) groups.join(images)
    expect(['a', 'b', 'c', 'd', 'e', 'f'].map((image) => groups.root(image))).toEqual(['a', 'a', 'a', 'd', 'a', 'a'])
  })

  it('gives parts their shares, whatever else there is', () => {
    const plan = { parts: parseShares('80/10/10'), seed: 1 }
    const counts: Record<string, number> = {}
    for (let image = 0; image < 5000; image += 1) {
      const split = assignSplit(plan, `image ${image}`)
      counts[split] = (counts[split] ?? 0) + 1
    }
    // Three standard deviations of a binomial of 5000 at 0.8 and 0.1.
    expect(Math.abs(counts.train - 4000)).toBeLessThan(85)
    expect(Math.abs(counts.test - 500)).toBeLessThan(64)
    expect(
      assignSplit(
        {
          ...plan,
          parts: [
            ['train', 0],
            ['test', 3],
          ],
        },
        'x',
      ),
    ).toBe('test')
  })

  it.each(['80', '1/2/3/4', 'a/b', '0/0', '-1/2', '80/'])('refuses the shares %j', (text) => {
    expect(() => parseShares(text)).toThrow(/80\/10\/10/)
  })
})

describe('the licence note', () => {
  it('lies beside the data', async () => {
    const source = await sourceOf({ 'own.jsonl': line({}), 'a.png': 1 })
    const { out } = await runImport({ kind: 'jsonl', source })
    expect(await readFile(join(out, 'LICENSE.md'), 'utf8')).toMatch(/Terms of this data \(jsonl\)/)
  })
})
