/** Where an engine computes: the processor, a GPU by number, or `auto`: the first usable GPU, else the processor. */
export type Device = 'cpu' | 'cuda' | `cuda:${number}` | 'auto'

/** For messages and help texts. */
export const deviceNames = 'cpu, cuda, cuda:N or auto'

export function isDevice(value: unknown): value is Device {
  return typeof value === 'string' && /^(cpu|auto|cuda(:(0|[1-9]\d{0,2}))?)$/.test(value)
}

/** Whether weights are packed once; `auto` looks at the memory that is free. See `EngineSpec`. */
export const packWeightsModes = ['auto', 'on', 'off'] as const
/** One of `packWeightsModes`. */
export type PackWeights = (typeof packWeightsModes)[number]

/** Matrix products by the engine's own kernels (`auto`, `native`) or by a library of the device. */
export const gemmBackends = ['auto', 'native', 'onednn', 'cublaslt'] as const
/** One of `gemmBackends`; which of them a device has, `fire-train doctor` says. */
export type GemmBackend = (typeof gemmBackends)[number]
