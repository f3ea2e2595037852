/**
 * One writer an output. The lock is a file beside what is written (or in the folder that is filled), made only where there is
 * none, with its owner inside: no help of the file system is needed. What a killed process left is taken over.
 */
import { randomBytes } from 'node:crypto'
import { closeSync, openSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeSync } from 'node:fs'
import { readdir, realpath, rmdir, stat } from 'node:fs/promises'
import { hostname } from 'node:os'
import { basename, dirname, join, resolve, sep } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { threadId } from 'node:worker_threads'
import { z } from 'zod'
import { ArgumentError, FileError, fileError, LockedError } from '../errors.js'
import { followLinks, ignoreMissing, makeFolder, refuseOtherKind, removeTemporaries } from './files.js'
import { type Standing, standingOf, thisOwner } from './owner.js'

/** What is written: a file, a folder whose files are written one by one, or a folder that is replaced as a whole. */
export type OutputForm = 'file' | 'folder' | 'whole folder'

const suffix = '.fire-train.lock'

const holderSchema = z.strictObject({
  pid: z.number().int(),
  /** Of the worker in that process; 0 for its main thread. */
  thread: z.number().int().optional(),
  host: z.string(),
  since: z.string(),
  owner: z.string(),
  /** No other lock has it. */
  token: z.string(),
})

type Holder = z.output<typeof holderSchema>

interface FoundLock {
  token: string
  standing: Standing
  /** Missing where the file is damaged. */
  holder?: Holder
}

/** Tokens of the locks of this process, by the path of the lock. */
const held = new Map<string, string>()

/** A lock is touched so often while it is held, in milliseconds. */
const pulse = 60_000

/** A lock of an owner out of sight that is not touched for so long is that of a dead one: a container that was killed, another machine. */
const silence = 10 * pulse

let pulsing: NodeJS.Timeout | undefined

/** From the first lock of this process on, to the last one. */
function keepPulse(): void {
  if (held.size === 0) {
    process.off('exit', removeHeld)
    clearInterval(pulsing)
    pulsing = undefined
  } else if (pulsing === undefined) {
    process.on('exit', removeHeld)
    pulsing = setInterval(touchHeld, pulse).unref()
  }
}

function touchHeld(): void {
  const now = new Date()
  for (const [lock, token] of held) {
    try {
      if (parseHolder(readLock(lock) ?? '')?.token === token) utimesSync(lock, now, now)
    } catch {
      // Deleted by hand, or the disk is away for a moment: the work goes on, and the next minute tries again.
    }
  }
}

/**
 * Reserves an output until the result is disposed of, and deletes what killed processes left of it. Missing folders are made.
 * Declare it with `await using`. Reading needs no lock.
 * @param inputs files and folders that are read meanwhile: the output may not replace them.
 * @throws {LockedError} when another run writes there, in this process or elsewhere.
 * @throws {FileError} when nothing can be written there; {ArgumentError} when it would replace an input.
 */
export async function lockOutput(
  path: string,
  form: OutputForm,
  inputs: readonly string[] = [],
): Promise<AsyncDisposable> {
  const target = await followLinks(resolve(path))
  await refuseOtherKind(target, form === 'file' ? 'file' : 'folder')
  await refuseInputs(target, inputs)
  const lock = lockOf(target, form)
  const folder = dirname(lock)
  const made = await takeIn(folder, lock, path)
  try {
    if (form === 'whole folder') await refuseMount(target)
    await removeTemporaries(folder)
  } catch (error) {
    await release(lock, folder, made)
    throw error
  }
  return { [Symbol.asyncDispose]: () => release(lock, folder, made) }
}

const lockOf = (target: string, form: OutputForm): string =>
  form === 'folder' ? join(target, suffix) : join(dirname(target), `.${basename(target)}${suffix}`)

/** What tells the lock that an output has now, here, from every other; null where it has none. */
export async function tokenOf(path: string, form: OutputForm): Promise<string | null> {
  return parseHolder(readLock(lockOf(await followLinks(resolve(path)), form)) ?? '')?.token ?? null
}

/** Names of the outputs in a folder that are reserved, each as one file, by runs that may be alive. */
export async function heldOutputs(folder: string): Promise<string[]> {
  const locks = (await readdir(folder)).filter((name) => name.startsWith('.') && name.endsWith(suffix))
  const held: string[] = []
  for (const name of locks) {
    const found = await find(join(folder, name))
    if (found && found.standing !== 'gone') held.push(name.slice(1, -suffix.length))
  }
  return held
}

/** @throws {ArgumentError} when an input is what will be written, or lies in it. */
export async function refuseInputs(target: string, inputs: readonly string[]): Promise<void> {
  const real = await realpath(target).catch(ignoreMissing)
  if (real === undefined) return
  for (const input of inputs) {
    const read = await realpath(input).catch(ignoreMissing)
    if (read === real || read?.startsWith(`${real}${sep}`)) {
      throw new ArgumentError(`${target} would be overwritten, and ${input} is read from it`, {
        detail: { path: target, input },
        hint: 'Name another output.',
      })
    }
  }
}

