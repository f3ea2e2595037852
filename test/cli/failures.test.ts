/** What lies in users' folders and is no defect of ours: a typed error that names the file, for every library we read with. */
import { cp, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { beforeAll, describe, expect, it, vi } from 'vitest'
import { stringify } from 'yaml'
import { run } from '../../src/cli/run.js'
import * as importing from '../../src/import/index.js'
import { fakeNativePath, folderWith, tinyTokenizer, type World, writePairs, writeWorld } from '../fakes/world.js'

let world: World

vi.mock(import('../../src/import/index.js'), { spy: true })

beforeAll(async () => {
  process.env.FIRE_NATIVE_PATH = fakeNativePath
  world = await writeWorld(2)
  await writeFile(
    join(world.root, 'run.yaml'),
    stringify({ model: 'model', data: { train: 'pairs.jsonl' }, output: 'o' }),
  )
})

/** Runs the command in this process. */
async function failing(argv: string[]): Promise<{ code: number; stderr: string }> {
  let stderr = ''
  const code = await run(argv, {
    stdout: () => {},
    stderr: (text) => {
      stderr += text
    },
  })
  return { code, stderr }
}

async function expectTyped(argv: string[], message: RegExp, code = 1): Promise<void> {
  const outcome = await failing(argv)
  expect(outcome.stderr).toMatch(message)
  expect(outcome.stderr).toMatch(/^error ERR_FIRE_/m)
  expect(outcome.stderr).not.toMatch(/ERR_FIRE_INTERNAL|defect/)
  expect(outcome.code).toBe(code)
}

describe('a table or list that is imported', () => {
  it.each([
    [
      'a quote inside a cell',
      'csv',
      'a.csv',
      'question,answer,image\na 5" mass?,yes,x.png\n',
      // Read as the text that it is; the image is not there.
      /Not one of 1 record/,
    ],
    ['a quote that never closes', 'csv', 'a.csv', 'question,answer,image\n"a?,yes,x.png\n', /a\.csv:2: not valid CSV/],
    ['JSON cut off', 'jsonl', 'a.json', '[{"question":"a?","answer":', /a\.json:1: not valid JSON, or cut off/],
    [
      'NaN, which pandas writes',
      'jsonl',
      'a.json',
      // Read as nothing; what is missing is the answer.
      '[{"question":"a?","answer":NaN,"image":"x.png"}]',
      /Not one of 1 record/,
    ],
    ['NaN in JSON Lines', 'jsonl', 'a.jsonl', '{"question":"a?",\n"score":NaN}\n', /a\.jsonl:1: not a JSON object/],
    ['a file that is no parquet', 'trl', 'a.parquet', 'PAR1 and nothing', /a\.parquet:1: not a readable parquet file/],
  ])('%s', async (_, kind, name, text, message) => {
    const folder = await folderWith({ [name]: text })
    await expectTyped(['import', kind, folder, '--out', join(folder, 'out')], message)
  })
})

describe('a model folder', () => {
  async function generating(files: Record<string, string>): Promise<string[]> {
    const model = await folderWith({})
    await cp(world.model, model, { recursive: true })
    for (const [name, text] of Object.entries(files)) await writeFile(join(model, name), text)
    return ['generate', '--model', model, '--prompt', 'Where?']
  }
  const broken = (change: (definition: { pre_tokenizer: unknown; model: unknown }) => void): string => {
    const { definition } = structuredClone(tinyTokenizer(['left'])) as unknown as { definition: never }
    change(definition)
    return JSON.stringify(definition)
  }

  it.each([
    [
      'a template that raises',
      'chat_template.jinja',
      "{{ raise_exception('a system turn is needed') }}",
      /a system turn is needed/,
    ],
    ['a template that is no Jinja', 'chat_template.jinja', '{% for %}', /chat_template\.jinja cannot be read/],
    [
      'a template with an unknown filter',
      'chat_template.jinja',
      '{{ messages | shuffle }}',
      /chat_template\.jinja cannot be used for a question: Unknown ArrayValue filter: shuffle/,
    ],
    ['a tokenizer that is no JSON', 'tokenizer.json', '{"version": ', /tokenizer\.json is not JSON/],
    ['a tokenizer that is a list', 'tokenizer.json', '[]', /tokenizer\.json holds no JSON object/],
    [
      'a tokenizer without a model',
      'tokenizer.json',
      broken((all) => delete all.model),
      /tokenizer\.json defines no tokenizer/,
    ],
    [
      'a tokenizer with a bad regular expression',
      'tokenizer.json',
      broken((all) => {
        all.pre_tokenizer = { type: 'Split', pattern: { Regex: '(unclosed' }, behavior: 'Isolated', invert: false }
      }),
      /tokenizer\.json defines no tokenizer.*regular expression/i,
    ],
  ])('with %s', async (_, name, text, message) => {
    const args = await generating({ [name]: text })
    await expectTyped(args, message)
    await expectTyped(args, new RegExp(name))
  })
})

describe('a configuration', () => {
  it.each([
    ['broken YAML', 'model: [', /a\.yaml/],
    ['an alias without its anchor', 'model: *base', /a\.yaml.*base/],
    ['a list', '- model', /a\.yaml/],
  ])('of %s', async (_, text, message) => {
    const folder = await folderWith({ 'a.yaml': text })
    await expectTyped(['train', join(folder, 'a.yaml')], message, 2)
    await expectTyped(['run', join(folder, 'a.yaml')], message, 2)
  })

  it('that is not there', async () => {
    await expectTyped(['train', '/none.yaml'], /\/none\.yaml failed: no such file or folder/)
  })
})

describe('an image of a record', () => {
  const garbage = new Uint8Array(200).fill(7)
  const dicom = (length: number): Uint8Array => {
    const bytes = new Uint8Array(length).fill(0xff)
    bytes.set(Buffer.from('DICM'), 128)
    return bytes
  }
  const png = Buffer.from('89504e470d0a1a0a0000000d49484452', 'hex')

  it.each([
    ['garbage', garbage, /not a PNG, JPEG, WebP or DICOM file/],
    ['a PNG cut off', png, /cannot be read as an image/],
    ['a DICOM file cut off', dicom(160), /cannot be read as an image/],
    ['a DICOM file of rubbish', dicom(4000), /cannot be read as an image/],
  ])('%s', async (_, bytes, message) => {
    const folder = await folderWith({ 'x.png': bytes })
    const args = ['generate', '--model', world.model, '--prompt', 'Where?', '--image', join(folder, 'x.png')]
    await expectTyped(args, message)
    await expectTyped(args, /x\.png/)
  })
})

describe('a mask', () => {
  const nifti = (): Uint8Array => {
    const bytes = Buffer.alloc(360)
    bytes.writeInt32LE(348, 0)
    bytes.write('n+1', 344)
    return bytes
  }
  const gzip = Buffer.from('1f8b0800000000000003', 'hex')

  it.each([
    ['NIfTI header of zeros', 'm.nii', nifti()],
    ['gzip cut off', 'm.nii.gz', Buffer.concat([gzip, Buffer.alloc(20, 9)])],
    ['picture of rubbish', 'm.png', Buffer.alloc(300, 9)],
    ['JSON that is none', 'm.json', Buffer.from('{"size": [')],
    ['RLE of another size', 'm.json', Buffer.from('{"size": [32, 32], "counts": [1, 2]}')],
  ])('%s', async (_, name, bytes) => {
    const folder = await folderWith({ [name]: bytes })
    const [first] = world.records
    await writePairs(join(folder, 'pairs.jsonl'), [{ ...first, provenance: { masks: [name] } }])
    for (const { path } of first.images) await cp(join(world.root, path), join(folder, path))
    await expectTyped(
      ['corrupt', '--pairs', join(folder, 'pairs.jsonl'), '--out', join(folder, 'out')],
      new RegExp(name),
    )
  })
})

describe('a folder or nothing where a file should be', () => {
  const folder = (): Promise<string> => folderWith({ 'a.csv': 'question,answer\na?,yes\n' })

  it.each<[string, (path: string) => string[]]>([
    ['inspect', (path) => ['inspect', path]],
    ['pairs', (path) => ['pairs', '--samples', path, '--responses', path, '--out', join(path, 'p.jsonl')]],
    ['sample', (path) => ['sample', '--samples', path, '--model', world.model, '--out', join(path, 'r.jsonl')]],
    ['corrupt', (path) => ['corrupt', '--pairs', path, '--out', join(path, 'c')]],
    ['generate', (path) => ['generate', '--model', world.model, '--in', path]],
    ['merge', (path) => ['merge', path, path, '--out', join(path, 'm')]],
    ['run', (path) => ['run', path]],
    ['train', (path) => ['train', path]],
  ])('%s', async (_, argv) => {
    const path = await folder()
    const name = basename(path)
    await expectTyped(argv(path), RegExp(name))
    await expectTyped(argv(join(path, 'none')), RegExp(`${name}.none`))
  })

  it('a device that never ends', async () => {
    await expectTyped(['inspect', '/dev/zero'], /\/dev\/zero is a pipe or device/)
  })

  it('on the way to what is written', async () => {
    const path = await folder()
    const file = join(path, 'a.csv')
    await expectTyped(['train', join(world.root, 'run.yaml'), '--set', `output=${file}`], /a\.csv/)
    await expectTyped(['import', 'csv', path, '--out', join(file, 'x')], /a\.csv.x/)
  })
})

describe('a defect', () => {
  it('alone is called one', async () => {
    vi.spyOn(importing, 'importData').mockRejectedValue(new TypeError('x is undefined'))
    const { code, stderr } = await failing(['import', 'csv', 'x', '--out', 'y'])
    expect(code).toBe(1)
    expect(stderr).toMatch(/^error ERR_FIRE_INTERNAL: x is undefined\nhint: This is a defect worth reporting/)
  })
})
