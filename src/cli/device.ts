import { type Device, deviceNames, isDevice } from '../engine/engine.js'
import { ArgumentError } from '../errors.js'

export function toDevice(value: unknown): Device {
  if (isDevice(value)) return value
  throw new ArgumentError(`--device must be ${deviceNames}, not "${String(value)}"`)
}
