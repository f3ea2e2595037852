/** Why ranks cannot go on together: the first reason there was, the same for all of them. */
import { FireError, RankError, reasonOf } from '../errors.js'
import { redact } from '../secrets.js'

export interface Failure {
  /** `null`: of no single one. */
  rank: number | null
  /** A sentence that names the rank. */
  message: string
  /** Of the cause. */
  code: string
  hint?: string
  /** The rank did not end, as far as anybody knows. */
  isSilent?: true
}

/** A process of the run, as messages name it. */
export interface Identity {
  rank: number
  host: string
  pid: number
}

/** `Rank 2 (node3, pid 123)` */
export const nameOf = ({ rank, host, pid }: Identity): string => `Rank ${rank} (${host}, pid ${pid})`

export const rankError = ({ rank, message, code, hint }: Failure): RankError =>
  new RankError(message, { detail: { ...(rank !== null && { rank }), code }, hint })

/** What a rank tells the others of its own error. */
export function failureOf(identity: Identity, error: unknown): Failure {
  const { code, hint } = error instanceof FireError ? error : { code: 'ERR_FIRE_INTERNAL', hint: undefined }
  return {
    ...{ rank: identity.rank, code },
    message: `${nameOf(identity)} failed: ${redact(reasonOf(error))}`,
    ...(hint !== undefined && { hint: redact(hint) }),
  }
}

/** Found out by others. */
export const lost = (identity: Identity, how: string, hint?: string): Failure => ({
  ...{ rank: identity.rank, code: RankError.code, message: `${nameOf(identity)} ${how}` },
  ...(hint !== undefined && { hint }),
})

export const diedHint =
  'Look at what it said last. A process that says nothing was killed: by a person, a batch system, or the system when memory ran out (dmesg).'

export const silentHint =
  'It is stopped, hangs, or its network is down. Where it only computes for long, set FIRE_RANK_TIMEOUT to more seconds.'
