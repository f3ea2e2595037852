import { type Device, deviceNames, isDevice } from '../engine/engine.js'
import { ArgumentError } from '../errors.js'

/** `--device` of every command that computes. */
export const deviceOption = {
  type: 'string',
  default: 'cpu',
  describe: `Where to compute: ${deviceNames}`,
  coerce: toDevice,
} as const

export function toDevice(value: unknown): Device {
  if (isDevice(value)) return value
  throw new ArgumentError(`--device must be ${deviceNames}, not "${String(value)}"`)
}
