/** A tiny model folder, images and pairs on disk, for tests of everything above the engine. */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { copyFile, cp, mkdir, mkdtemp, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import type { ImageRef, Pair } from '../../src/data/records.js'
import { loadFrom, nativeCandidates } from '../../src/engine/load.js'
import type { EngineSpec, NativeEngine, NativeModule } from '../../src/engine/native.js'

export const fakeNativePath = fileURLToPath(new URL('./native.cjs', import.meta.url))

/** Whether the addon was built here: without it, tests of the real engine are skipped. */
export const built = nativeCandidates().some((path) => existsSync(path))

/** The in-memory engine, through the real loader. */
export function fakeNative(): NativeModule & { engines: FakeEngine[] } {
  createRequire(import.meta.url)(fakeNativePath).engines.length = 0
  return loadFrom([fakeNativePath]).native as NativeModule & { engines: FakeEngine[] }
}

export interface FakeEngine {
  spec: EngineSpec
  images: Set<string>
  encoded: number
  /** Ids of the pairs that memory was taken for. */
  reserved: string[][]
  /** The same for evaluations that use another objective than the run's. */
  reservedToEvaluate?: { objective: string; ids: string[][] }
  /** Tokens of the images that memory was taken for. */
  reservedImages: number[]
  calls: number[]
  prepareImages: NativeEngine['prepareImages']
  encodeImages: NativeEngine['encodeImages']
  attention: NativeEngine['attention']
  logprobs: NativeEngine['logprobs']
  generate: NativeEngine['generate']
  closed: boolean
  state: { parameters: number[]; step: number }
}

export function temporaryFolder(): Promise<string> {
  return mkdtemp(join(process.env.FIRE_TEST_FOLDER ?? tmpdir(), 'world-'))
}

/** A folder of its own with these files, by path. */
export async function folderWith(files: Record<string, string | Uint8Array>): Promise<string> {
  const root = await temporaryFolder()
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true })
    await writeFile(join(root, path), content)
  }
  return root
}

const qwenSplit =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

const specials = ['<|endoftext|>', '<|im_start|>', '<|im_end|>', '<|vision_start|>', '<|vision_end|>', '<|image_pad|>']

export const chatTemplate =
  "{% for message in messages %}<|im_start|>{{ message.role }}\n{% if message.content is string %}{{ message.content }}{% else %}{% for item in message.content %}{% if item.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ item.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

/**
 * A byte-level BPE with the 256 bytes, merges that spell each given word, and Qwen's split and normaliser. Special
 * tokens follow the vocabulary unless their ids are given.
 */
export function tinyTokenizer(
  words: string[],
  ids: Record<string, number> = {},
): { definition: object; config: object } {
  const vocab: Record<string, number> = {}
  const merges: string[] = []
  const add = (token: string): void => {
    vocab[token] ??= Object.keys(vocab).length
  }
  for (let byte = 0; byte < 256; byte += 1) add(byteCharacter(byte))
  for (const word of words) {
    const pieces = [...Buffer.from(word, 'utf8')].map(byteCharacter)
    let left = pieces[0]
    for (const right of pieces.slice(1)) {
      if (!merges.includes(`${left} ${right}`)) merges.push(`${left} ${right}`)
      left += right
      add(left)
    }
  }
  const base = Object.keys(vocab).length
  const added = specials.map((content, index) => ({
    id: ids[content] ?? base + index,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  }))
  const definition = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: added,
    normalizer: { type: 'NFC' },
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: qwenSplit }, behavior: 'Isolated', invert: false },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false },
      ],
    },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false },
    model: { type: 'BPE', dropout: null, unk_token: null, vocab, merges, fuse_unk: false, byte_fallback: false },
  }
  return {
    definition,
    config: { eos_token: '<|im_end|>', chat_template: chatTemplate, tokenizer_class: 'Qwen2Tokenizer' },
  }
}

function byteCharacter(byte: number): string {
  const printable = (value: number): boolean =>
    (value >= 33 && value <= 126) || (value >= 161 && value <= 172) || value >= 174
  if (printable(byte)) return String.fromCharCode(byte)
  let rank = 0
  for (let other = 0; other < byte; other += 1) if (!printable(other)) rank += 1
  return String.fromCharCode(256 + rank)
}

const words = [' left', ' right', ' lung', ' the', 'The', ' nodule', ' effusion', ' no', ' is', ' in', ' a']

