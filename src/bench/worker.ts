/**
 * One variant of our own step in a process of its own, so that its high-water mark of memory is its alone. It speaks the
 * protocol of bench/peer/torch_step.py --serve: a line {"ready": true, ...}, then one line of numbers for each line
 * "step" on standard input, until that is closed.
 */
import { type DType, type Engine, type EngineSpec, openEngine, type PreparedImage } from '../engine/engine.js'
import { type BenchPairs, readPairs } from './pairs.js'
import { peakResidentBytes, serve, workerArguments } from './process.js'
import { type EngineVariant, type StepMessage, stepNumbers, stepSpecs } from './protocol.js'
import type { BenchObjective } from './settings.js'

const values = workerArguments('model', 'adapter', 'pairs', 'objective', 'variant', 'dtype', 'threads', 'gemm')

const { objective, optimizer } = stepSpecs[values.objective as BenchObjective]
const variant = values.variant as EngineVariant
const dtype = values.dtype as DType
await using engine = await openEngine({
  model: values.model,
  adapter: values.adapter,
  dtype,
  threads: Number(values.threads),
  gemm: values.gemm as EngineSpec['gemm'],
  // The same pairs come every step, so a reference cache would skip the reference altogether: only `cached` may.
  ...(variant === 'cached' ? {} : { referenceCacheBytes: 0 }),
})
const batch = await readPairs(values.pairs)
// `plain` runs the tower itself, once for each sequence and again for the reference; it only needs the pixels.
const encodes = variant === 'packed' || variant === 'pair'
if (!encodes) await engine.encodeImages(batch.images)

const { parameters, trainableParameters, gemm, isa } = engine.info
const ready = { ready: true, variant, dtype, parameters, trainableParameters, gemm, isa } as const
const ahead = { images: prepared(engine, batch) }
await serve(ready, (index) => step(engine, batch, index))

/** The host's part of the images, which training does while the step before runs: as many a step as it takes. */
function prepared(engine: Engine, { images }: BenchPairs): Promise<PreparedImage[]> {
  const work = encodes ? engine.prepareImages(images) : Promise.resolve([])
  work.catch(() => {}) // of the last step, which nobody asks for
  return work
}

/** Everything the peer times: vision features, reference, loss, backward, gradient norm, AdamW, clearing. */
async function step(engine: Engine, { pairs, images }: BenchPairs, index: number): Promise<StepMessage> {
  const start = performance.now()
  if (encodes) {
    await engine.releaseImages(images.map(({ id }) => id))
    await engine.encodeImages(await ahead.images)
    ahead.images = prepared(engine, { pairs, images })
  }
  const layout = variant === 'cached' ? 'packed' : variant
  const stats = await engine.accumulate(pairs, objective, { normalizer: pairs.length, layout })
  const { gradNorm } = await engine.update(optimizer)
  const seconds = (performance.now() - start) / 1000
  const numbers = stepNumbers(stats.pairs, gradNorm)
  return { step: index, seconds, ...numbers, tokens: stats.tokens, peak_rss: peakResidentBytes() }
}
