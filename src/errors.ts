/**
 * Every error a caller can act on. `code` is stable and machine-readable, `detail` holds the facts (path, line, record,
 * bytes), `hint` says what to do. Native errors arrive with the same codes and become the same classes.
 */
import { statfsSync } from 'node:fs'
import { constants } from 'node:os'
import { dirname, resolve } from 'node:path'

/** Every code there is, in TypeScript and in C++ (native/tensor/error.h); docs/errors.md says what each means. */
export const errorCodes = [
  'ERR_FIRE_ABORTED',
  'ERR_FIRE_BENCH',
  'ERR_FIRE_CHECKPOINT',
  'ERR_FIRE_CHECKSUM',
  'ERR_FIRE_CLOSED',
  'ERR_FIRE_CONFIG',
  'ERR_FIRE_CUDA',
  'ERR_FIRE_DATA',
  'ERR_FIRE_DISK_FULL',
  'ERR_FIRE_EDIT',
  'ERR_FIRE_ENDPOINT',
  'ERR_FIRE_HUB',
  'ERR_FIRE_INTERNAL',
  'ERR_FIRE_INVALID_ARGUMENT',
  'ERR_FIRE_IO',
  'ERR_FIRE_LOCKED',
  'ERR_FIRE_MODEL',
  'ERR_FIRE_NATIVE_BINDING',
  'ERR_FIRE_NONFINITE',
  'ERR_FIRE_NO_DEVICE',
  'ERR_FIRE_OUT_OF_MEMORY',
  'ERR_FIRE_RANKS',
  'ERR_FIRE_SEGMENTER',
  'ERR_FIRE_SELF_CHECK',
  'ERR_FIRE_TRAINING',
  'ERR_FIRE_UNSUPPORTED',
] as const

/** One of `errorCodes`: stable, and what a program should tell errors apart by. */
export type ErrorCode = (typeof errorCodes)[number]

/** The facts of an error, for programs: `path`, `line`, `id`, `status`, … as far as they apply. */
export type ErrorDetail = Record<string, unknown>

/** What an error carries beside its message. */
export interface FireErrorOptions {
  detail?: ErrorDetail
  /** What the reader should do about it, one sentence. */
  hint?: string
  cause?: unknown
}

/** Each code is a class of its own, so that `instanceof` and `code` say the same. */
export abstract class FireError extends Error {
  declare static readonly code: ErrorCode
  /** Where the one who throws has nothing better to say. */
  declare static readonly hint?: string

  readonly code: ErrorCode
  readonly detail: ErrorDetail
  readonly hint: string | undefined

  constructor(message: string, { detail = {}, hint = new.target.hint, cause }: FireErrorOptions = {}) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = new.target.name
    this.code = new.target.code
    this.detail = detail
    this.hint = hint
  }
}

/** A setting is wrong: an unknown key, a value out of range, one that another setting rules out. */
export class ConfigError extends FireError {
  static override readonly code = 'ERR_FIRE_CONFIG'
}

/** A record, text or image on disk cannot be used as it is. The message starts with `file:line: record id:`. */
export class DataError extends FireError {
  static override readonly code = 'ERR_FIRE_DATA'
}

/** An argument of a library call has the wrong type or value. */
export class ArgumentError extends FireError {
  static override readonly code = 'ERR_FIRE_INVALID_ARGUMENT'
}

/** The compiled addon is missing or does not load. */
export class NativeBindingError extends FireError {
  static override readonly code = 'ERR_FIRE_NATIVE_BINDING'
}

/** The tokenizer or chat template of a model folder cannot be used. */
export class ModelError extends FireError {
  static override readonly code = 'ERR_FIRE_MODEL'
}

/** A training checkpoint is missing, incomplete, or belongs to another configuration. */
export class CheckpointError extends FireError {
  static override readonly code = 'ERR_FIRE_CHECKPOINT'
}

/** Something valid that this engine does not implement: an architecture, a tensor type, a kind of adapter. */
export class UnsupportedError extends FireError {
  static override readonly code = 'ERR_FIRE_UNSUPPORTED'
}

/** A weight, loss or gradient is not finite. Adapter and checkpoints are as they were before the step. */
export class NumericError extends FireError {
  static override readonly code = 'ERR_FIRE_NONFINITE'
}

