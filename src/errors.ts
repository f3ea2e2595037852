/**
 * Every error a caller can act on. `code` is stable and machine-readable, `detail` holds the facts (file, line, record,
 * bytes), `hint` says what to do. Native errors arrive with the same codes and become the same classes.
 */

export type ErrorDetail = Record<string, unknown>

export interface FireErrorOptions {
  detail?: ErrorDetail
  /** What the reader should do about it, one sentence. */
  hint?: string
  cause?: unknown
}

export class FireError extends Error {
  readonly code: string
  readonly detail: ErrorDetail
  readonly hint: string | undefined

  constructor(code: string, message: string, options: FireErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = new.target.name
    this.code = code
    this.detail = options.detail ?? {}
    this.hint = options.hint
  }
}

/** The training configuration is wrong: an unknown key, a value out of range, a coefficient the objective ignores. */
export class ConfigError extends FireError {
  constructor(message: string, options?: FireErrorOptions) {
    super('ERR_FIRE_CONFIG', message, options)
  }
}

/** A record, text or image on disk cannot be used as it is. The message starts with `file:line: record id:`. */
export class DataError extends FireError {
  constructor(message: string, options?: FireErrorOptions) {
    super('ERR_FIRE_DATA', message, options)
  }
}

/** An argument of a library call has the wrong type or value. */
export class ArgumentError extends FireError {
  constructor(message: string, options?: FireErrorOptions) {
    super('ERR_FIRE_INVALID_ARGUMENT', message, options)
  }
}

/** The compiled addon is missing or does not load. */
export class NativeBindingError extends FireError {
  constructor(message: string, options?: FireErrorOptions) {
    super('ERR_FIRE_NATIVE_BINDING', message, options)
  }
}

/** The tokenizer or chat template of a model folder cannot be used. */
export class ModelError extends FireError {
  constructor(message: string, options?: FireErrorOptions) {
    super('ERR_FIRE_MODEL', message, options)
  }
}

/** A training checkpoint is missing, incomplete, or belongs to another configuration. */
export class CheckpointError extends FireError {
  constructor(message: string, options?: FireErrorOptions) {
    super('ERR_FIRE_CHECKPOINT', message, options)
  }
}

/** Something valid that this engine does not implement: an architecture, a tensor type, a kind of adapter. */
export class UnsupportedError extends FireError {
  constructor(message: string, options?: FireErrorOptions) {
    super('ERR_FIRE_UNSUPPORTED', message, options)
  }
}

/** A weight, loss or gradient is not finite. Adapter and checkpoints are as they were before the step. */
export class NumericError extends FireError {
  constructor(message: string, options?: FireErrorOptions) {
    super('ERR_FIRE_NONFINITE', message, options)
  }
}

/** Memory ran out. `detail` has the bytes asked for and, where known, the bytes free. */
export class OutOfMemoryError extends FireError {
  constructor(message: string, options?: FireErrorOptions) {
    super('ERR_FIRE_OUT_OF_MEMORY', message, {
      hint: 'Lower microBatchSize, set checkpointing: true, or use dtype: bf16.',
      ...options,
    })
  }
}

/** The call was cancelled and the caller's signal gave no reason of its own. */
export class AbortedError extends FireError {
  constructor(message = 'The operation was aborted', options?: FireErrorOptions) {
    super('ERR_FIRE_ABORTED', message, options)
  }
}

/** The engine was used after `close()`. */
export class ClosedError extends FireError {
  constructor(message: string, options?: FireErrorOptions) {
    super('ERR_FIRE_CLOSED', message, options)
  }
}

/** A file could not be read or written. */
export class FileError extends FireError {
  constructor(message: string, options?: FireErrorOptions) {
    super('ERR_FIRE_IO', message, options)
  }
}

