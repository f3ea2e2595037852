/** Keys go nowhere, whatever they are written as; terminals obey nobody. */
import { describe, expect, it } from 'vitest'
import { fromJson, keepSecret, redact, redactSaid, toJson } from '../src/secrets.js'
import { forTerminal } from '../src/terminal.js'

const key = 'sk-proj/Ab+c"4711&x=y<z'
keepSecret(key)
const bytes = Buffer.from(key)

describe('a secret', () => {
  it.each<[string, string]>([
    ['itself', key],
    ['a bearer token', `Bearer ${key}`],
    ['JSON', JSON.stringify({ key })],
    ['JSON that escapes slashes', JSON.stringify(key).replaceAll('/', '\\/')],
    ['JSON inside of JSON', JSON.stringify(JSON.stringify(key))],
    [
      'JSON that escapes everything',
      [...key].map((c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`).join(''),
    ],
    ['a part of an address', encodeURIComponent(key)],
    ['a part of an address, twice', encodeURIComponent(encodeURIComponent(key))],
    ['an address with everything escaped', [...bytes].map((byte) => `%${byte.toString(16)}`).join('')],
    ['HTML', key.replaceAll('&', '&amp;').replaceAll('"', '&quot;').replaceAll('<', '&lt;')],
    ['HTML in numbers', [...key].map((c) => `&#${c.charCodeAt(0)};`).join('')],
    ['base64', bytes.toString('base64')],
    ['base64 for addresses', bytes.toString('base64url')],
    ['hexadecimal', bytes.toString('hex')],
    ['capitals', key.toUpperCase()],
    ['two colours', `${key.slice(0, 7)}\u001b[1;31m${key.slice(7)}`],
    ['characters of no width between', [...key].join('\u200b')],
  ])('is taken out of a text that has it as %s', (_, form) => {
    const left = redact(`before ${form} after`)
    expect(left).toMatch(/^before .*\*\*\*.* after$/)
    expect(left).not.toMatch(/proj|4711|NDcxMQ|34373131/i)
  })

  it.each(['a', 'ab', 'abc', 'user:'])('is taken out of base64 that begins with something else: %j', (before) => {
    const left = redact(Buffer.from(`${before}${key}:after`).toString('base64'))
    expect(left).toContain('***')
    expect(Buffer.from(left.split('***')[0], 'base64').toString()).not.toContain('proj')
  })

  it('goes into no file and comes out of none', () => {
    expect(toJson({ a: [`x ${key}`], b: { c: key } }, 2)).toBe(
      JSON.stringify({ a: ['x ***'], b: { c: '***' } }, null, 2),
    )
    expect(fromJson(JSON.stringify({ a: [key] }))).toEqual({ a: ['***'] })
  })

  it('leaves other texts as they are', () => {
    const text = 'The nodule is in the left lung: 4711 mm. sk- proj'
    expect(redact(text)).toBe(text)
    for (const placeholder of ['', 'none', 'EMPTY', 'x', '1', undefined]) keepSecret(placeholder)
    expect(redact('none EMPTY x 1')).toBe('none EMPTY x 1')
  })

  it('is no short text, which hashes and paths may contain', () => {
    for (const short of ['2024', 'c0ffee', 'ab-1234']) keepSecret(short)
    expect(redact('runs/2024/c0ffee ab-1234')).toBe('runs/2024/c0ffee ab-1234')
    expect(redactSaid('No 2024 here', '2024')).toBe('No *** here')
  })

  it('is looked for in any number of backslashes', () => {
    const text = '\\'.repeat(1_000_000)
    expect(redact(`${text}.`)).toBe(`${text}.`)
    expect(redact(`${text}${key}`)).not.toContain('proj')
  })

  it('is not said by a server in parts either', () => {
    const long = 'sk-live-abcdefghijklmnop'
    expect(redactSaid('Incorrect API key: sk-live-abcd****mnop', long)).toBe('Incorrect API key: *******mnop')
    expect(redactSaid(`No ${long}, no SK-LIVE-ABCDEFGH`, long)).toBe('No ***, no ***')
    expect(redactSaid('none is no key', 'none')).toBe('*** is no key')
  })
})

describe('a terminal', () => {
  it('gets nothing that it would obey, and the same JSON', () => {
    const hostile = 'a\u001b[31m\u009b2J\u0007\r\u202e\u2066\u{e0041}\u2028b'
    expect(forTerminal(hostile)).toBe('a\\u001b[31m\\u009b2J\\u0007\\u000d\\u202e\\u2066\\udb40\\udc41\\u2028b')
    expect(JSON.parse(forTerminal(JSON.stringify({ hostile })))).toEqual({ hostile })
    expect(forTerminal('line\n\tnext é 肺 👩‍⚕️ می‌شود')).toBe('line\n\tnext é 肺 👩‍⚕️ می‌شود')
    expect(forTerminal(`said ${key}`)).toBe('said ***')
    expect(forTerminal('at https://me:4711@host/v1?q=a@b and ftp://me@host, me@host')).toBe(
      'at https://***@host/v1?q=a@b and ftp://***@host, me@host',
    )
  })
})
