/** Opens engines in workers and terminates each at a random moment of a call. Usage: node terminate.mjs COUNT SEED */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isMainThread, parentPort, Worker } from 'node:worker_threads'

const root = fileURLToPath(new URL('../..', import.meta.url))
const model = join(root, 'models/phantom')

async function work() {
  const { openEngine } = await import(join(root, 'dist/engine/index.js'))
  const native = (await import(join(root, 'dist/engine/load.js'))).loadNative()
  const lora = { rank: 2, alpha: 4, dropout: 0, rslora: false, targets: ['q_proj'], seed: 1 }
  const ids = Int32Array.from({ length: 30 }, (_, i) => 10 + i)
  const rgb = new Uint8Array(32 * 32 * 3)
  const failed = () => undefined
  for (let round = 0; ; round += 1) {
    parentPort.postMessage('running')
    native.benchGemm({ threads: 1, seconds: 0.01, shapes: [{ m: 8, n: 8, k: 8 }] }).catch(failed)
    native
      .verify(
        { directory: model, device: 'cpu', dtype: 'f32', threads: 1, packWeights: 'on', freeBytes: 0 },
        () => undefined,
      )
      .catch(failed)
    const engine = await openEngine({ model, threads: 1, lora })
    const controller = new AbortController()
    const sampling = { maxNewTokens: 30, stopTokens: [] }
    const events = { onToken: () => undefined, onEnd: () => undefined, signal: controller.signal }
    const calls = [
      engine.encodeImages([{ id: 'a', width: 32, height: 32, rgb }]),
      engine.logprobs([{ ids, images: [] }]),
      engine.generate([{ ids, images: [], seed: 1 }], sampling, events),
      engine.zeroGrad(),
      engine.logprobs([{ ids: 'wrong', images: [] }]),
    ]
    if (round % 2) controller.abort()
    await Promise.allSettled(calls)
    // Every other engine is left to the collector.
    if (round % 2) await engine.close()
  }
}

async function terminate(count, seed) {
  let state = seed
  const random = () => {
    state = (state * 1103515245 + 12345) % 2147483648
    return state / 2147483648
  }
  for (let i = 0; i < count; i += 1) {
    const worker = new Worker(new URL(import.meta.url))
    await new Promise((resolve) => worker.once('message', resolve))
    await new Promise((resolve) => setTimeout(resolve, random() * 80))
    await worker.terminate()
  }
  console.log(`${count} terminated`)
}

await (isMainThread ? terminate(Number(process.argv[2]), Number(process.argv[3])) : work())
