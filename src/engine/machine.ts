/** What the native module says of this machine. */

/** The processor, the instruction sets it has, and the matrix-product kernels that follow. */
export interface CpuInfo {
  model: string
  cores: number
  isa: string[]
  /** The in-tree kernel that would be chosen. */
  kernel: string
  /** Version of the oneDNN that was found, or the loader's message. */
  onednn: { available: boolean; detail: string }
}

/** The GPUs that this process sees, or why there are none. */
export interface GpuReport {
  gpus: {
    name: string
    /** "sm_90" */
    capability: string
    totalBytes: number
    /** Why it cannot be used; empty when it can. */
    objection: string
    /** The same in every process, whatever number it has there. */
    uuid: string
  }[]
  /** Why there are none: no driver, a driver that is too old, no card, a build without CUDA. */
  reason: string
  /** The version of cuBLASLt that was found, or why it cannot be used. */
  cublaslt: string
}

/** Bytes of a GPU's memory, with the context of this process already in use. */
export interface GpuMemory {
  freeBytes: number
  totalBytes: number
}

/** Matrix products to time. */
export interface GemmBenchSpec {
  threads: number
  seconds: number
  shapes: { m: number; n: number; k: number }[]
}

/** What one of them came to on one backend. */
export interface GemmBenchRow {
  m: number
  n: number
  k: number
  dtype: 'f32' | 'bf16'
  backend: string
  gflops: number
  /** Register-only FMA ceiling of this machine in the same run, GFLOP/s. */
  ceiling: number
}
