/** A run of several processes, started by torchrun, srun or mpirun. */
import { joinRanks, together } from 'fire-train/ranks'
import { resolveTrainConfig, train } from 'fire-train/train'

export async function trainTogether(model: string, pairs: string, output: string): Promise<void> {
  const stop = new AbortController()
  const ranks = await joinRanks({ onStop: () => stop.abort(), onLog: console.error })
  const config = resolveTrainConfig({ model, data: { train: pairs }, output, device: 'cuda' })
  await together(ranks, () => train(config, { ranks, stop: stop.signal, signal: ranks.signal }))
}