/** The disk is full; whatever was complete before is untouched. */
export class DiskFullError extends FireError {
  constructor(message: string, options?: FireErrorOptions) {
    super('ERR_FIRE_DISK_FULL', message, {
      hint: 'Free some space (older checkpoints are a good start) and run again with --resume.',
      ...options,
    })
  }
}

/** The model hub refused, has no such thing, or could not be reached. `detail` has the HTTP status where there was one. */
export class HubError extends FireError {
  constructor(message: string, options?: FireErrorOptions) {
    super('ERR_FIRE_HUB', message, options)
  }
}

/** A language-model endpoint refused, answered with something else, or could not be reached; or its budget is spent. */
export class EndpointError extends FireError {
  constructor(message: string, options?: FireErrorOptions) {
    super('ERR_FIRE_ENDPOINT', message, options)
  }
}

/** A downloaded file is not what its publisher announced: another size or another hash. */
export class ChecksumError extends FireError {
  constructor(message: string, options?: FireErrorOptions) {
    super('ERR_FIRE_CHECKSUM', message, options)
  }
}

/** A segmentation service refused, could not be reached, or answered outside the contract of docs/corruption.md. */
export class SegmenterError extends FireError {
  constructor(message: string, options?: FireErrorOptions) {
    super('ERR_FIRE_SEGMENTER', message, options)
  }
}

/** How the C library words ENOSPC, which is all that native code passes on of it. */
const noSpace = 'No space left on device'

type ErrorClass = new (message: string, options?: FireErrorOptions) => FireError

const classByCode: Record<string, ErrorClass> = {
  ERR_FIRE_CONFIG: ConfigError,
  ERR_FIRE_DATA: DataError,
  ERR_FIRE_INVALID_ARGUMENT: ArgumentError,
  ERR_FIRE_MODEL: ModelError,
  ERR_FIRE_CHECKPOINT: CheckpointError,
  ERR_FIRE_UNSUPPORTED: UnsupportedError,
  ERR_FIRE_NONFINITE: NumericError,
  ERR_FIRE_OUT_OF_MEMORY: OutOfMemoryError,
  ERR_FIRE_ABORTED: AbortedError,
  ERR_FIRE_CLOSED: ClosedError,
  ERR_FIRE_IO: FileError,
  ERR_FIRE_DISK_FULL: DiskFullError,
  ERR_FIRE_HUB: HubError,
  ERR_FIRE_ENDPOINT: EndpointError,
  ERR_FIRE_CHECKSUM: ChecksumError,
  ERR_FIRE_SEGMENTER: SegmenterError,
}

/** The error of this code and message; an unknown code gives a plain `FireError` that keeps it. */
export function errorFromCode(code: string, message: string, detail: ErrorDetail = {}): FireError {
  if (code === 'ERR_FIRE_IO' && message.includes(noSpace)) return new DiskFullError(message, { detail })
  const Specific = classByCode[code]
  return Specific ? new Specific(message, { detail }) : new FireError(code, message, { detail })
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

/** Wraps a system error (ENOSPC, ENOENT, EACCES, …) with the path it concerns; other errors pass through. */
export function fileError(error: unknown, action: string, path: string): Error {
  if (!(error instanceof Error) || !('code' in error) || error instanceof FireError) return error as Error
  const detail = { path, systemCode: error.code }
  if (error.code === 'ENOSPC' || error.code === 'EDQUOT') {
    return new DiskFullError(`No space left while ${action} ${path}`, { detail, cause: error })
  }
  const reason = reasons[String(error.code)] ?? error.message
  return new FileError(`${action} ${path} failed: ${reason}`, { detail, cause: error })
}

const reasons: Record<string, string> = {
  ENOENT: 'no such file or folder',
  EACCES: 'permission denied',
  EPERM: 'operation not permitted',
  EISDIR: 'it is a folder',
  ENOTDIR: 'a part of the path is not a folder',
  EROFS: 'the file system is read-only',
  EEXIST: 'it exists already',
  EMFILE: 'too many open files',
}
