/** Server-sent events: some servers answer in no other way. */
import { z } from 'zod'
import { textOf } from './request.js'

const said = z.object({
  content: z.unknown().optional(),
  reasoning_content: z.unknown().optional(),
  reasoning: z.unknown().optional(),
  refusal: z.unknown().optional(),
  tool_calls: z.unknown().optional(),
})
const event = z.object({
  model: z.unknown().optional(),
  choices: z
    .array(
      z.object({
        index: z.number().nullish(),
        delta: said.nullish(),
        message: said.nullish(),
        text: z.string().nullish(),
        finish_reason: z.string().nullish(),
      }),
    )
    .default([]),
  usage: z.unknown().optional(),
})

/**
 * The completion that a stream of events adds up to, as one answer. An event that is an error is the answer.
 * @returns undefined for what is no stream, or one that breaks off.
 */
export function joinEvents(text: string): unknown {
  const message: Record<string, unknown> = {}
  let completion: string | undefined
  let finish: string | null = null
  let usage: unknown
  let model: unknown
  let ended = false
  for (const line of text.split(/\r\n|\r|\n/)) {
    if (!line.startsWith('data:')) continue
    const data = line.slice('data:'.length).trim()
    ended ||= data === '[DONE]'
    if (ended) break
    const value = parse(data)
    const read = event.safeParse(value)
    if (!read.success || (value as { error?: unknown }).error) return value
    usage = read.data.usage ?? usage
    model = read.data.model ?? model
    for (const { index, delta, message: whole, text, finish_reason } of read.data.choices) {
      if (index) continue
      if (typeof text === 'string') completion = (completion ?? '') + text
      for (const [name, more] of Object.entries(delta ?? whole ?? {})) {
        const before = message[name]
        message[name] = name === 'tool_calls' ? (more ?? before) : `${before ?? ''}${textOf(more)}`
      }
      finish = finish_reason ?? finish
    }
  }
  if (!ended && finish === null) return undefined
  const choice = completion === undefined ? { message } : { text: completion }
  return { choices: [{ ...choice, finish_reason: finish }], usage, model }
}

function parse(data: string): unknown {
  try {
    return JSON.parse(data)
  } catch {
    return undefined
  }
}
