/** `fire-train/text`: tokenizers and chat formats of model folders, and masks of the tokens that spell a phrase. */

export { Chat, type ChatModel, type ChatOptions } from './chat.js'
export { type ChatFormat, HuatuoFormat, JinjaFormat, type Message, type TemplateSource } from './formats.js'
export type { Range } from './normalize.js'
export { phraseMask } from './phrases.js'
export { type ByteTable, type Encoding, Tokenizer } from './tokenizer.js'