export async function writeModel(folder: string): Promise<void> {
  const { definition, config } = tinyTokenizer(words)
  const vocab = Object.keys((definition as { model: { vocab: object } }).model.vocab).length
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(definition))
  await writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify(config))
  const model = {
    vocab_size: vocab + specials.length,
    image_token_id: vocab + specials.indexOf('<|image_pad|>'),
    eos_token_id: vocab + specials.indexOf('<|im_end|>'),
  }
  await writeFile(join(folder, 'config.json'), JSON.stringify(model))
}

/** The reference checkpoint of test/golden with a tokenizer of its own: a real model for the real engine. */
export async function writeGoldenModel(folder: string): Promise<void> {
  const golden = fileURLToPath(new URL('../golden/qwen3_vl/', import.meta.url))
  const { definition, config } = tinyTokenizer(words, {
    '<|image_pad|>': 500,
    '<|vision_start|>': 502,
    '<|vision_end|>': 503,
    '<|im_end|>': 504,
    '<|endoftext|>': 505,
    '<|im_start|>': 506,
  })
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(definition))
  await writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify(config))
  for (const name of ['config.json', 'generation_config.json', 'preprocessor_config.json', 'model.safetensors']) {
    await copyFile(join(golden, name), join(folder, name))
  }
}

/** The same of HuatuoGPT-Vision's kind: no template, no token for an image, `<|endoftext|>` behind an answer. */
export async function writeHuatuoModel(folder: string): Promise<void> {
  await cp(fileURLToPath(new URL('../golden/llava_qwen2/', import.meta.url)), folder, {
    recursive: true,
    filter: (path) => !/golden|adapter|name_map/.test(basename(path)) || basename(path) === 'llava_qwen2',
  })
  const { definition, config } = tinyTokenizer(words, { '<|endoftext|>': 504 })
  const { added_tokens: added } = definition as { added_tokens: { content: string }[] }
  const kept = added.filter(({ content }) => content === '<|endoftext|>')
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify({ ...definition, added_tokens: kept }))
  const settings = { ...config, chat_template: undefined, eos_token: '<|endoftext|>' }
  await writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify(settings))
}

/** A flat grey PNG; the level makes its content, and so its hash, its own. */
export async function writeImage(root: string, path: string, level: number): Promise<ImageRef> {
  const [width, height] = [32, 32]
  const bytes = await sharp({ create: { width, height, channels: 3, background: { r: level, g: level, b: level } } })
    .png()
    .toBuffer()
  await writeFile(join(root, path), bytes)
  return { path, sha256: createHash('sha256').update(bytes).digest('hex'), width, height }
}

export function makePair(id: string, fields: Partial<Pair> = {}): Pair {
  return {
    id,
    sampleId: id,
    images: [],
    prompt: 'Where is the nodule?',
    chosen: 'The nodule is in the left lung.',
    rejected: 'The nodule is in the right lung.',
    origin: 'counterfactual',
    edits: [{ chosen: [21, 25], rejected: [21, 26], category: 'side' }],
    provenance: {},
    ...fields,
  }
}

export interface World {
  root: string
  model: string
  pairs: string
  records: Pair[]
}

/** `count` pairs over three clean images and their twins, every fifth pair without a twin. */
export async function writeWorld(count: number, makeModel = writeModel): Promise<World> {
  const root = await temporaryFolder()
  const model = join(root, 'model')
  await makeModel(model)
  const clean = await Promise.all([0, 1, 2].map((index) => writeImage(root, `clean${index}.png`, 10 + index)))
  const noisy = await Promise.all([0, 1, 2].map((index) => writeImage(root, `noisy${index}.png`, 100 + index)))
  const findings = ['nodule', 'effusion', 'opacity', 'fracture']
  const records = Array.from({ length: count }, (_, index) => {
    const finding = findings[index % findings.length]
    const start = `The ${finding} is in the `.length
    return makePair(`pair-${index}`, {
      images: [clean[index % 3]],
      prompt: `Where is the ${finding}? (${index})`,
      chosen: `The ${finding} is in the left lung.`,
      rejected: `The ${finding} is in the right lung.`,
      edits: [{ chosen: [start, start + 4], rejected: [start, start + 5], category: 'side' }],
      ...(index % 5 === 4
        ? {}
        : { corrupted: { images: [noisy[index % 3]], method: 'gaussian', sigma: 45, seed: index, masks: [] } }),
    })
  })
  const pairs = join(root, 'pairs.jsonl')
  await writePairs(pairs, records)
  return { root, model, pairs, records }
}

export async function writePairs(path: string, records: unknown[]): Promise<void> {
  await writeFile(path, records.map((record) => `${JSON.stringify(record)}\n`).join(''))
}
