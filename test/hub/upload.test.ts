import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ArgumentError, HubError } from '../../src/errors.js'
import { type LocalFile, type UploadOptions, upload } from '../../src/hub/index.js'
import { keepSecret } from '../../src/secrets.js'
import { temporaryFolder } from '../fakes/world.js'
import { WritableHub } from './writable.js'

const repo = 'clinic/adapter'
const token = { value: 'hf_4711471147114711', source: 'HF_TOKEN' }
let hub: WritableHub
let folder: string

beforeEach(async () => {
  hub = await WritableHub.start()
  folder = await temporaryFolder()
  keepSecret(token.value)
})
afterEach(() => hub.close())

async function file(path: string, content: string): Promise<LocalFile> {
  const place = join(folder, path)
  await writeFile(place, content)
  return { path, size: Buffer.byteLength(content), content: pathToFileURL(place) }
}

const card: LocalFile = { path: 'README.md', size: 6, content: Buffer.from('# Card') }

const standard = async (): Promise<LocalFile[]> => [
  card,
  await file('adapter_config.json', '{"r": 4}'),
  await file('one.safetensors', 'a'.repeat(70_000)),
  await file('two.safetensors', 'b'.repeat(50_000)),
]

async function send(changes: Partial<UploadOptions> = {}) {
  const access = { endpoint: hub.endpoint, token, offline: false }
  const files = changes.files ?? (await standard())
  return upload({
    repo,
    title: 'Adapter',
    isPublic: false,
    access,
    retry: { retries: 2, delayMs: 1 },
    ...changes,
    files,
  })
}

const refused = (changes: Partial<UploadOptions> = {}) =>
  send(changes).then(
    () => expect.fail('it was not refused'),
    (error) => error,
  )

describe('upload', () => {
  it('makes a private repository and sends all files in one commit, the token to the hub alone', async () => {
    const bytes: [number, number][] = []
    const report = await send({ onProgress: (done, total) => bytes.push([done, total]) })
    expect(hub.repo).toEqual({ name: repo, visibility: 'private' })
    expect(report).toMatchObject({ repo, created: true, url: `${hub.endpoint}/${repo}` })
    expect([...hub.files.keys()].sort()).toEqual([
      'README.md',
      'adapter_config.json',
      'one.safetensors',
      'two.safetensors',
    ])
    expect(hub.files.get('one.safetensors')?.toString()).toBe('a'.repeat(70_000))
    expect(hub.files.get('README.md')?.toString()).toBe('# Card')
    expect(hub.commits).toEqual(['initial commit', 'Adapter'])
    expect(bytes.at(-1)).toEqual([120_014, 120_014])
    for (const { store, authorization } of hub.asked) {
      expect(authorization).toBe(store ? undefined : `Bearer ${token.value}`)
    }
  })

  it('makes a public one when that is asked for', async () => {
    await send({ isPublic: true })
    expect(hub.repo?.visibility).toBe('public')
  })

  it('sends what changed, and nothing when nothing did', async () => {
    const first = await send()
    const again = await send()
    expect(again).toEqual({ ...first, sent: [], created: false })
    expect(hub.commits).toHaveLength(2)
    hub.asked = []
    const other = { path: 'README.md', size: 7, content: Buffer.from('# Other') }
    const { sent } = await send({ files: [other, ...(await standard()).slice(1)] })
    expect(sent).toEqual(['README.md'])
    expect(hub.of('PUT', /./)).toEqual([])
    expect(hub.files.get('README.md')?.toString()).toBe('# Other')
  })

  it('shows nothing of an upload that failed, and sends no large file twice', async () => {
    hub.fault = ({ store, body }, response) => {
      if (!store || body[0] !== 'b'.charCodeAt(0)) return false
      response.writeHead(503).end()
      return true
    }
    const error = await refused()
    expect(error).toBeInstanceOf(HubError)
    expect(error.message).toMatch(/the server answered 503/)
    expect(error.hint).toContain('Run the same command again')
    expect(hub.files.size).toBe(0)
    hub.fault = () => false
    hub.asked = []
    await send()
    expect(hub.of('PUT', /./).map(({ body }) => body.length)).toEqual([50_000])
    expect(hub.files.size).toBe(4)
  })

  it('tries again after a failure that passes', async () => {
    let failures = 0
    hub.fault = ({ path }, response) => {
      if (!path.includes('/commit/') || failures++ > 0) return false
      response.writeHead(502).end()
      return true
    }
    const lines: string[] = []
    await send({ onLog: (line) => lines.push(line) })
    expect(lines.join('\n')).toContain('the server answered 502; trying again')
    expect(hub.files.size).toBe(4)
  })

  it.each([
    [
      403,
      'write is not allowed for hf_4711471147114711',
      /the token from HF_TOKEN may not write there: write is not allowed for \*\*\*$/,
      /right to write to clinic/,
    ],
    [412, 'a commit has happened since', /somebody else changed it meanwhile/, /Run the same command again/],
    [307, '', /it has moved/, /for its new name/],
    [422, 'bad card', /the hub answered 422: bad card/, /there whole or not at all/],
  ])('says what a refusal with %i means, without the token', async (status, said, message, hint) => {
    hub.fault = ({ path }, response) => {
      if (!path.includes('/commit/')) return false
      response
        .writeHead(status, { 'content-type': 'application/json', location: 'http://elsewhere/' })
        .end(JSON.stringify({ error: said }))
      return true
    }
    const error = await refused()
    expect(error).toBeInstanceOf(HubError)
    expect(error.message).toMatch(message)
    expect(error.hint).toMatch(hint)
    expect(JSON.stringify([error.message, error.hint, error.detail])).not.toContain(token.value)
    expect(hub.files.size).toBe(0)
  })

  it('overwrites no commit that it has not seen', async () => {
    await send()
    hub.fault = ({ path }) => {
      if (path.includes('/preupload/')) hub.commits.push('of somebody else')
      return false
    }
    const error = await refused({ files: [{ ...card, content: Buffer.from('# Mine') }] })
    expect(error.message).toContain('somebody else changed it meanwhile')
    expect(hub.files.get('README.md')?.toString()).toBe('# Card')
  })

  it('needs a token, and stops when it is told to', async () => {
    const access = { endpoint: hub.endpoint, token: undefined, offline: false }
    expect(await refused({ access })).toBeInstanceOf(ArgumentError)
    expect(hub.asked).toEqual([])
    const stop = new AbortController()
    hub.fault = ({ store }) => {
      if (store) stop.abort()
      return false
    }
    expect((await refused({ signal: stop.signal })).code).toBe('ERR_FIRE_ABORTED')
    expect(hub.files.size).toBe(0)
  })
})
