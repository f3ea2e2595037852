/** Habits of servers, drawn at random, spoken over bare sockets: nothing that is written here has to be HTTP. */

import type { AddressInfo } from 'node:net'
import { createServer, type Server, type Socket } from 'node:net'
import { brotliCompressSync, gzipSync } from 'node:zlib'
import type { Draws } from '../../src/bench/random.js'
import { pick } from './campaign.js'

/** What no answer of a server may become. */
export const wrong = 'NOT-AN-ANSWER'

/** Of a request: first line and headers as they came, and the body. */
export interface Heard {
  head: string
  body: string
}

/** Everything that obeying terminals do: colours, titles, 8-bit controls, other directions, beginnings of lines. */
const escapes = [
  '',
  '',
  '\u001b[31mred',
  '\u001b]0;title\u0007',
  '\u009b2J',
  '\u202etxt',
  'a\rb',
  '\u0000',
  '\u001bP1$q\u001b\\',
]

const keyForms: ((key: string) => string)[] = [
  () => '',
  (key) => key,
  (key) => `Bearer ${key}`,
  (key) => encodeURIComponent(key),
  (key) => Buffer.from(key).toString('base64'),
  (key) => Buffer.from(`user:${key}`).toString('base64'),
  (key) => Buffer.from(key).toString('hex'),
  (key) => [...key].map((c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`).join(''),
  (key) => [...key].map((c) => `&#${c.charCodeAt(0)};`).join(''),
  (key) => key.toUpperCase(),
  (key) => `${key.slice(0, 8)}\u001b[0m${key.slice(8)}`,
  (key) => `${key.slice(0, 8)}\u200b${key.slice(8)}`,
]

const usage = { prompt_tokens: 10, completion_tokens: 5 }
const completion = (message: unknown, more: object = {}, finish: unknown = 'stop') =>
  JSON.stringify({ choices: [{ index: 0, message, finish_reason: finish }], usage, ...more })
const events = (parts: string[], end: string) =>
  `${parts.map((content) => `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content } }] })}\n\n`).join('')}${end}`

/** Bodies that say something, and bodies that say nothing; `echo` is what the server repeats of the request. */
const bodies: Record<string, (said: string, echo: string) => string | Buffer> = {
  good: (said, echo) => completion({ content: `${said} ${echo}` }),
  parts: (said, echo) => completion({ content: [{ type: 'text', text: said }, { type: 'text', text: echo }, said] }),
  halves: (said, echo) => completion({ content: [said, echo.slice(0, 9), echo.slice(9)] }),
  stream: (said, echo) =>
    events([said, ...echo], 'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'),
  'stream cut': (_, echo) => events([wrong, echo], 'data: {"choices":[{"del'),
  'stream error': (_, echo) => events([wrong], `data: ${JSON.stringify({ error: { message: echo } })}\n\n`),
  thoughts: (_, echo) => completion({ content: null, reasoning_content: `${wrong} ${echo}` }, {}, 'length'),
  'open thoughts': (_, echo) => completion({ content: `<think>${wrong} ${echo}` }),
  filtered: (_, echo) => completion({ content: `${wrong} ${echo}` }, {}, 'content_filter'),
  empty: () => completion({ content: '' }),
  blank: () => completion({ content: ' \n\t' }, { usage: null }),
  tool: (_, echo) => completion({ content: null, tool_calls: [{ function: { name: wrong, arguments: echo } }] }),
  refusal: (_, echo) => completion({ content: null, refusal: `${wrong} ${echo}` }),
  error: (_, echo) => JSON.stringify({ error: { message: echo, code: 500 } }),
  'error and choice': (_, echo) => completion({ content: wrong }, { error: { message: echo } }),
  'error as text': (_, echo) => JSON.stringify({ error: echo }),
  'field refused': (_, echo) => JSON.stringify({ error: { message: `temperature is not supported ${echo}` } }),
  detail: (_, echo) => JSON.stringify({ detail: [{ msg: echo, [echo]: 1 }] }),
  page: (_, echo) => `<!doctype html><title>${echo}</title>${wrong}`,
  text: (_, echo) => `${wrong} ${echo}`,
  nothing: () => '',
  null: () => 'null',
  number: () => '1e999',
  list: (_, echo) => JSON.stringify([echo, wrong]),
  'cut off': (_, echo) => `{"choices":[{"message":{"content":"${wrong} ${echo}`,
  deep: () => '['.repeat(200_000),
  'deep object': () => '{"error":'.repeat(50_000),
  'not UTF-8': () =>
    Buffer.concat([
      Buffer.from('{"choices":[{"message":{"content":"'),
      Buffer.from([0xff, 0xfe]),
      Buffer.from(`${wrong}"}}]}`),
    ]),
  bom: (said, echo) => `\ufeff${completion({ content: `${said} ${echo}` })}`,
  huge: (_, echo) => `{"choices":[{"message":{"content":"${wrong}${echo}${'x'.repeat(2 ** 24)}"}}]}`,
  'many spaces': (_, echo) => `${' '.repeat(2 ** 18)}${echo}`,
}

