/** What a server can be asked, in the words of OpenAI's interface, and what it replies. */
import { z } from 'zod'
import { redact } from '../secrets.js'
import type { EndpointSettings } from './settings.js'

/** A part of a message: text, or an image as an address (`imagePart` makes a data URL). */
export type Part = { type: 'text'; text: string } | { type: 'image_url'; image_url: { url: string } }

/** One turn, in the words of OpenAI's interface. */
export interface Message {
  role: 'system' | 'user' | 'assistant'
  content: string | readonly Part[]
}

/** How a reply is drawn. What is left out is left to the server, but for the temperature. */
export interface Sampling {
  /** 0 = greedy, the default. */
  temperature?: number
  topP?: number
  /** 0 = off. Not part of OpenAI's interface, so it is sent only when it is on. */
  topK?: number
  seed?: number
  /** Texts that end a reply. */
  stop?: readonly string[]
}

/** A conversation to be answered. */
export interface ChatRequest extends Sampling {
  messages: readonly Message[]
  /** Name and JSON Schema that the reply shall follow, where the server can see to it. */
  schema?: { name: string; schema: object }
}

/** A text to be continued as it stands, without a chat template. */
export interface CompletionRequest extends Sampling {
  prompt: string
  /**
   * Most tokens of prompt and reply together: the reply may have what the prompt leaves. Needs a server that counts the tokens of a text
   * (`/tokenize`); without one `maxTokens` of the settings holds, and the reply says so in `leftOut`.
   */
  totalTokens?: number
}

/** What an endpoint can be asked. */
export type EndpointRequest = ChatRequest | CompletionRequest

/** As it lies in the cache. */
export const reply = z.strictObject({
  content: z.string(),
  /** Why it ended, in the server's words: `stop`, `length`, … */
  finishReason: z.string().nullable(),
  /** 0 where the server does not count. */
  promptTokens: z.number().int().nonnegative(),
  completionTokens: z.number().int().nonnegative(),
  /** What came in place of a text, in words. */
  instead: z.string().optional(),
  /** Fields that decide a reply and that the server did not take, for instance `temperature`. */
  leftOut: z.array(z.string()).optional(),
  /** The model as the server names it: an alias moves, and a gateway chooses. */
  model: z.string().optional(),
  /** Day on which it came, `2026-11-28`; it stays when the reply is read from the cache. */
  date: z.string().optional(),
})

/** What a server replied; `content` is never empty where `Endpoint.ask` gives it. */
export type Reply = z.infer<typeof reply>

/** An image as a part of a message. */
export function imagePart({ mime, bytes }: { mime: string; bytes: Uint8Array }): Part {
  return { type: 'image_url', image_url: { url: `data:${mime};base64,${Buffer.from(bytes).toString('base64')}` } }
}

/** The body of a request. Fields that are undefined vanish when it becomes JSON. */
export function bodyOf(
  request: EndpointRequest,
  { model, maxTokens }: Pick<EndpointSettings, 'model' | 'maxTokens'>,
): Record<string, unknown> {
  const { temperature = 0, topP, topK, seed, stop, ...input } = request
  const { schema, ...asked } = 'messages' in input ? input : { prompt: input.prompt, schema: undefined }
  return {
    model,
    ...asked,
    max_tokens: maxTokens,
    temperature,
    top_p: topP,
    top_k: topK || undefined,
    seed,
    stop: stop?.length ? stop : undefined,
    response_format: schema && { type: 'json_schema', json_schema: { ...schema, strict: true } },
  }
}

/** Upper bound of an image's tokens: known models make up to 49,000 of one. */
const mostImageTokens = 2 ** 16

/** Upper bound of a request's tokens: no tokenizer makes more tokens of a text than it has bytes. */
export function mostTokens(request: EndpointRequest): number {
  let images = 0
  const text = JSON.stringify(request, (name, value) => {
    if (name !== 'image_url') return value
    images += 1
    return undefined
  })
  return Buffer.byteLength(text) + images * mostImageTokens
}

