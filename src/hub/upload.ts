/** Files as one commit of a model repository: what is there already is not sent again, so a stopped upload goes on. */
import { fileURLToPath } from 'node:url'
// The protocol of uploads (which files are large, where they go, in how many parts, the commit) is the hub's own and changes
// with it: its client library follows.
import { commitIter, createRepo, HubApiError } from '@huggingface/hub'
import { fetch as request } from 'undici'
import { ArgumentError, FireError, HubError, isAbort, throwIfAborted } from '../errors.js'
import { connectionError } from '../http/failure.js'
import { wayTo } from '../http/proxy.js'
import { passingStatus, type RetrySettings } from '../http/retry.js'
import { redact } from '../secrets.js'
import type { HubAccess } from './access.js'
import { HubClient } from './client.js'
import { compareFile, isExpected, type RemoteFile, startHash } from './files.js'

/** A file to send. */
export interface LocalFile {
  /** In the repository, with forward slashes. */
  path: string
  size: number
  /** A file of this machine, or its bytes. */
  content: URL | Uint8Array
}

/** What is sent where. */
export interface UploadOptions {
  /** `owner/name`; made when it does not exist. */
  repo: string
  files: readonly LocalFile[]
  /** Of the commit. */
  title: string
  /** Whether a repository that is made can be seen by everybody. */
  isPublic: boolean
  access: HubAccess
  retry?: Partial<RetrySettings>
  signal?: AbortSignal
  /** Bytes of the files that are sent. */
  onProgress?: (done: number, total: number) => void
  onLog?: (line: string) => void
}

/** What is in the repository now. */
export interface UploadReport {
  repo: string
  url: string
  /** The new commit; the one that was there when nothing had to be sent. */
  commit: string
  sent: string[]
  /** Whether the repository was made. */
  created: boolean
}

/** A hub that has not answered a question in this time will not. */
const longestAnswerMs = 300_000

/**
 * Sends files in one commit, which is there whole or not at all.
 * @throws {HubError} with a remedy. @throws {ArgumentError} without a token.
 */
export async function upload(options: UploadOptions): Promise<UploadReport> {
  const { repo, files, title, isPublic, access, onLog, onProgress } = options
  const { endpoint, token } = access
  const signal = options.signal ?? new AbortController().signal
  if (!token) {
    throw new ArgumentError('There is no token to write with', {
      hint: `Make one with the right to write at ${endpoint}/settings/tokens and put it into HF_TOKEN.`,
    })
  }
  const retry = { retries: 6, delayMs: 1000, ...options.retry }
  const client = new HubClient(repo, access, { retry, signal, onRetry: (line) => onLog?.(line) })
  const common = { repo: { type: 'model', name: repo } as const, hubUrl: endpoint, accessToken: token.value }
  const patiently = <T>(task: () => Promise<T>, progressed?: () => boolean): Promise<T> =>
    client.retrying(() => task().catch((error) => failed(error, repo, access, signal)), progressed)
  const fetch = fetchFrom(access, repo, signal)

  const parentCommit = await existing(client)
  const visibility = isPublic ? 'public' : 'private'
  const created = parentCommit === undefined && (await patiently(() => make({ ...common, visibility, fetch })))
  if (created) onLog?.(`${repo} is new, and ${visibility}`)
  const there = parentCommit === undefined ? [] : await client.list(parentCommit)
  const missing: LocalFile[] = []
  for (const file of files) if (!(await isThere(file, there, signal))) missing.push(file)
  const url = `${endpoint}/${repo}`
  if (missing.length === 0 && parentCommit !== undefined) return { repo, url, commit: parentCommit, sent: [], created }

  const total = missing.reduce((sum, { size }) => sum + size, 0)
  const shares = new Map<string, number>()
  const done = (): number => missing.reduce((sum, { path, size }) => sum + (shares.get(path) ?? 0) * size, 0)
  let reached = 0
  const moved = (): boolean => {
    const before = reached
    reached = Math.max(reached, done())
    return reached > before
  }
  const commit = await patiently(async () => {
    const operations = missing.map(({ path, content }) => ({
      operation: 'addOrUpdate' as const,
      path,
      content: content instanceof URL ? content : new Blob([content as Uint8Array<ArrayBuffer>]),
    }))
    const work = commitIter({ ...common, title, operations, parentCommit, fetch, abortSignal: signal })
    for (;;) {
      const { value, done: isLast } = await work.next()
      if (isLast) return value?.commit.oid ?? ''
      if (value.event !== 'fileProgress' || value.state !== 'uploading') continue
      shares.set(value.path, Math.max(shares.get(value.path) ?? 0, value.progress))
      onProgress?.(done(), total)
    }
  }, moved)
  onProgress?.(total, total)
  return { repo, url, commit, sent: missing.map(({ path }) => path), created }
}