const encodings: Record<string, (body: Buffer) => Buffer> = {
  '': (body) => body,
  gzip: (body) => gzipSync(body),
  br: (body) => brotliCompressSync(body),
  'gzip, gzip': (body) => gzipSync(gzipSync(body)),
  deflate: (body) => body,
  zstandard: (body) => body,
}

/** One way to answer, the same for equal draws. */
export interface Habit {
  name: string
  answer(socket: Socket, heard: Heard, said: string, key: string, elsewhere: string): void
}

const okay = [200, 200, 200, 200, 200, 200, 201]
const other = [
  204, 301, 302, 303, 307, 308, 400, 401, 402, 403, 404, 405, 408, 413, 418, 422, 429, 500, 501, 502, 503, 529, 999,
]

export function drawHabit(draws: Draws): Habit {
  const status = pick(draws, pick(draws, [okay, okay, other]))
  const kind = pick(draws, Object.keys(bodies))
  const encoding = pick(draws, ['', '', '', '', ...Object.keys(encodings)])
  const form = pick(draws, keyForms)
  const control = pick(draws, escapes)
  const length = pick(draws, ['right', 'right', 'right', 'none', 'chunked', 'short', 'long', 'bad chunks', 'two'])
  const pace = pick(draws, [
    'at once',
    'at once',
    'at once',
    'later',
    'never',
    'stalls',
    'drips',
    'stays open',
    'cut',
    'reset',
  ])
  const wait = pick(draws, ['', '', '0', '0.1', '-7', 'soon', new Date(0).toUTCString()])
  const extra = pick(draws, [
    '',
    '',
    '',
    'long header',
    'many headers',
    'odd header',
    'interim',
    'bomb',
    'greeting',
    'garbage',
  ])
  const name = [status, kind, encoding, length, pace, extra].filter(Boolean).join(', ')
  const answer: Habit['answer'] = (socket, _heard, said, key, elsewhere) => {
    const echo = `${control}${form(key)}`
    // Half of an escaped text in JSON would be read as JSON; the others stand as they are.
    const body =
      extra === 'bomb'
        ? gzipSync(Buffer.alloc(2 ** 26, 32))
        : encodings[encoding](Buffer.from(bodies[kind](said, echo)))
    const lengths: Record<string, string[]> = {
      right: [`content-length: ${body.length}`],
      none: ['connection: close'],
      chunked: ['transfer-encoding: chunked'],
      'bad chunks': ['transfer-encoding: chunked'],
      short: [`content-length: ${Math.max(0, body.length - 7)}`],
      long: [`content-length: ${body.length + 50}`],
      two: [`content-length: ${body.length}`, `content-length: ${body.length + 1}`],
    }
    const isStream = kind.startsWith('stream')
    const headers = [
      `HTTP/1.1 ${status} ${/[^ -~]/.test(echo) ? 'Fine' : echo}`,
      `content-type: ${isStream ? 'text/event-stream' : 'application/json'}`,
      ...lengths[length],
      ...(extra === 'bomb' ? ['content-encoding: gzip'] : encoding ? [`content-encoding: ${encoding}`] : []),
      ...(status >= 300 && status < 400
        ? [`location: ${elsewhere}/${encodeURIComponent(key)}?key=${encodeURIComponent(key)}`]
        : []),
      ...(wait ? [`retry-after: ${wait}`] : []),
      `x-request-id: ${key}`,
      ...(extra === 'long header' ? [`x-long: ${'h'.repeat(100_000)}`] : []),
      ...(extra === 'many headers' ? Array.from({ length: 5000 }, (_, at) => `x-${at}: ${key}`) : []),
      ...(extra === 'odd header' ? ['x odd\u0001: \u001b[2J', ': nameless'] : []),
    ].join('\r\n')
    const interim = extra === 'interim' ? 'HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n'.repeat(50) : ''
    const head = Buffer.from(`${interim}${headers}\r\n\r\n`, 'latin1')
    const chunk = (part: Buffer): Buffer =>
      length !== 'chunked'
        ? part
        : Buffer.concat([Buffer.from(`${part.length.toString(16)}\r\n`), part, Buffer.from('\r\n')])
    const ending = length === 'chunked' ? '0\r\n\r\n' : length === 'bad chunks' ? 'zz\r\n' : ''
    const all =
      extra === 'greeting'
        ? Buffer.from(`SSH-2.0-${echo}\r\n`)
        : extra === 'garbage'
          ? Buffer.from([22, 3, 1, 2, 0, 1, 0, 27, 91, 50, 74])
          : Buffer.concat([head, chunk(body), Buffer.from(ending)])
    speak(socket, all, head.length, pace, length === 'none')
  }
  return { name, answer }
}

