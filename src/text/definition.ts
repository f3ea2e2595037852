/** The definition of a model folder's tokenizer: tokenizer.json, or made from the older files of Qwen2's tokenizer. */
import { join } from 'node:path'
import { ModelError } from '../errors.js'
import { exists, type Json, readJson, readModelFile } from './files.js'

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
  if (exists(path)) return { path, definition: await readJson(path), config }
  const kind = String(config.tokenizer_class ?? '').replace(/Fast$/, '')
  const vocab = join(folder, 'vocab.json')
  if (!exists(vocab) || kind !== 'Qwen2Tokenizer') {
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
  const text = await readModelFile(join(folder, 'merges.txt'))
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
  if (!exists(path)) return []
  return Object.entries(await readJson(path)).map(([content, id]) => ({ ...flags, id, content }))
}
