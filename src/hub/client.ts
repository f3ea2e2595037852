/** Requests to the hub: the token, retries with back-off, and answers that are refusals turned into errors with a remedy. */
// The hub's own client knows addresses and paging; its downloads cannot resume and check no hashes, so those are ours.
import { listFiles, modelInfo } from '@huggingface/hub'
import { FireError, HubError } from '../errors.js'
import { passingStatus, type RetrySettings, retrying } from '../http/retry.js'
import { redact } from '../secrets.js'
import type { HubAccess } from './access.js'
import type { RemoteFile } from './files.js'
import { ask, type Received } from './request.js'

interface HubOptions {
  retry: RetrySettings
  signal: AbortSignal
  onRetry: (message: string) => void
}

/** Default for a server that says nothing. */
const usualSilenceMs = 60_000

/** Bytes of one answer about a repository: a page has a thousand files of some three hundred bytes. */
const largestAnswer = 2 ** 25
/** The largest model repositories have some thousand files. */
const mostFiles = 100_000
const mostPages = 1000

export class HubClient {
  readonly repo: string
  readonly #access: HubAccess
  readonly #options: HubOptions

  constructor(repo: string, access: HubAccess, options: HubOptions) {
    this.repo = repo
    this.#access = access
    this.#options = options
  }

  /** The commit that a branch, tag or commit stands for now. */
  async resolveCommit(revision: string): Promise<string> {
    const { sha } = await this.#ask(revision, (common) =>
      modelInfo({ ...common, name: this.repo, revision, additionalFields: ['sha'] }),
    )
    if (/^[0-9a-f]{40}$/.test(sha ?? '')) return sha
    throw new HubError(`${this.#access.endpoint} names no commit for ${this.repo} at ${revision}`, {
      detail: { repo: this.repo, revision, received: sha },
    })
  }

  /** Every file of a commit, names as the server gives them. */
  async list(commit: string): Promise<RemoteFile[]> {
    return await this.#ask(commit, async (common) => {
      const files: RemoteFile[] = []
      let entries = 0
      const repo = { type: 'model', name: this.repo } as const
      for await (const entry of listFiles({ ...common, repo, revision: commit, recursive: true })) {
        if (++entries > mostFiles) throw tooMuch(this.repo, `more than ${mostFiles} files`)
        const { type, path, size, oid, lfs } = entry
        if (type === 'directory') continue
        files.push({ path, size: lfs?.size ?? size, hash: lfs ? `sha256:${lfs.oid}` : `git-sha1:${oid}` })
      }
      return files
    })
  }

  /** Where a file of a commit is downloaded, whatever store it lies in. */
  fileUrl(commit: string, path: string): string {
    return `${this.#access.endpoint}/${this.repo}/resolve/${commit}/${path.split('/').map(encodeURIComponent).join('/')}`
  }

  /**
   * One request. The token goes to the hub's own origin only.
   * @param allowed a status that is an answer too.
   * @throws {TransientError} for what a retry may mend, {HubError} for everything else that is no success.
   */
  async request(url: string, what: string, headers: Record<string, string> = {}, allowed?: number): Promise<Received> {
    const { endpoint, token, silenceMs = usualSilenceMs } = this.#access
    const { signal } = this.#options
    const received = await ask(url, endpoint, what, { headers, token: token?.value, signal, silenceMs })
    const { status } = received
    if ((status >= 200 && status < 300) || status === allowed) return received
    await received.cancel()
    throw passingStatus(received, what) ?? refusal(this.repo, this.#access, received, what)
  }

  /**
   * Runs `task` until it succeeds, fails for good, or fails too often in a row.
   * @param progressed whether the attempt that just failed moved on: it is then not counted.
   */
  retrying<T>(task: () => Promise<T>, progressed?: () => boolean): Promise<T> {
    const { retry, signal, onRetry } = this.#options
    const hint = 'Run the same command again later: it goes on where it stopped.'
    return retrying(task, {
      ...retry,
      signal,
      onRetry,
      progressed,
      giveUp: (message, { detail, cause }) =>
        new HubError(message, { detail: { repo: this.repo, ...detail }, hint, cause }),
    })
  }

  /** A call of the hub's client library with our way of fetching. */
  async #ask<T>(revision: string, call: (common: { hubUrl: string; fetch: typeof fetch }) => Promise<T>): Promise<T> {
    const what = `${this.repo} at ${revision}`
    const seen = new Set<string>()
    const retriedFetch: typeof fetch = (input) => {
      const url = String(input)
      if (seen.has(url) || seen.size >= mostPages)
        throw tooMuch(this.repo, `more than ${mostPages} pages, or one twice`)
      seen.add(url)
      return this.retrying(async () => {
        const { status, headers, body } = await this.request(url, what, { accept: 'application/json' })
        // Read here, so that an answer that is cut off is asked for again.
        const chunks: Uint8Array[] = []
        let bytes = 0
        for await (const chunk of body()) {
          bytes += chunk.length
          if (bytes > largestAnswer) throw tooMuch(this.repo, `an answer of more than ${largestAnswer} bytes`)
          chunks.push(chunk)
        }
        return new Response(Buffer.concat(chunks), { status, headers: { link: headers.get('link') ?? '' } })
      })
    }
    try {
      return await call({ hubUrl: this.#access.endpoint, fetch: retriedFetch })
    } catch (error) {
      if (error instanceof FireError || this.#options.signal.aborted) throw error
      const message = `${what}: ${this.#access.endpoint} answered something that is no answer of a model hub`
      throw new HubError(message, {
        detail: { repo: this.repo },
        hint: 'Check HF_ENDPOINT and the network.',
        cause: error,
      })
    }
  }
}

function tooMuch(repo: string, what: string): HubError {
  return new HubError(`${repo}: the hub lists ${what}`, { detail: { repo }, hint: 'Check HF_ENDPOINT.' })
}

function refusal(repo: string, { endpoint, token }: HubAccess, { status, headers }: Received, what: string): HubError {
  const code = headers.get('x-error-code')
  const detail = { repo, status, code, said: redact(headers.get('x-error-message') ?? '') }
  const give = 'put a token of that account into HF_TOKEN (or name another variable with --key-env)'
  const error = (message: string, hint: string): HubError => new HubError(message, { detail, hint })
  if (code === 'GatedRepo') {
    const page = `${endpoint}/${repo}`
    return token
      ? error(`${repo} is gated, and the token from ${token.source} has no access`, `Ask for access at ${page}.`)
      : error(`${repo} is gated`, `Accept its terms at ${page}, then ${give}.`)
  }
  if (code === 'RevisionNotFound') {
    return error(`${what}: there is no such revision`, 'Give a branch, a tag or a whole commit id with --revision.')
  }
  if (code === 'EntryNotFound') return error(`${what}: there is no such file`, 'Run the command again.')
  if (status === 401 && token && code !== 'RepoNotFound') {
    return error(
      `The hub does not accept the token from ${token.source}`,
      `Make a new one at ${endpoint}/settings/tokens.`,
    )
  }
  if (status === 401 || status === 404) {
    return error(
      `${repo} does not exist at ${endpoint}, or is private`,
      `Check the spelling; if it is private, ${give}.`,
    )
  }
  if (status === 403) {
    return error(
      `${what}: access denied`,
      token ? `Give the token from ${token.source} the right to read it.` : `If it is private, ${give}.`,
    )
  }
  return error(`${what}: the server answered ${status}`, 'Check HF_ENDPOINT and the network.')
}
