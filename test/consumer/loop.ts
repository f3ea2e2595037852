/** A training loop on the engine alone. */
import { defaultLora, type ImageInput, openEngine, type PairInput } from 'fire-train'

interface Step {
  images: ImageInput[]
  pairs: PairInput[]
}

export async function loop(model: string, steps: Step[], adapter: string, signal: AbortSignal) {
  await using engine = await openEngine({ model, device: 'auto', dtype: 'bf16', lora: defaultLora })
  const objective = { name: 'fire' } as const
  // On a GPU: all memory before the first step, so that no step stops the device to allocate.
  const tokens = steps.map(({ images }) => images.map(({ width, height }) => engine.imageTokens(width, height)))
  await engine.reserveImages(
    tokens
      .flat()
      .sort((a, b) => b - a)
      .slice(0, Math.max(...tokens.map(({ length }) => length))),
  )
  const batches = steps.map(({ pairs }) => pairs)
  await engine.reserve(batches, objective, { normalizer: 1, layout: 'packed' }, { signal })
  let next = engine.prepareImages(steps[0].images, { signal })
  for (const [index, { images, pairs }] of steps.entries()) {
    await engine.encodeImages(await next, { signal })
    // Resized on a thread of their own while the engine works.
    next = engine.prepareImages(steps[index + 1]?.images ?? [], { signal })
    await engine.accumulate(pairs, objective, { normalizer: pairs.length, layout: 'packed' }, { signal })
    await engine.update({ lr: 1e-5, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0, maxGradNorm: 1 })
    await engine.releaseImages(images.map(({ id }) => id))
  }
  await engine.saveAdapter(adapter)
}
