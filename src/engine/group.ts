/** What an engine is told of the others that train with it; see native/dist. */

/** How gradients go between processes; see native/dist. */
export type Transport = 'nccl' | 'mpi'

/** The processes that train one adapter together, each with an engine of its own. */
export interface GroupSpec {
  transport: Transport
  /** From 0 to `size - 1`. */
  rank: number
  size: number
  /** nccl: what `groupId()` of rank 0 gave, the same for every rank. mpi: empty, since mpirun or srun has made the group. */
  id: string
}

/** Which transports this process can use: the version that was found, or why there is none. */
export type Transports = Record<Transport, { version: string } | { missing: string }>
