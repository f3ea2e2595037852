/** Fills a folder with the files of one commit of a model repository. */
import { stat, statfs } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
// Bounds how many downloads run at once; the queue everyone uses.
import pLimit from 'p-limit'
import { lockOutput } from '../data/lock.js'
import { AbortedError, ArgumentError, DiskFullError, FileError, HubError, isAbort, throwIfAborted } from '../errors.js'
import type { RetrySettings } from '../http/retry.js'
import { checkOptions } from '../options.js'
import { type HubAccess, hubAccess } from './access.js'
import { HubClient } from './client.js'
import { diskFullHint, downloadFile, partPath } from './download.js'
import { compareFile, isSafePath, type RemoteFile, refuseLinks, selectFiles } from './files.js'
import { type Manifest, manifestPath, readManifest, writeManifest } from './manifest.js'

/** What is downloaded and where to. */
export interface PullOptions {
  /** As the hub spells it, for instance `Qwen/Qwen3-VL-4B-Instruct`. */
  repo: string
  /** Branch, tag or commit; default: `main`. */
  revision?: string
  /** Default: the name of the repository, in the working folder. */
  out?: string
  /** Globs from the root of the repository instead of what a model folder needs. */
  include?: readonly string[]
  /** Ask nobody; succeed when the folder is complete. Default: `HF_HUB_OFFLINE`. */
  offline?: boolean
  /** Read every file again and compare its hash, also where the manifest says that this was done. */
  verify?: boolean
  /** Replace files that differ from those of the hub. */
  overwrite?: boolean
  /** Default: what the environment says. */
  access?: HubAccess
  /** Downloads at once. */
  parallel?: number
  retry?: Partial<RetrySettings>
  signal?: AbortSignal
  /** Told once what is going to be transferred and then how much is there, in bytes. */
  onProgress?: (done: number, total: number) => void
  onLog?: (line: string) => void
}

const pullKeys: Record<keyof PullOptions, true> = {
  repo: true,
  revision: true,
  out: true,
  include: true,
  offline: true,
  verify: true,
  overwrite: true,
  access: true,
  parallel: true,
  retry: true,
  signal: true,
  onProgress: true,
  onLog: true,
}

/** What is in the folder, and which commit it is. */
export interface PullReport {
  repo: string
  revision: string
  commit: string
  folder: string
  files: RemoteFile[]
  /** How many of the files were transferred; the rest was there. */
  downloaded: number
}

/**
 * Interrupted at any moment, the same call goes on where it stopped, at the same commit.
 * @throws {FireError} with a remedy, {LockedError} when another run fills the folder; files that were in the folder before are as they were.
 */
export async function pull(options: PullOptions): Promise<PullReport> {
  checkOptions('pull', options, pullKeys)
  const { repo, signal } = options
  if (!/^[\w-][\w.-]*(\/[\w-][\w.-]*)?$/.test(repo)) {
    throw new ArgumentError(`Expected a repository such as Qwen/Qwen3-VL-4B-Instruct but received '${repo}'`)
  }
  const access = options.access ?? (await hubAccess())
  const folder = resolve(options.out ?? basename(repo))
  const offline = options.offline ?? access.offline
  await using _lock = offline ? undefined : await lockOutput(folder, 'folder')
  const manifest = await readManifest(folder)
  if (manifest && manifest.repo !== repo && !options.overwrite) {
    const hint = 'Choose another folder with --out, or give --overwrite.'
    throw new FileError(`${folder} holds ${manifest.repo}, not ${repo}`, { detail: { path: folder }, hint })
  }
  try {
    return offline ? await checkFolder(folder, manifest, options) : await fillFolder(folder, manifest, access, options)
  } catch (error) {
    if (!isAbort(error, signal)) throw error
    const hint = 'Run the same command again: it goes on where it stopped.'
    throw new AbortedError(`Stopped while pulling ${repo} into ${folder}`, { hint, cause: error })
  }
}

async function fillFolder(
  folder: string,
  before: Manifest | undefined,
  access: HubAccess,
  options: PullOptions,
): Promise<PullReport> {
  const { repo, revision = 'main', include, verify, overwrite, onLog, onProgress } = options
  // One failure stops the other downloads too.
  const failure = new AbortController()
  const signal = AbortSignal.any([failure.signal, ...(options.signal ? [options.signal] : [])])
  const retry = { retries: 6, delayMs: 1000, ...options.retry }
  const client = new HubClient(repo, access, { retry, signal, onRetry: (message) => onLog?.(message) })

  const begun = before?.repo === repo && before.revision === revision && !before.complete ? before : undefined
  const commit = begun?.commit ?? (await client.resolveCommit(revision))
  const { files, leftOut } = selectFiles(repo, checkNames(repo, await client.list(commit)), include)
  onLog?.(`${repo} at ${commit}: ${files.length} files, ${leftOut.length} others left out`)

  // An unfinished manifest vouches for nothing: its files are compared by hash, and those not asked for now are forgotten.
  const earlier = before?.repo === repo && before.commit === commit && before.complete ? before : undefined
  const trusted = new Map(earlier && !verify ? earlier.files.map((file) => [file.path, file.hash]) : [])
  const missing = await findMissing(folder, files, trusted, { repo, commit, overwrite, signal })
  const begins = await Promise.all(missing.map((file) => partSize(partPath(join(folder, file.path), file))))
  const total = missing.reduce((sum, { size }) => sum + size, 0)
  let done = begins.reduce((sum, bytes) => sum + bytes, 0)
  await refuseSmallDisk(folder, total - done)

  const union = new Map([...(earlier?.files ?? []), ...files].map((file) => [file.path, file]))
  const next: Manifest = {
    repo,
    revision,
    commit,
    complete: false,
    include: mergeIncludes(earlier, include),
    files: [...union.values()],
  }
  if (missing.length > 0) await writeManifest(folder, next)
  onProgress?.(done, total)
  const limit = pLimit(options.parallel ?? 4)
  const downloads = missing.map((file, index) =>
    limit(async () => {
      throwIfAborted(signal)
      let known = begins[index]
      const url = client.fileUrl(commit, file.path)
      await downloadFile(client, url, file, join(folder, file.path), (bytes) => {
        done += bytes - known
        known = bytes
        onProgress?.(done, total)
      })
    }).catch((error) => {
      failure.abort(error)
      throw error
    }),
  )
  await Promise.allSettled(downloads)
  // The first failure, not an abort that followed from it.
  if (failure.signal.aborted) throw failure.signal.reason
  await writeManifest(folder, { ...next, complete: true })
  return { repo, revision, commit, folder, files, downloaded: missing.length }
}