/** The text of a content or a part of one. Of parts only texts are said; others hold what a model thought. */
export function textOf(content: unknown): string {
  if (typeof content === 'string') return content
  if (Array.isArray(content)) return content.map(textOf).join('')
  const { type = 'text', text } = (content ?? {}) as { type?: unknown; text?: unknown }
  return /^(output_)?text$/.test(String(type)) && typeof text === 'string' ? text : ''
}

const count = z.number().int().nonnegative()

const choice = z.object({
  message: z
    .object({
      content: z.union([z.string(), z.array(z.unknown()), z.looseObject({})]).nullish(),
      reasoning_content: z.unknown().optional(),
      reasoning: z.unknown().optional(),
      tool_calls: z.unknown().optional(),
      function_call: z.unknown().optional(),
      refusal: z.string().nullish().catch(null),
    })
    .nullish(),
  text: z.string().nullish(),
  finish_reason: z.string().nullish().catch(null),
  error: z.unknown().optional(),
})
type Choice = z.infer<typeof choice>

const completion = z.object({
  choices: z.tuple([choice], z.unknown()),
  model: z.string().nullish().catch(undefined),
  // A reply was paid for even where its counts are unusable: asking again would pay again.
  usage: z.object({ prompt_tokens: count, completion_tokens: count }).nullish().catch(undefined),
  error: z.unknown().optional(),
})

/** The reply in an answer of a server, empty where it says nothing; `undefined` when there is none. */
export function readReply(json: unknown): Reply | undefined {
  const { choices, usage, error, model } = completion.safeParse(json).data ?? {}
  const [first] = choices ?? []
  if (!first || error || first.error) return undefined
  const { message, text, finish_reason: finishReason = null } = first
  if (!message && typeof text !== 'string') return undefined
  // What a filter left of a text is no answer, and is not kept either.
  const said = finishReason === 'content_filter' ? '' : redact(message ? textOf(message.content) : (text ?? ''))
  const instead = said.trim() === '' ? insteadOf(message) : undefined
  return {
    content: said,
    finishReason,
    promptTokens: usage?.prompt_tokens ?? 0,
    completionTokens: usage?.completion_tokens ?? 0,
    ...(model && { model: redact(model.slice(0, longestName)) }),
    date: new Date().toISOString().slice(0, 10),
    ...(instead !== undefined && { instead }),
  }
}

const longestRefusal = 200
const longestName = 200

/** What a message without a text holds. */
function insteadOf(message: Choice['message']): string | undefined {
  const { refusal, tool_calls, function_call, reasoning_content, reasoning } = message ?? {}
  if (refusal) return redact(`it refuses: ${refusal.slice(0, longestRefusal)}`)
  if ((Array.isArray(tool_calls) && tool_calls.length > 0) || function_call) return 'it calls a tool'
  return reasoning_content || reasoning ? 'only reasoning' : undefined
}

const failure = z.object({ code: z.coerce.number().optional().catch(undefined), status: z.unknown().optional() })

/** The status that an error under status 200 names; 200 when it names none. */
export function statusOf(json: unknown): number {
  const { error, choices } = (json ?? {}) as { error?: unknown; choices?: [{ error?: unknown }] }
  const { code, status } = failure.safeParse(error ?? choices?.[0]?.error).data ?? {}
  return [code, Number(status)].find((number = 0) => Number.isInteger(number) && number >= 400 && number < 600) ?? 200
}

const tokenized = z.union([
  z.object({ count }).transform((answer) => answer.count),
  z.object({ tokens: z.array(z.unknown()) }).transform((answer) => answer.tokens.length),
])

/** The number of tokens in an answer of a `/tokenize`; undefined where it says none. */
export const tokenCount = (json: unknown): number | undefined => tokenized.safeParse(json).data