function speak(socket: Socket, all: Buffer, head: number, pace: string, closes: boolean): void {
  const half = Math.min(all.length - 1, head + Math.floor((all.length - head) / 2))
  const say = (part: Buffer): void => void (socket.destroyed || socket.write(part))
  if (pace === 'never') return
  if (pace === 'cut' || pace === 'reset') {
    say(all.subarray(0, half))
    setTimeout(() => (pace === 'cut' ? socket.end() : socket.resetAndDestroy()), 10)
    return
  }
  if (pace === 'stalls') {
    say(all.subarray(0, half))
    return
  }
  if (pace === 'drips') {
    let at = half
    say(all.subarray(0, at))
    const timer = setInterval(() => {
      if (socket.destroyed || at >= all.length) clearInterval(timer)
      else say(all.subarray(at, ++at))
    }, 100)
    return
  }
  setTimeout(
    () => {
      say(all)
      if (closes && pace !== 'stays open') socket.end()
    },
    pace === 'later' ? 150 : 0,
  )
}

/** A server on bare sockets: `answer` is told of every whole request. */
export class BareServer {
  heard: Heard[] = []
  answer: (socket: Socket, heard: Heard) => void = () => {}
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  private constructor() {
    this.#server = createServer((socket) => {
      this.#sockets.add(socket)
      let text = ''
      socket.on('error', () => {})
      socket.on('close', () => this.#sockets.delete(socket))
      socket.on('data', (chunk) => {
        text += chunk.toString('latin1')
        const end = text.indexOf('\r\n\r\n')
        const length = Number(/content-length: *(\d+)/i.exec(text)?.[1] ?? 0)
        if (end < 0 || text.length < end + 4 + length) return
        const heard = { head: text.slice(0, end), body: text.slice(end + 4, end + 4 + length) }
        text = text.slice(end + 4 + length)
        this.heard.push(heard)
        this.answer(socket, heard)
      })
    })
  }

  static async start(): Promise<BareServer> {
    const server = new BareServer()
    await new Promise<void>((resolve) => server.#server.listen(0, '127.0.0.1', resolve))
    return server
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise((resolve) => this.#server.close(resolve))
  }
}
