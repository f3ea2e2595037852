/** Pairs that are left out of the result: what is wrong is wrong with their image or mask alone. */
import { type FireError, isOfRecord } from '../errors.js'

/** Ends the work on one pair, and not the run. */
export class LeftOut extends Error {
  constructor(readonly error: FireError) {
    super(error.message, { cause: error })
  }
}

/** For `promise.catch` where files of a pair are read, and none is written. */
export function leaveOut(error: unknown): never {
  throw isOfRecord(error) ? new LeftOut(error) : error
}