/** Without the network: is everything there that the manifest promises? */
async function checkFolder(folder: string, manifest: Manifest | undefined, options: PullOptions): Promise<PullReport> {
  const { repo, revision, include, verify, signal } = options
  const hint = 'Run the command once without --offline and with HF_HUB_OFFLINE unset.'
  const fail = (message: string): FileError => new FileError(`Offline: ${message}`, { detail: { path: folder }, hint })
  if (!manifest) throw fail(`${manifestPath(folder)} is not there, so ${repo} was not pulled into this folder`)
  if (manifest.repo !== repo) throw fail(`${folder} holds ${manifest.repo}, not ${repo}`)
  if (!manifest.complete) throw fail(`the download of ${repo} into ${folder} was not finished`)
  if (revision !== undefined && revision !== manifest.revision && revision !== manifest.commit) {
    throw fail(`${folder} holds ${repo} at ${manifest.revision} (${manifest.commit}), not at ${revision}`)
  }
  const unknown = include?.filter((pattern) => !manifest.include?.includes(pattern)) ?? []
  if (unknown.length > 0) throw fail(`${folder} was not pulled with --include ${unknown.join(' ')}`)
  for (const file of manifest.files) {
    const state = await compareFile(join(folder, file.path), file, { trustSize: !verify, signal })
    if (state === 'absent') throw fail(`${join(folder, file.path)} is missing`)
    if (state === 'different') throw fail(`${join(folder, file.path)} is not the file that was pulled`)
  }
  const { commit, files } = manifest
  return { repo, revision: manifest.revision, commit, folder, files, downloaded: 0 }
}

/** Names come from a server: one that could leave the folder condemns the whole listing. */
function checkNames(repo: string, listing: RemoteFile[]): RemoteFile[] {
  const seen = new Set<string>()
  for (const { path, size, hash } of listing) {
    const problem = !isSafePath(path)
      ? 'a name that could be written outside the folder'
      : seen.has(path)
        ? 'the same name twice'
        : !Number.isSafeInteger(size) || size < 0 || !/:([0-9a-f]{40}|[0-9a-f]{64})$/.test(hash)
          ? 'a file without size or hash'
          : undefined
    if (problem) {
      const hint = 'Nothing was written. Do not trust this repository, or the server in HF_ENDPOINT.'
      const message = `${repo} lists ${problem}: ${JSON.stringify(path)}`
      throw new HubError(message, { detail: { repo, path }, hint })
    }
    seen.add(path)
  }
  return listing
}

/** The files to download; what is there and right is kept, what is there and different refused. */
async function findMissing(
  folder: string,
  files: RemoteFile[],
  trusted: Map<string, string>,
  {
    repo,
    commit,
    overwrite = false,
    signal,
  }: { repo: string; commit: string; overwrite?: boolean; signal: AbortSignal },
): Promise<RemoteFile[]> {
  const missing: RemoteFile[] = []
  const different: string[] = []
  for (const file of files) {
    const trustSize = trusted.get(file.path) === file.hash
    const state = await compareFile(join(folder, file.path), file, { trustSize, signal })
    if (state === 'same') continue
    if (state === 'different') different.push(file.path)
    await refuseLinks(folder, file.path)
    missing.push(file)
  }
  if (different.length > 0 && !overwrite) {
    const message = `${folder} has files that differ from ${repo} at ${commit}: ${different.join(', ')}`
    const hint = 'Choose another folder with --out, or replace them with --overwrite.'
    throw new FileError(message, { detail: { path: folder, different }, hint })
  }
  return missing
}

async function partSize(path: string): Promise<number> {
  return (await stat(path).catch(() => undefined))?.size ?? 0
}

/** Better now than after ten gigabytes. */
async function refuseSmallDisk(folder: string, needed: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder)
  const free = bavail * bsize
  if (needed <= free) return
  const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`
  throw new DiskFullError(`${folder}: ${gigabytes(needed)} are to be downloaded and ${gigabytes(free)} are free`, {
    detail: { path: folder, needed, free },
    hint: diskFullHint,
  })
}

function mergeIncludes(earlier: Manifest | undefined, include: readonly string[] | undefined): string[] | null {
  if (!earlier) return include ? [...include] : null
  const patterns = [...new Set([...(earlier.include ?? []), ...(include ?? [])])]
  return patterns.length > 0 ? patterns : null
}