/** Another folder cannot take the name of a mount point, and that would be said after all the work. */
async function refuseMount(target: string): Promise<void> {
  const about = await stat(target).catch(ignoreMissing)
  if (about === undefined || about.dev === (await stat(dirname(target))).dev) return
  throw new FileError(`${target} is a mount point and cannot be replaced as a whole`, {
    detail: { path: target },
    hint: 'Name a folder below it.',
  })
}

/** Resolves with the outermost folder that was made. */
async function takeIn(folder: string, lock: string, path: string): Promise<string | undefined> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      const made = await makeFolder(folder)
      await take(lock, path)
      return made
    } catch (error) {
      const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT'
      if (!isMissing) throw fileError(error, 'Writing', path)
      // The folder may have been removed by a run that made it and ended just now.
      if (attempt > 9)
        throw new FileError(`${folder} takes no files`, { hint: 'Name an output on a disk.', cause: error })
    }
  }
}

async function take(lock: string, path: string): Promise<void> {
  while (!create(lock)) {
    const found = await find(lock)
    if (found === undefined) continue
    if (found.standing !== 'gone') throw locked(path, lock, found)
    // Several may find the same dead owner. The lock named after it lets one of them on, and moves into its place.
    const claim = `${lock}.${found.token}`
    await take(claim, path)
    if ((await find(lock))?.token !== found.token) remove(claim)
    else {
      renameSync(claim, lock)
      held.set(lock, held.get(claim) as string)
      held.delete(claim)
      return
    }
  }
}

/** False when there is such a lock. */
function create(lock: string): boolean {
  const token = randomBytes(4).toString('hex')
  const since = new Date().toISOString()
  const holder: Holder = { pid: process.pid, thread: threadId, host: hostname(), since, owner: thisOwner(), token }
  let file: number
  try {
    file = openSync(lock, 'wx')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
  try {
    writeSync(file, `${JSON.stringify(holder)}\n`)
  } catch (error) {
    rmSync(lock, { force: true })
    throw error
  } finally {
    closeSync(file)
  }
  // Whoever found it empty for too long has taken it for damaged.
  if (parseHolder(readLock(lock) ?? '')?.token !== token) return false
  held.set(lock, token)
  keepPulse()
  return true
}

/** Undefined when there is no lock. */
async function find(lock: string): Promise<FoundLock | undefined> {
  // Between its making and its writing a lock is empty for a moment; one that stays so has lost its owner in between.
  for (let attempt = 0; attempt < 10; attempt += 1) {
    const text = readLock(lock)
    if (text === undefined) return undefined
    const holder = parseHolder(text)
    if (holder) return { token: holder.token, standing: standingAt(lock, holder), holder }
    await setTimeout(50)
  }
  return { token: 'damaged', standing: 'gone' }
}

/** Machines that share a folder agree on the time to a few minutes. */
function standingAt(lock: string, { owner }: Holder): Standing {
  const standing = standingOf(owner)
  if (standing !== 'unknown') return standing
  const touched = statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? 0
  return Date.now() - touched > silence ? 'gone' : 'unknown'
}

function parseHolder(text: string): Holder | undefined {
  try {
    return holderSchema.parse(JSON.parse(text))
  } catch {
    return undefined
  }
}

function readLock(lock: string): string | undefined {
  try {
    return readFileSync(lock, 'utf8')
  } catch (error) {
    return ignoreMissing(error as NodeJS.ErrnoException)
  }
}

function locked(path: string, lock: string, { standing, holder }: FoundLock): LockedError {
  const { pid, thread = 0, host, since } = holder as Holder
  const where = standing === 'alive' && pid === process.pid ? 'this process' : `process ${pid} on ${host}`
  const who = thread === 0 ? where : `worker ${thread} of ${where}`
  const terminated = thread === 0 ? '' : ` If that worker was terminated, delete ${lock}.`
  return new LockedError(`${path} is being written by ${who} since ${since}`, {
    detail: { path, lock, pid, thread, host, since },
    hint:
      standing === 'alive'
        ? `Wait until it has ended, stop it, or name another output.${terminated}`
        : `Whether that process still runs cannot be seen from here; silent for 10 minutes it counts as ended. If you know that it has, delete ${lock}.`,
  })
}

/** Gives the lock back, and takes away the folders that were made for it and stayed empty. */
async function release(lock: string, folder: string, made: string | undefined): Promise<void> {
  remove(lock)
  if (made === undefined) return
  for (let at = folder; at.startsWith(made); at = dirname(at)) {
    if (
      !(await rmdir(at).then(
        () => true,
        () => false,
      ))
    )
      return
  }
}

/** What someone deleted by hand may be another's by now. */
function remove(lock: string): void {
  const token = held.get(lock)
  held.delete(lock)
  keepPulse()
  if (parseHolder(readLock(lock) ?? '')?.token === token) rmSync(lock, { force: true })
}

/** A process that leaves at once, for instance on a second Ctrl-C, disposes of nothing. */
function removeHeld(): void {
  for (const lock of [...held.keys()]) remove(lock)
}
