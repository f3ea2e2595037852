/** A model hub and the store it redirects to, on two ports (two origins), as far as downloads need them. */
import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export const commits = { main: 'a'.repeat(40), next: 'b'.repeat(40) }
export const repo = 'clinic/tiny-vlm'

export interface HubFile {
  content: Buffer
  /** Where the content lies: in git, or behind a redirect to the store. */
  kind: 'git' | 'lfs' | 'xet'
  /** What the listing claims instead of the truth. */
  claims?: { size?: number; oid?: string }
}

export interface Seen {
  store: boolean
  path: string
  range: string | undefined
  authorization: string | undefined
}

/** Answers a request instead of the hub and returns true, or lets it pass. */
export type Fault = (seen: Seen, response: ServerResponse) => boolean

export class FakeHub {
  files: Record<string, HubFile>
  revisions: Record<string, string> = { main: commits.main, [commits.main]: commits.main }
  seen: Seen[] = []
  fault: Fault = () => false
  ignoresRanges = false
  readonly #hub: Server
  readonly #store: Server

  private constructor(files: Record<string, HubFile>) {
    this.files = files
    this.#hub = createServer((request, response) => this.#answer(request, response, false))
    this.#store = createServer((request, response) => this.#answer(request, response, true))
  }

  static async start(files: Record<string, HubFile>): Promise<FakeHub> {
    const hub = new FakeHub(files)
    for (const server of [hub.#hub, hub.#store]) {
      await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
    }
    return hub
  }

  get endpoint(): string {
    return address(this.#hub)
  }

  /** Requests for the content of one file, at the hub or at the store. */
  downloads(path: string, store = false): Seen[] {
    const name = store ? `/store/${path}` : `/resolve/${this.revisions.main}/${path}`
    return this.seen.filter((seen) => seen.store === store && seen.path.endsWith(name))
  }

  async close(): Promise<void> {
    for (const server of [this.#hub, this.#store]) {
      server.closeAllConnections()
      await new Promise((done) => server.close(done))
    }
  }

  #answer(request: IncomingMessage, response: ServerResponse, store: boolean): ServerResponse {
    const url = new URL(request.url ?? '/', 'http://hub')
    const path = decodeURIComponent(url.pathname)
    const { range, authorization } = request.headers
    const seen = { store, path, range, authorization }
    this.seen.push(seen)
    if (this.fault(seen, response)) return response
    if (store) return this.#content(this.files[path.slice('/store/'.length)], range, response)
    // Before decoding: a revision such as refs/pr/1 travels as one segment.
    const api = /^\/api\/models\/(.+?)\/(revision|tree)\/([^/]+)$/.exec(url.pathname)
    if (api) return this.#api(api, url, response)
    const file = /^\/(.+?)\/resolve\/([^/]+)\/(.+)$/.exec(path)
    if (!file || file[1] !== repo || !this.files[file[3]]) return refuse(response, 404, 'EntryNotFound')
    return this.#resolve(file[3], range, response)
  }

  #api([, name, what, revision]: RegExpExecArray, url: URL, response: ServerResponse): ServerResponse {
    if (name !== repo) return refuse(response, 401, 'RepoNotFound')
    const sha = this.revisions[decodeURIComponent(revision)]
    if (!sha) return refuse(response, 404, 'RevisionNotFound')
    if (what === 'revision') return json(response, { _id: '1', id: repo, sha, lastModified: '2026-01-01T00:00:00Z' })
    // Three entries a page: a client that reads only the first one is found out.
    const start = Number(url.searchParams.get('cursor') ?? 0)
    const entries = [{ type: 'directory', path: 'vit', oid: '0'.repeat(40), size: 0 }, ...this.#entries()]
    url.searchParams.set('cursor', String(start + 3))
    const next = `${this.endpoint}${url.pathname}${url.search}`
    return json(
      response,
      entries.slice(start, start + 3),
      start + 3 < entries.length ? { link: `<${next}>; rel="next"` } : {},
    )
  }

  #entries(): object[] {
    return Object.entries(this.files).map(([path, { content, kind, claims }]) => {
      const size = claims?.size ?? content.length
      if (kind === 'git') return { type: 'file', path, size, oid: claims?.oid ?? gitHash(content) }
      const lfs = { oid: claims?.oid ?? sha256(content), size, pointerSize: 134 }
      return { type: 'file', path, size, oid: '1'.repeat(40), lfs, ...(kind === 'xet' && { xetHash: '2'.repeat(64) }) }
    })
  }

  #resolve(path: string, range: string | undefined, response: ServerResponse): ServerResponse {
    const file = this.files[path]
    response.setHeader('X-Repo-Commit', this.revisions.main)
    if (file.kind === 'git') return this.#content(file, range, response)
    response.setHeader('X-Linked-Size', file.content.length)
    response.setHeader('X-Linked-Etag', `"${sha256(file.content)}"`)
    if (file.kind === 'xet') {
      response.setHeader('X-Xet-Hash', '2'.repeat(64))
      response.setHeader('Link', `<${this.endpoint}/xet>; rel="xet-auth"`)
    }
    return response
      .writeHead(302, { location: `${address(this.#store)}/store/${encodeURI(path)}?signature=secret` })
      .end()
  }

  #content({ content }: HubFile, range: string | undefined, response: ServerResponse): ServerResponse {
    const first = this.ignoresRanges ? 0 : Number(/^bytes=(\d+)-$/.exec(range ?? '')?.[1] ?? 0)
    const partial = range !== undefined && !this.ignoresRanges
    const extent = partial && { 'content-range': `bytes ${first}-${content.length - 1}/${content.length}` }
    const headers = { 'content-length': content.length - first, etag: `"${gitHash(content)}"`, ...extent }
    return response.writeHead(partial ? 206 : 200, headers).end(content.subarray(first))
  }
}

/** Sends the first part of a whole file and then cuts the connection, or keeps silent. */
export function sendHalf(response: ServerResponse, content: Buffer, bytes: number, then: 'cut' | 'stall'): true {
  response.writeHead(200, { 'content-length': content.length })
  response.write(content.subarray(0, bytes), () => then === 'cut' && setTimeout(() => response.destroy(), 20))
  return true
}

export function refuse(response: ServerResponse, status: number, code: string, headers: object = {}): ServerResponse {
  return json(response, { error: code }, { 'X-Error-Code': code, ...headers }, status)
}

function json(response: ServerResponse, body: unknown, headers: object = {}, status = 200): ServerResponse {
  return response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body))
}

function address(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

export function sha256(content: Buffer): string {
  return createHash('sha256').update(content).digest('hex')
}

/** As `git hash-object` gives it. */
export function gitHash(content: Buffer): string {
  return createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex')
}
