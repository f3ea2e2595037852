/**
 * One rank of test/engine/ranks.test.ts, a process of its own: opens an engine in a group, trains a few steps on its share, and
 * writes what came of it to `<out>/<rank>.json`. The task is JSON in the first argument; the rank is mpirun's, or the second.
 */
import { existsSync, readFileSync } from 'node:fs'
import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { defaultLora, loadNative, openEngine } from '../../dist/engine/index.js'

const task = JSON.parse(process.argv[2])
const rank = Number(process.env.OMPI_COMM_WORLD_RANK ?? process.argv[3] ?? 0)
const size = task.shares.length
const adamw = { lr: 1e-4, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0.01, maxGradNorm: 1 }
const result = { losses: [], norms: [], waited: [], step: 0 }

function pairs() {
  return Array.from({ length: task.shares.flat().length }, (_, index) => {
    const chosen = Int32Array.from({ length: 5 + 2 * index }, (_, at) => (at * 7 + index) % 90)
    const rejected = chosen.map((id, at) => (at % 3 === 0 ? (id + 1) % 90 : id))
    const mask = new Uint8Array(chosen.length).fill(1)
    const ids = { prompt: Int32Array.of(1, 2, index), chosen, rejected, chosenMask: mask, rejectedMask: mask }
    return { id: `p${index}`, ...ids, images: [], corruptedImages: null }
  })
}

/** Of NCCL: rank 0 makes it, the others read it. */
async function groupId() {
  if (task.transport === 'mpi') return ''
  const file = join(task.out, 'id')
  if (rank === 0) {
    await writeFile(`${file}.part`, loadNative().groupId())
    await rename(`${file}.part`, file)
  }
  while (!existsSync(file)) await sleep(5)
  return readFileSync(file, 'utf8')
}

async function train(engine) {
  const all = pairs()
  const own = task.shares[rank].map((index) => all[index])
  for (let step = 0; step < task.steps; step += 1) {
    if (task.absent === rank && step === 1) await sleep(3_600_000)
    for (const pair of own) {
      const options = { normalizer: all.length, layout: 'packed', last: pair === own.at(-1) }
      const { pairs: stats } = await engine.accumulate([pair], { name: 'fire' }, options)
      result.losses.push(...stats.map(({ loss }) => loss))
    }
    // What the control plane does when another rank has died, from the event loop while the addon waits.
    if (task.absent !== undefined && step === 1)
      setTimeout(() => engine.abortGroup('Rank 1 failed: it was killed'), 300)
    const { gradNorm, secondsWaited, step: done } = await engine.update(adamw)
    result.norms.push(gradNorm)
    result.waited.push(secondsWaited)
    result.step = done
    await engine.saveState(join(task.out, `state-${rank}`))
  }
}

const { transport, device } = task
const group = size > 1 ? { transport, rank, size, id: await groupId() } : null
const lora = { ...defaultLora, rank: 4, dropout: 0 }
try {
  const engine = await openEngine({ model: task.model, threads: 1, lora, device, group })
  try {
    await train(engine)
  } catch (error) {
    result.error = { code: error.code, message: error.message }
    await engine.saveState(join(task.out, `after-${rank}`))
  }
  await engine.close()
} catch (error) {
  result.error ??= { code: error.code, message: error.message }
}
await writeFile(join(task.out, `${rank}.json`), JSON.stringify(result))
process.exit(result.error ? 3 : 0)
