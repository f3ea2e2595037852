/** From ranks that can talk to a group that can add up gradients. */
import type { GroupSpec, NativeModule } from '../engine/engine.js'
import { loadNative } from '../engine/load.js'
import { RankError } from '../errors.js'
import type { Ranks } from './ranks.js'
import { rankWords, requireSame } from './same.js'

/**
 * What an engine must be told to train with the others: NCCL between GPUs, MPI between CPUs. Every rank must call it. `null` for a
 * rank alone.
 * @param onGpu whether the engine of this rank computes on a GPU.
 * @throws {RankError} when ranks would use different transports, or one of them has none.
 */
export async function groupOf(
  ranks: Ranks,
  onGpu: boolean,
  given?: Pick<NativeModule, 'transports' | 'groupId'>,
): Promise<GroupSpec | null> {
  const { rank, size } = ranks
  if (size === 1) return null
  await requireSame(ranks, 'how gradients are added up', sumSettings())
  const native = given ?? loadNative()
  const transport = onGpu ? 'nccl' : 'mpi'
  const found = native.transports()[transport]
  const all = await ranks.gather('transport', { transport, missing: 'missing' in found ? found.missing : null })
  const lacking = all.flatMap(({ missing }, each) => (missing === null ? [] : [each]))
  if (lacking.length > 0) {
    const { transport: theirs, missing } = all[lacking[0]]
    throw new RankError(`${theirs} is not there on ${rankWords(lacking)}: ${missing}`, {
      detail: { rank: lacking[0], transport: theirs, onAllRanks: true },
      hint: theirs === 'nccl' ? ncclHint : mpiHint,
    })
  }
  const other = all.findIndex((each) => each.transport !== all[0].transport)
  if (other > 0) {
    throw new RankError(
      `rank 0 would train with ${all[0].transport} and rank ${other} with ${all[other].transport}: GPUs and CPUs do not train together`,
      { detail: { rank: other, onAllRanks: true }, hint: 'Set device to cuda, or to cpu, for all ranks.' },
    )
  }
  const [id] = await ranks.gather('group id', transport === 'nccl' && rank === 0 ? native.groupId() : '')
  return { transport, rank, size, id }
}

/** Of the environment, which a starter may hand to some machines only: sums over other parts, or in another way, end in a crash or hang. */
const sumSettings = (): Record<string, string | undefined> =>
  Object.fromEntries(['FIRE_BUCKET_BYTES', 'NCCL_ALGO', 'NCCL_PROTO'].map((name) => [name, process.env[name]]))

const ncclHint =
  'Install NCCL (libnccl2), or name the library in FIRE_NCCL_LIBRARY; fire-train doctor says what was found.'
const mpiHint =
  'On CPUs the ranks are started by mpirun, srun --mpi, or fire-train launch --starter mpirun; fire-train doctor says what was found.'