/** Before the first step something does not hold that must: rewards or KL of an untrained adapter are not 0, an image has other rows than placeholders. */
export class SelfCheckError extends FireError {
  static override readonly code = 'ERR_FIRE_SELF_CHECK'
}

/** A training run came to its end and taught nothing: its gradient was 0, or its loss diverged (docs/training.md). */
export class TrainingError extends FireError {
  static override readonly code = 'ERR_FIRE_TRAINING'
}

/** Memory ran out. `detail` has the bytes asked for and, where known, the bytes free. */
export class OutOfMemoryError extends FireError {
  static override readonly code = 'ERR_FIRE_OUT_OF_MEMORY'
  static override readonly hint =
    'Use dtype: bf16, or take less at a time: microBatchSize and checkpointing: true in training, batchSize for answers.'
}

/** The call was cancelled by its signal; `cause` is the signal's reason. */
export class AbortedError extends FireError {
  static override readonly code = 'ERR_FIRE_ABORTED'

  constructor(message = 'The operation was aborted', options?: FireErrorOptions) {
    super(message, options)
  }
}

/** What a signal that fired ends a call with: always this class, whatever the signal's own reason, which is its `cause`. */
export function abortedBy({ reason }: AbortSignal): AbortedError {
  if (reason instanceof AbortedError) return reason
  const isTimeout = (reason as Error | null)?.name === 'TimeoutError'
  return new AbortedError(isTimeout ? 'The time for it ran out' : undefined, { cause: reason })
}

/** @throws {AbortedError} once the signal has fired. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw abortedBy(signal)
}

/** Whether an error says no more than that the signal fired. A full disk after Ctrl-C is still a full disk. */
export function isAbort(error: unknown, signal: AbortSignal | undefined): boolean {
  if (!signal?.aborted) return false
  return error === signal.reason || error instanceof AbortedError || (error as Error | null)?.name === 'AbortError'
}

/** The engine was used after `close()`. */
export class ClosedError extends FireError {
  static override readonly code = 'ERR_FIRE_CLOSED'
}

/** A file could not be read or written. */
export class FileError extends FireError {
  static override readonly code = 'ERR_FIRE_IO'
}

/** Another run writes to the same output. `detail` names its process: `pid`, `thread`, `host`, `since`, and the file `lock`. */
export class LockedError extends FireError {
  static override readonly code = 'ERR_FIRE_LOCKED'
}

/** The disk is full, or its quota used up; whatever was complete before is untouched. */
export class DiskFullError extends FireError {
  static override readonly code = 'ERR_FIRE_DISK_FULL'
  static override readonly hint = 'Free some space and run the same command again.'
}

/** The model hub refused, has no such thing, or could not be reached. `detail` has the HTTP status where there was one. */
export class HubError extends FireError {
  static override readonly code = 'ERR_FIRE_HUB'
}

/** A language-model endpoint refused, answered with something else, or could not be reached; or its budget is spent. */
export class EndpointError extends FireError {
  static override readonly code = 'ERR_FIRE_ENDPOINT'
}

/** A downloaded file is not what its publisher announced: another size or another hash. */
export class ChecksumError extends FireError {
  static override readonly code = 'ERR_FIRE_CHECKSUM'
}

/** Several processes could not do their work together. `detail.rank` is the one that failed first, where that is known. */
export class RankError extends FireError {
  static override readonly code = 'ERR_FIRE_RANKS'
}

/** A segmentation service refused, could not be reached, or answered outside the contract of docs/corruption.md. */
export class SegmenterError extends FireError {
  static override readonly code = 'ERR_FIRE_SEGMENTER'
}

/** There is no such device, or its driver is missing or too old. */
export class NoDeviceError extends FireError {
  static override readonly code = 'ERR_FIRE_NO_DEVICE'
}

/** The GPU or one of its libraries failed; `detail.cuda` is the name of the CUDA error. */
export class CudaError extends FireError {
  static override readonly code = 'ERR_FIRE_CUDA'
}

/** A process of a benchmark ended before it had measured. */
export class BenchError extends FireError {
  static override readonly code = 'ERR_FIRE_BENCH'
}

/** A defect of this program: no input and no state of the machine may cause it. */
export class InternalError extends FireError {
  static override readonly code = 'ERR_FIRE_INTERNAL'
  static override readonly hint = 'This is a defect worth reporting; run again with --debug for the stack.'
}

