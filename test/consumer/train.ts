/** A run that stops after a while, keeps what it has, and goes on when called again. */
import { FireError, resolveTrainConfig, type TrainReport, train } from 'fire-train'

export async function trainFor(
  milliseconds: number,
  model: string,
  pairs: string,
  output: string,
): Promise<TrainReport> {
  const config = resolveTrainConfig({
    model,
    data: { train: pairs },
    output,
    objective: { name: 'fire', beta: 0.1 },
    lora: { rank: 8, alpha: 16 },
    batchSize: 4,
    maxSteps: 4,
  })
  try {
    return await train(config, {
      resume: true,
      stop: AbortSignal.timeout(milliseconds),
      onProgress: ({ step, totalSteps, metrics }) => console.error(`${step}/${totalSteps} loss ${metrics.loss}`),
    })
  } catch (error) {
    if (error instanceof FireError) console.error(error.code, error.hint)
    throw error
  }
}
