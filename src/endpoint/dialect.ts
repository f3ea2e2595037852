/** What one server wants otherwise than the interface says. It is learned from its refusals and kept for later requests. */

type Body = Record<string, unknown>

interface Difference {
  /** Of the body; refused, or in the case of `stream` missing. */
  field: string
  refusal: RegExp
}

const unknown = 'support|permitted|allowed|unknown|unrecognized|unexpected|deprecated|invalid param'
const notZero = 'positive|greater than 0|above 0|only the default|must be 1'

const differences: Difference[] = [
  { field: 'response_format', refusal: /response_format|json_?schema|schema/i },
  {
    field: 'max_tokens',
    refusal: /max_completion_tokens|max_tokens\W.*(unsupported|unknown|unrecognized|not permitted)/i,
  },
  { field: 'stream_options', refusal: /stream_options/i },
  { field: 'stream', refusal: /stream(ing)?\b.*\b(only|must|required?|true)|only\b.*\bstream/i },
  { field: 'temperature', refusal: new RegExp(`(?=.*\\btemperature\\b).*(${unknown}|${notZero})`, 'is') },
  ...['top_p', 'top_k', 'seed', 'stop'].map((field) => {
    return { field, refusal: new RegExp(`(?=.*\\b${field}\\b).*(${unknown})`, 'is') }
  }),
]

/** Fields that decide what is said: an answer without them is another answer. */
const decisive = ['temperature', 'top_p', 'top_k', 'seed', 'stop']

/** Statuses of servers that dislike a body, or stumble over it. */
const refusing = [400, 422, 500, 501]

/** A reason that has nothing to do with fields. */
const tooMuch = /too (long|large|big|many)|context|length|exceed/i

export class Dialect {
  readonly #learned = new Set<string>()
  /** Whether a reply came to a request with a schema: what fails after that does not fail for the schema. */
  #takesSchemas = false

  /** A body as this server wants it. */
  translate(body: Body): Body {
    const { max_tokens, ...rest } = body
    const own: Body = this.#learned.has('max_tokens') ? { ...rest, max_completion_tokens: max_tokens } : { ...body }
    if (this.#learned.has('stream')) Object.assign(own, { stream: true, stream_options: { include_usage: true } })
    for (const field of this.#learned) if (field !== 'stream') delete own[field]
    return own
  }

  /**
   * Whether the refusal of a body teaches something, so that it is worth asking again.
   * @returns what was learned, to be said once; empty where other requests have learned it already.
   */
  learn(sent: Body, status: number, said: string): string | undefined {
    if (!refusing.includes(status)) return undefined
    const field = differences.find(({ field, refusal }) => {
      return (field === 'stream') !== (sent[field] !== undefined) && refusal.test(said)
    })?.field
    if (field === undefined) return undefined
    // Requests that were under way together are refused together.
    if (this.#learned.has(field)) return ''
    this.#learned.add(field)
    return field === 'stream' ? 'only streams; they are read' : `no ${field}; it is left out`
  }

  /** The same body without its schema, where the server may have stumbled over it and does not say so. */
  withoutSchema(sent: Body, status: number, said: string): Body | undefined {
    if (sent.response_format === undefined || this.#takesSchemas) return undefined
    if (!refusing.includes(status) || tooMuch.test(said)) return undefined
    const { response_format: _, ...rest } = sent
    return rest
  }

  /** Told of every body that was answered; `asked` is what was to be sent first. */
  answered(sent: Body, asked: Body): string | undefined {
    if (sent.response_format !== undefined) this.#takesSchemas = true
    if (asked.response_format === undefined || sent.response_format !== undefined) return undefined
    if (this.#learned.has('response_format')) return undefined
    this.#learned.add('response_format')
    return 'no response_format; it is left out'
  }

  /** What of a request was not sent and would have decided the reply. */
  static leftOut(asked: Body, sent: Body): string[] {
    return decisive.filter((field) => asked[field] !== undefined && sent[field] === undefined)
  }
}