/** Of the codes in native/tensor/error.h. */
const nativeClasses = [
  AbortedError,
  ArgumentError,
  CheckpointError,
  ClosedError,
  CudaError,
  FileError,
  InternalError,
  NoDeviceError,
  NumericError,
  OutOfMemoryError,
  RankError,
  UnsupportedError,
]

/** The error of a native code; `detail.errno` of the system becomes `detail.systemCode`, as in `fileError`. */
export function errorFromCode(code: string, message: string, detail: ErrorDetail = {}): FireError {
  if (detail.errno !== undefined) {
    const { errno, ...rest } = detail
    return systemError(message, errnoName(Number(errno)) ?? code, rest)
  }
  const Specific = nativeClasses.find((each) => each.code === code) ?? InternalError
  return new Specific(message, { detail })
}

/**
 * What the addon constructs its errors from: `new (code, message, detail)` gives the subclass of that code.
 * (A constructor may return another object; that keeps the native side free of the class table.)
 */
export const NativeErrorFactory = class {
  constructor(code: string, message: string, detail?: ErrorDetail) {
    // biome-ignore lint/correctness/noConstructorReturn: this class exists to choose the subclass.
    return errorFromCode(code, message, detail)
  }
} as unknown as new (
  code: string,
  message: string,
  detail?: ErrorDetail,
) => FireError

/** "Expected X for Y but received Z", the one wording for wrong arguments. */
export function expected(what: string, where: string, received: unknown): ArgumentError {
  return new ArgumentError(`Expected ${what} for ${where} but received ${describe(received)}`)
}

function describe(value: unknown): string {
  if (typeof value === 'string') return value.length > 60 ? `a string of ${value.length} characters` : `'${value}'`
  if (typeof value === 'bigint') return `${value}n`
  if (typeof value === 'function') return 'a function'
  if (value === null || typeof value !== 'object') return String(value)
  if (ArrayBuffer.isView(value)) return `a ${value.constructor.name} of ${value.byteLength} bytes`
  if (Array.isArray(value)) return `an array of ${value.length}`
  return `a ${value.constructor?.name ?? 'null-prototype object'}`
}

/** What a system error means, and what to do about it, by the name of its errno. */
const systemErrors: Record<string, { reason: string; hint?: string }> = {
  ENOSPC: { reason: 'the disk is full' },
  EDQUOT: { reason: 'the disk quota is used up' },
  EROFS: { reason: 'the file system is read-only', hint: 'Name a folder on another disk.' },
  EACCES: { reason: 'permission denied', hint: 'Give this user the right to it, or name another place.' },
  EPERM: { reason: 'operation not permitted', hint: 'Give this user the right to it, or name another place.' },
  EMFILE: { reason: 'too many open files', hint: 'Raise the limit: ulimit -n 4096.' },
  ENFILE: { reason: 'too many open files on this machine', hint: 'Close other programs.' },
  ENOENT: { reason: 'no such file or folder' },
  EISDIR: { reason: 'it is a folder' },
  ENOTDIR: { reason: 'a part of the path is not a folder' },
  EEXIST: { reason: 'it exists already' },
  EFBIG: { reason: 'it grew larger than the file system or the limit of this user allows', hint: 'See ulimit -f.' },
  ELOOP: { reason: 'its links lead in a circle' },
  ENXIO: { reason: 'it is a pipe or socket and nobody reads from it' },
  EBUSY: { reason: 'it is in use, or a mount point', hint: 'Name a folder below it.' },
  EXDEV: { reason: 'it lies on another file system', hint: 'Name a folder below it.' },
  ENAMETOOLONG: { reason: 'the name is too long' },
}

/** The number tells more than `error.code`: Node has no name for EDQUOT. */
function errnoName(errno: number): string | undefined {
  return Object.entries(constants.errno).find(([, number]) => number === errno)?.[0]
}

function systemError(message: string, systemCode: string, detail: ErrorDetail, cause?: unknown): FileError {
  const Specific = systemCode === 'ENOSPC' || systemCode === 'EDQUOT' ? DiskFullError : FileError
  return new Specific(message, { detail: { ...detail, systemCode }, hint: systemErrors[systemCode]?.hint, cause })
}