/** The commit of its main branch; undefined where there is no repository, or nothing in it. */
async function existing(client: HubClient): Promise<string | undefined> {
  return client.resolveCommit('main').catch((error) => {
    const code = error instanceof HubError ? error.detail.code : undefined
    if (code === 'RepoNotFound' || code === 'RevisionNotFound') return undefined
    throw error
  })
}

/** @returns whether it was made; one that is there stays as it is. */
async function make(options: Parameters<typeof createRepo>[0]): Promise<boolean> {
  try {
    await createRepo(options)
    return true
  } catch (error) {
    if (error instanceof HubApiError && error.statusCode === 409) return false
    throw error
  }
}

async function isThere({ path, size, content }: LocalFile, there: RemoteFile[], signal: AbortSignal): Promise<boolean> {
  const remote = there.find((file) => file.path === path)
  if (remote?.size !== size) return false
  if (content instanceof URL) return (await compareFile(fileURLToPath(content), remote, { signal })) === 'same'
  return isExpected(startHash(remote).update(content), remote)
}

/** The token goes to the hub's own origin only, and no redirect is followed with a body. */
function fetchFrom({ endpoint, token }: HubAccess, repo: string, signal: AbortSignal): typeof fetch {
  const home = new URL(endpoint).origin
  const ask = async (input: string | URL, init: Parameters<typeof request>[1] = {}): Promise<unknown> => {
    const place = new URL(input)
    const headers = new Headers(init.headers as Record<string, string>)
    const isOurs = headers.get('authorization') === `Bearer ${token?.value}`
    if (isOurs && place.origin !== home) headers.delete('authorization')
    // The bytes of a large file may take hours; words may not.
    const ends = typeof init.body === 'string' ? [signal, AbortSignal.timeout(longestAnswerMs)] : [signal]
    try {
      const response = await request(place, {
        ...init,
        headers: [...headers],
        dispatcher: wayTo(place),
        redirect: 'manual',
        signal: AbortSignal.any(ends),
      })
      const passing = passingStatus(response, `${repo}: sending`)
      if (!passing) return response
      await response.body?.cancel()
      throw passing
    } catch (error) {
      throwIfAborted(signal)
      throw connectionError(error, `${repo}: sending`, place, HubError)
    }
  }
  return ask as typeof fetch
}

/** What the hub's library throws, as an error of ours. */
function failed(error: unknown, repo: string, { endpoint, token }: HubAccess, signal: AbortSignal): never {
  if (error instanceof FireError || isAbort(error, signal) || !(error instanceof HubApiError)) throw error
  const { statusCode: status } = error
  const said = redact(String(error.data?.error ?? error.data?.message ?? '')).slice(0, 300)
  const detail = { repo, status, said }
  const fail = (message: string, hint: string): never => {
    throw new HubError(`${repo}: ${message}${said === '' ? '' : `: ${said}`}`, { detail, hint, cause: error })
  }
  if (status === 401 || status === 403) {
    const where = `${endpoint}/settings/tokens`
    return fail(
      `the token from ${token?.source} may not write there`,
      `Give it the right to write to ${repo.split('/')[0]} at ${where}.`,
    )
  }
  if (status === 409 || status === 412) {
    return fail('somebody else changed it meanwhile', 'Run the same command again: what was sent is not sent again.')
  }
  if (status >= 300 && status < 400) return fail('it has moved', `Look at ${endpoint}/${repo} for its new name.`)
  return fail(`the hub answered ${status}`, 'Nothing of it is visible: a commit is there whole or not at all.')
}
