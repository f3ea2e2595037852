/**
 * One variant of our own generation in a process of its own. It speaks the protocol of bench/peer/torch_generate.py: a line
 * {"ready": true, ...}, then one line for each line "step" on standard input, until that is closed.
 */
import { type DType, openEngine } from '../engine/engine.js'
import { peakResidentBytes, serve, workerArguments } from './process.js'
import type { GenerateMessage } from './protocol.js'
import { readQuestions, withOwnImages } from './questions.js'

const values = workerArguments('model', 'questions', 'variant', 'dtype', 'threads', 'tokens', 'batch')
const dtype = values.dtype as DType
await using engine = await openEngine({ model: values.model, dtype, threads: Number(values.threads) })
const read = await readQuestions(values.questions)
const { images, prompts } = values.variant === 'shared' ? read : withOwnImages(read)

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