/** How much the disk has left: more than nothing where one large file was too much. */
function freeWords(path: string): string {
  for (let folder = dirname(resolve(path)); ; folder = dirname(folder)) {
    try {
      const { bavail, bsize } = statfsSync(folder)
      return `, ${((bavail * bsize) / 2 ** 20).toFixed(1)} MiB are free in ${folder}`
    } catch {
      // The folder itself may not be made yet.
      if (folder === dirname(folder)) return ''
    }
  }
}

/** Wraps a system error (ENOSPC, ENOENT, EACCES, …) with the path it concerns; other errors pass through. */
export function fileError(error: unknown, action: string, path: string): Error {
  if (!(error instanceof Error) || !('code' in error) || error instanceof FireError) return error as Error
  const { errno, code } = error as NodeJS.ErrnoException
  const systemCode = (errno === undefined ? undefined : errnoName(-errno)) ?? String(code)
  const free = systemCode === 'ENOSPC' ? freeWords(path) : ''
  const reason = `${systemErrors[systemCode]?.reason ?? error.message}${free}`
  return systemError(`${action} ${path} failed: ${reason}`, systemCode, { path }, error)
}

/** For `promise.catch`: rejects with the `fileError` of what happened. */
export function asFileError(action: string, path: string): (error: unknown) => never {
  return (error) => {
    throw fileError(error, action, path)
  }
}

/**
 * Wrong with one record or its files (an image that is missing, damaged or of an impossible shape, a text that is too long or
 * that the chat template refuses), not with the run or the machine. Ask it only of what was thrown while that record was looked at.
 */
export function isOfRecord(error: unknown): error is FireError {
  if (!(error instanceof FireError) || !recordCodes.has(error.code)) return false
  return !machineCodes.has(String(error.detail.systemCode))
}

const recordCodes: ReadonlySet<ErrorCode> = new Set([
  'ERR_FIRE_DATA',
  'ERR_FIRE_INVALID_ARGUMENT',
  'ERR_FIRE_IO',
  'ERR_FIRE_MODEL',
  'ERR_FIRE_UNSUPPORTED',
])

/** What the next record would meet as well: a failing disk or server of files, too little memory, too many open files. */
const machineCodes: ReadonlySet<string> = new Set(['EIO', 'ESTALE', 'EMFILE', 'ENFILE', 'ENOMEM', 'ETIMEDOUT'])

/** For `promise.catch`: rejects with the same error, `place` in front of its message; what is not typed passes. */
export function atPlace(place: string, detail: ErrorDetail = {}): (error: unknown) => never {
  return (error) => {
    if (!(error instanceof FireError)) throw error
    const Same = error.constructor as new (message: string, options: FireErrorOptions) => FireError
    const options = { detail: { ...error.detail, ...detail }, hint: error.hint, cause: error }
    throw new Same(`${place}: ${error.message}`, options)
  }
}

/** What a library said, whatever it threw: an error, a text, a number. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/**
 * What a library could not get for its WebAssembly (HTTP, compressed DICOM): Node reserves 10 GB of addresses for each module,
 * which a limit of the address space refuses however much memory is free.
 */
export function addressSpaceError(error: unknown): OutOfMemoryError | undefined {
  if (!/WebAssembly\.\w+\(\): Out of memory/.test(reasonOf(error))) return undefined
  return new OutOfMemoryError('The address space of this process is limited, and WebAssembly reserves 10 GB of it', {
    hint:
      'Raise the limit (ulimit -v unlimited), or set NODE_OPTIONS=--disable-wasm-trap-handler, which reserves nothing. ' +
      'To limit the memory that is used, take a cgroup.',
    cause: error,
  })
}

/**
 * Runs a library on content from outside. What it throws says what is wrong with that content, and becomes the error
 * that `refuse` makes of it; errors that are typed already pass as they are.
 */
export function guarded<T>(work: () => T, refuse: (reason: string, cause: unknown) => Error): T {
  const typed = (error: unknown): never => {
    throw error instanceof FireError ? error : (addressSpaceError(error) ?? refuse(reasonOf(error), error))
  }
  try {
    const result = work()
    return result instanceof Promise ? (result.catch(typed) as T) : result
  } catch (error) {
    return typed(error)
  }
}
