/** The definition of a model folder's tokenizer: tokenizer.json, or made from the older files of Qwen2's tokenizer. */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { asFileError, guarded, ModelError } from '../errors.js'

type Json = Record<string, unknown>

/** What `@huggingface/tokenizers` takes: the content of tokenizer.json and of tokenizer_config.json. */
export interface Definition {
  /** The file that defines the tokenizer. */
  path: string
  definition: Json
  config: Json
}

/**
 * Reads `tokenizer.json`. A folder without it, as older checkpoints of the Qwen2 family are, must have `vocab.json`,
 * `merges.txt` and a tokenizer_config.json that names Qwen2Tokenizer: these say the same.
 * @throws {ModelError} when there is neither.
 */
export async function readDefinition(folder: string): Promise<Definition> {
  const config = await readJson(join(folder, 'tokenizer_config.json'))
  const path = join(folder, 'tokenizer.json')
  if (existsSync(path)) return { path, definition: await readJson(path), config }
  const kind = String(config.tokenizer_class ?? '').replace(/Fast$/, '')
  const vocab = join(folder, 'vocab.json')
  if (!existsSync(vocab) || kind !== 'Qwen2Tokenizer') {
    throw new ModelError(`${folder} has no tokenizer.json`, {
      hint: 'Save it with transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder).',
    })
  }
  return { path: vocab, definition: await readQwen2(folder, config), config }
}

/** How Qwen2 cuts a text before its merges; tokenizer.json would say so itself. */
const qwen2Words =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

async function readQwen2(folder: string, config: Json): Promise<Json> {
  const path = join(folder, 'merges.txt')
  const text = await readFile(path, 'utf8').catch(asFileError('Reading', path))
  const merges = text.split('\n').filter((line) => line !== '' && !line.startsWith('#version'))
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false }
  return {
    version: '1.0',
    added_tokens: await readAddedTokens(folder, config),
    normalizer: { type: 'NFC' },
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: qwen2Words }, behavior: 'Isolated', invert: false },
        byteLevel,
      ],
    },
    post_processor: byteLevel,
    decoder: byteLevel,
    model: {
      type: 'BPE',
      vocab: await readJson(join(folder, 'vocab.json')),
      merges: merges.map((line) => line.split(' ')),
    },
  }
}

/** Those that tokenizer_config.json lists with their ids, else those of added_tokens.json, taken for special. */
async function readAddedTokens(folder: string, config: Json): Promise<Json[]> {
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true }
  const listed = config.added_tokens_decoder as Record<string, Json> | undefined
  if (listed) return Object.entries(listed).map(([id, token]) => ({ ...flags, ...token, id: Number(id) }))
  const path = join(folder, 'added_tokens.json')
  if (!existsSync(path)) return []
  return Object.entries(await readJson(path)).map(([content, id]) => ({ ...flags, id, content }))
}

/** Reads an object from a JSON file of a model folder. */
export async function readJson(path: string): Promise<Json> {
  const text = await readFile(path, 'utf8').catch(asFileError('Reading', path))
  const value: unknown = guarded(
    () => JSON.parse(text),
    (reason, cause) => new ModelError(`${path} is not JSON: ${reason}`, { detail: { path }, hint: copyAgain, cause }),
  )
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json
  throw new ModelError(`${path} holds no JSON object`, { detail: { path }, hint: copyAgain })
}

const copyAgain = 'Download the file again, or compare it with the published one.'
