/** The files of a repository: which of them a model folder needs, which names are safe, what their hashes mean. */
import { createHash, type Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { lstat, stat } from 'node:fs/promises'
import { join } from 'node:path'
// The glob matcher under most build tools: no dependencies, and one function is all that is needed.
import picomatch from 'picomatch'
import { ignoreMissing } from '../data/files.js'
import { ArgumentError, FileError, fileError, guarded, HubError, isAbort } from '../errors.js'

/** A file of a repository on the hub. */
export interface RemoteFile {
  /** From the root of the repository, with forward slashes. */
  path: string
  size: number
  /** `sha256:…` of the content for large files, `git-sha1:…` of the git blob for those that git itself holds. */
  hash: string
}

/** What a model folder consists of. Weights in other formats, training leftovers and pictures stay behind. */
export const modelFiles: readonly string[] = [
  'config*.json',
  'generation_config.json',
  '*processor_config.json',
  'tokenizer*',
  'special_tokens_map.json',
  'added_tokens.json',
  'chat_template*',
  'vocab*',
  'merges.txt',
  '*.safetensors',
  '*.safetensors.index.json',
  // HuatuoGPT-Vision describes its image tower here; the trained weights of the tower are in the shards of the model.
  'vit/**/*.json',
  '{LICENSE,LICENCE,NOTICE,README}*',
]

/** Files that an error names. */
const mostNamed = 20

export interface Selection {
  files: RemoteFile[]
  leftOut: RemoteFile[]
}

/**
 * @throws {HubError} when a pattern that was asked for matches nothing, or the default finds no weights.
 * @throws {ArgumentError} for what is no pattern.
 */
export function selectFiles(repo: string, listing: readonly RemoteFile[], include?: readonly string[]): Selection {
  for (const pattern of include ?? []) {
    const matches = guarded(
      () => picomatch(pattern, { dot: true }),
      (reason, cause) => new ArgumentError(`--include ${JSON.stringify(pattern)}: ${reason}`, { cause }),
    )
    if (!listing.some(({ path }) => matches(path))) {
      const hint = "Patterns are matched from the root of the repository: '**/*.json' reaches into its folders."
      throw new HubError(`No file of ${repo} matches ${pattern}`, { detail: { repo, pattern }, hint })
    }
  }
  if (!include && !listing.some(({ path }) => picomatch.isMatch(path, '*.safetensors'))) {
    const names = listing.slice(0, mostNamed).map(({ path }) => path)
    const more = listing.length > mostNamed ? ` and ${listing.length - mostNamed} more` : ''
    throw new HubError(`${repo} has no safetensors weights: ${names.join(', ') || 'no files'}${more}`, {
      detail: { repo },
      hint: 'Name a repository with safetensors weights, or say with --include which files you want.',
    })
  }
  const wanted = picomatch([...(include ?? modelFiles)], { dot: true })
  return {
    files: listing.filter(({ path }) => wanted(path)),
    leftOut: listing.filter(({ path }) => !wanted(path)),
  }
}

/** What the download itself writes; a repository may not claim these names. */
const reserved = /^fire-train\.pull\.json$|\.part$/i

/** Whether a name from outside stays inside the folder it is joined to, on every system. */
export function isSafePath(path: string): boolean {
  const parts = path.split('/')
  return (
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for.
    !/[\\:\0-\x1f\x7f-\x9f]/.test(path) &&
    !reserved.test(path) &&
    parts.every((part) => !['', '.', '..'].includes(part))
  )
}

/** Refuses to write through a symbolic link: it could lead out of the folder. */
export async function refuseLinks(folder: string, path: string): Promise<void> {
  const parts = path.split('/')
  for (let depth = 1; depth <= parts.length; depth += 1) {
    const place = join(folder, ...parts.slice(0, depth))
    const found = await lstat(place).catch(ignoreMissing)
    if (found?.isSymbolicLink()) {
      const hint = 'Remove the link, or choose another folder with --out.'
      throw new FileError(`${place} is a symbolic link; nothing is written through it`, {
        detail: { path: place },
        hint,
      })
    }
  }
}

/** A hash that has taken in nothing of the file's content yet. */
export function startHash({ hash, size }: RemoteFile): Hash {
  return hash.startsWith('sha256:') ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`)
}

/** Whether a hash that has taken in everything is the announced one. */
export function isExpected(running: Hash, { hash }: RemoteFile): boolean {
  return running.digest('hex') === hash.slice(hash.indexOf(':') + 1)
}

/** What lies at `path`: nothing, this very file (`trustSize`: or one of its size), or something else. */
export async function compareFile(
  path: string,
  file: RemoteFile,
  { trustSize = false, signal }: { trustSize?: boolean; signal?: AbortSignal } = {},
): Promise<'absent' | 'same' | 'different'> {
  const found = await stat(path).catch(ignoreMissing)
  if (!found) return 'absent'
  if (!found.isFile() || found.size !== file.size) return 'different'
  if (trustSize) return 'same'
  const running = startHash(file)
  try {
    for await (const chunk of createReadStream(path, { signal })) running.update(chunk as Buffer)
  } catch (error) {
    throw isAbort(error, signal) ? error : fileError(error, 'Reading', path)
  }
  return isExpected(running, file) ? 'same' : 'different'
}
