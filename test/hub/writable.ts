/** A hub that takes commits, and the store of its large files, on two ports (two origins). */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { gitHash, refuse, sha256 } from './server.js'

export interface Asked {
  store: boolean
  method: string
  path: string
  authorization: string | undefined
  body: Buffer
}

/** Answers a request instead of the hub and returns true, or lets it pass. */
type Fault = (asked: Asked, response: ServerResponse) => boolean

export class WritableHub {
  /** Undefined until the repository is made. */
  repo: { name: string; visibility: string } | undefined
  /** What the newest commit has. */
  files = new Map<string, Buffer>()
  /** Titles. */
  commits: string[] = []
  asked: Asked[] = []
  fault: Fault = () => false
  /** Large files whose bytes arrived, in a commit or not. */
  readonly objects = new Map<string, Buffer>()
  readonly #hub: Server
  readonly #store: Server

  private constructor() {
    this.#hub = createServer((request, response) => void this.#answer(request, response, false))
    this.#store = createServer((request, response) => void this.#answer(request, response, true))
  }

  static async start(): Promise<WritableHub> {
    const hub = new WritableHub()
    for (const server of [hub.#hub, hub.#store]) {
      await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
    }
    return hub
  }

  get endpoint(): string {
    return address(this.#hub)
  }

  /** Requests whose path ends so. */
  of(method: string, path: RegExp): Asked[] {
    return this.asked.filter((each) => each.method === method && path.test(each.path))
  }

  async close(): Promise<void> {
    for (const server of [this.#hub, this.#store]) {
      server.closeAllConnections()
      await new Promise((done) => server.close(done))
    }
  }

  get #commit(): string {
    return gitHash(Buffer.from(this.commits.join('\n')))
  }

  async #answer(request: IncomingMessage, response: ServerResponse, store: boolean): Promise<unknown> {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const path = decodeURIComponent(new URL(request.url ?? '/', 'http://hub').pathname)
    const { authorization } = request.headers
    const asked = { store, method: request.method ?? '', path, authorization, body: Buffer.concat(chunks) }
    this.asked.push(asked)
    if (this.fault(asked, response)) return undefined
    if (store) {
      this.objects.set(path.split('/').at(-1) as string, asked.body)
      return response.end()
    }
    if (authorization === undefined) return refuse(response, 401, 'RepoNotFound')
    if (path === '/api/repos/create') {
      const { name, organization, visibility } = JSON.parse(asked.body.toString())
      this.repo = { name: `${organization}/${name}`, visibility }
      this.commits.push('initial commit')
      return json(response, { url: `${this.endpoint}/${organization}/${name}`, id: '1' })
    }
    if (!this.repo || !path.includes(this.repo.name)) return refuse(response, 404, 'RepoNotFound')
    if (path.includes('/revision/')) {
      return json(response, { _id: '1', id: this.repo.name, sha: this.#commit, lastModified: '2026-01-01T00:00:00Z' })
    }
    if (path.includes('/tree/')) return json(response, [...this.files].map(entryOf))
    if (path.includes('/preupload/')) return json(response, preupload(asked.body))
    if (path.endsWith('/info/lfs/objects/batch')) return json(response, this.#batch(asked.body))
    if (path.includes('/commit/')) return this.#take(asked.body, response)
    return refuse(response, 404, 'EntryNotFound')
  }

  #batch(body: Buffer): object {
    const { objects } = JSON.parse(body.toString()) as { objects: { oid: string; size: number }[] }
    const upload = (oid: string) => ({ upload: { href: `${address(this.#store)}/objects/${oid}` } })
    return {
      transfer: 'basic',
      objects: objects.map(({ oid, size }) => ({ oid, size, ...(!this.objects.has(oid) && { actions: upload(oid) }) })),
    }
  }

  #take(body: Buffer, response: ServerResponse): unknown {
    const [header, ...operations] = body
      .toString()
      .split('\n')
      .map((line) => JSON.parse(line))
    if (header.value.parentCommit !== undefined && header.value.parentCommit !== this.#commit)
      return json(response, { error: 'a commit has happened since' }, 412)
    for (const { key, value } of operations) {
      const content = key === 'file' ? Buffer.from(value.content, 'base64') : this.objects.get(value.oid)
      if (!content) return json(response, { error: `no bytes of ${value.path}` }, 400)
      this.files.set(value.path, content)
    }
    this.commits.push(header.value.summary)
    return json(response, { commitOid: this.#commit, commitUrl: this.endpoint, hookOutput: '' })
  }
}

const isLarge = (path: string): boolean => path.endsWith('.safetensors')

const preupload = (body: Buffer): object => ({
  files: (JSON.parse(body.toString()).files as { path: string }[]).map(({ path }) => ({
    path,
    uploadMode: isLarge(path) ? 'lfs' : 'regular',
  })),
})

function entryOf([path, content]: [string, Buffer]): object {
  const size = content.length
  if (!isLarge(path)) return { type: 'file', path, size, oid: gitHash(content) }
  return { type: 'file', path, size, oid: '1'.repeat(40), lfs: { oid: sha256(content), size, pointerSize: 134 } }
}

const json = (response: ServerResponse, body: unknown, status = 200): ServerResponse =>
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))

const address = (server: Server): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}`
