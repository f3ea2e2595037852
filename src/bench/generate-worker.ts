/**
 * One variant of our own generation in a process of its own. It speaks the protocol of bench/peer/torch_generate.py: a line
 * {"ready": true, ...}, then one line for each line "step" on standard input, until that is closed.
 */
import { type DType, openEngine } from '../engine/engine.js'
import { peakResidentBytes, serve, workerArguments } from './process.js'
import type { GenerateMessage } from './protocol.js'
import { type BenchQuestions, readQuestions } from './questions.js'

const values = workerArguments('model', 'questions', 'variant', 'dtype', 'threads', 'tokens', 'batch')
const dtype = values.dtype as DType
await using engine = await openEngine({ model: values.model, dtype, threads: Number(values.threads) })
const read = await readQuestions(values.questions)
const { images, prompts } = values.variant === 'shared' ? read : unshared(read)

const { parameters, gemm, isa } = engine.info
await serve({ ready: true, variant: values.variant, dtype, parameters, gemm, isa }, round)

/** Everything the peer times: vision features, prompts, new tokens. */
async function round(step: number): Promise<GenerateMessage> {
  const start = performance.now()
  await engine.releaseImages(images.map(({ id }) => id))
  await engine.encodeImages(images)
  const [maxNewTokens, batchSize] = [Number(values.tokens), Number(values.batch)]
  const all = await engine.generate(prompts, { maxNewTokens, batchSize, stopTokens: [] })
  const seconds = (performance.now() - start) / 1000
  const answers = all.map(({ tokens }) => Array.from(tokens))
  return { step, seconds, tokens: answers.flat().length, peak_rss: peakResidentBytes(), answers }
}

/**
 * The same questions, each with an image of its own: nothing is shared, as in the peer's batch. The engine knows equal images by
 * their pixels, so each copy has its number in the low bits of its first pixels.
 */
function unshared({ images, prompts }: BenchQuestions): BenchQuestions {
  const byId = new Map(images.map((image) => [image.id, image]))
  const own = prompts.map((prompt, k) => {
    const copies = prompt.images.map((id) => {
      const image = byId.get(id) as (typeof images)[number]
      return { ...image, id: `${id} of ${k}`, rgb: marked(image.rgb, k) }
    })
    return { copies, prompt: { ...prompt, images: copies.map(({ id }) => id) } }
  })
  return { images: own.flatMap(({ copies }) => copies), prompts: own.map(({ prompt }) => prompt) }
}

/** A copy of pixels with two bits of `number` in each byte, as far as it goes. */
function marked(pixels: Uint8Array, number: number): Uint8Array {
  const copy = Uint8Array.from(pixels)
  for (let at = 0; number >> (2 * at) > 0; at++) copy[at] ^= (number >> (2 * at)) & 3
  return copy
}
