/** The addon in a process: threads, signals, several engines, leaving. Skipped where it has not been built. */
import { spawnSync } from 'node:child_process'
import { symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { Worker } from 'node:worker_threads'
import { describe, expect, it } from 'vitest'
import {
  completeObjective,
  defaultLora,
  type Engine,
  openEngine,
  type PairInput,
  type StepOptions,
} from '../../src/engine/engine.js'
import { loadNative } from '../../src/engine/load.js'
import type { NativeEngine } from '../../src/engine/native.js'
import { coefficientNumbers, objectiveNames, objectives } from '../../src/engine/objectives.js'
import { ArgumentError, ClosedError, DiskFullError, NoDeviceError, UnsupportedError } from '../../src/errors.js'

import { built, temporaryFolder } from '../fakes/world.js'

const model = fileURLToPath(new URL('../golden/qwen3_vl', import.meta.url))
const library = pathToFileURL(fileURLToPath(new URL('../../dist/index.js', import.meta.url))).href

const objective = completeObjective({ name: 'fire' })
const step = { normalizer: 8, layout: 'packed', chosenTokens: 0, last: false } as const
const open = () => openEngine({ model, threads: 1, lora: { ...defaultLora, rank: 4 } })

/** Text pairs long enough that a step takes a while. */
function pairs(count: number, tokens: number): Required<PairInput>[] {
  return Array.from({ length: count }, (_, index) => {
    const chosen = Int32Array.from({ length: tokens }, (_, at) => (at * 7 + index) % 400)
    const rejected = chosen.map((id, at) => (at % 3 === 0 ? (id + 1) % 400 : id))
    const mask = new Uint8Array(tokens).fill(1)
    const ids = { prompt: Int32Array.of(1, 2, 3), chosen, rejected, chosenMask: mask, rejectedMask: mask }
    return { id: `p${index}`, ...ids, images: [], corruptedImages: null, weight: 1, rejectedScore: 1 }
  })
}

const sequence = { ids: Int32Array.from({ length: 40 }, (_, index) => index * 3), images: [] }

async function logprobs(engine: Engine): Promise<number[]> {
  const [values] = await engine.logprobs([sequence])
  return [...values]
}

/** Runs a module against the built library in a process of its own. */
function runScript(body: string) {
  const script = `import { openEngine, defaultLora } from ${JSON.stringify(library)}
const engine = await openEngine({ model: ${JSON.stringify(model)}, threads: 1, lora: { ...defaultLora, rank: 4 } })
${body}`
  return spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8', timeout: 20_000 })
}

describe.skipIf(!built)('the native engine in a process', () => {
  it('has memory of its own only where there is a GPU', async () => {
    expect(() => loadNative().gpuMemory('cpu')).toThrow(ArgumentError)
    expect(() => loadNative().gpuMemory('cuda:99')).toThrow(NoDeviceError)
    expect(() => loadNative().gpuKernels('cpu')).toThrow(ArgumentError)
    expect(() => loadNative().gpuKernels('cuda:99')).toThrow(NoDeviceError)
    await using engine = await open()
    await engine.reserve([pairs(2, 4), pairs(1, 9)], objective, step)
    await expect(engine.reserve([pairs(1, 0)], objective, step)).rejects.toThrow(ArgumentError)
  })

  it('keeps engines apart and calls in order', async () => {
    await using first = await open()
    await using second = await open()
    const alone = await logprobs(first)
    const together = await Promise.all([logprobs(first), logprobs(second), logprobs(first)])
    expect(together).toEqual([alone, alone, alone])
    await first.accumulate(pairs(2, 8), objective, step)
    await first.update({ lr: 0.1, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0, maxGradNorm: 0 })
    expect(await logprobs(first)).not.toEqual(alone)
    expect(await logprobs(second)).toEqual(alone)
  })

  it('shares less from layout to layout, with the same losses', async () => {
    await using engine = await open()
    const asked = pairs(3, 12).map((pair) => ({ ...pair, prompt: sequence.ids }))
    const run = async (layout: StepOptions['layout']) => engine.evaluate(asked, objective, { ...step, layout })
    const [packed, pair, plain] = [await run('packed'), await run('pair'), await run('plain')]
    const losses = packed.pairs.map(({ loss }) => loss)
    for (const other of [pair, plain]) expect(other.pairs.map(({ loss }) => loss)).toEqual(losses)
    // The prompt, and a first word that a rejected answer has of the next pair's chosen one.
    expect(pair.tokens - packed.tokens).toBe(2 * (40 + 1))
    expect(plain.tokens).toBe(6 * (40 + 12))
    const wrong = engine.evaluate(asked, objective, { ...step, layout: 'tree' as 'pair' })
    await expect(wrong).rejects.toThrow(/'packed', 'pair' or 'plain'/)
  })

  it('has no defaults: a setting that is missing is refused by its name', async () => {
    const native = loadNative()
    const sampling = { maxNewTokens: 1, temperature: 0, topP: 1, topK: 0, stopTokens: [], stopStrings: null }
    const all = { ...sampling, batchSize: 1, adapter: true }
    const adam = { lr: 0.1, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0, maxGradNorm: 0 }
    const spec = { ...(await open().then((engine) => engine.close().then(() => engine.spec))), planOnly: true }
    const engine: NativeEngine = await native.openEngine(spec, null)
    const prompts = [{ ...sequence, seed: 1 }]
    const refuse = async <T extends object>(name: string, whole: T, call: (part: T) => Promise<unknown>) => {
      for (const key of Object.keys(whole)) {
        const { [key as keyof T]: _, ...rest } = whole
        const error = (await call(rest as T).catch((failure: unknown) => failure)) as Error
        expect(error).toBeInstanceOf(ArgumentError)
        expect(error.message).toMatch(new RegExp(` for ${name}\\.${key}, which is missing$`))
      }
    }
    await refuse('spec', spec, (part) => native.openEngine(part, null))
    await refuse('spec.lora', defaultLora, (lora) => native.openEngine({ ...spec, lora }, null))
    await refuse('objective', objective, (part) => engine.plan(pairs(1, 4), part, step, true))
    await refuse('step', step, (part) => engine.plan(pairs(1, 4), objective, part, true))
    await refuse('pair', pairs(1, 4)[0], (part) => engine.plan([part], objective, step, true))
    await refuse('optimizer', adam, (part) => engine.update(part))
    await refuse('sampling', all, (part) => engine.generate(prompts, part, null, null, null))
    await engine.close()
  })

  it('refuses a coefficient of 0 where the table of objectives says so, and nowhere else', async () => {
    await using engine = await open()
    const refused: string[] = []
    for (const name of objectiveNames) {
      for (const key of coefficientNumbers) {
        const plan = engine.plan(pairs(1, 4), { ...completeObjective({ name }), [key]: 0 }, step)
        await plan.catch((error: Error) => refused.push(`${name}.${key}: ${error.message}`))
      }
    }
    const listed = objectiveNames.flatMap((name) => objectives[name].above0.map((key) => `${name}.${key}`))
    expect(refused.map((said) => said.split(':')[0])).toEqual(listed)
    for (const said of refused) expect(said).toContain('divides by a coefficient that is 0')
  })

  it('leaves the event loop free', async () => {
    await using engine = await open()
    let ticks = 0
    const timer = setInterval(() => {
      ticks += 1
    }, 1)
    const started = performance.now()
    await engine.accumulate(pairs(8, 200), objective, step)
    clearInterval(timer)
    expect(ticks).toBeGreaterThan((performance.now() - started) / 20)
  })

  it('stops a step on request, adds nothing, and goes on', async () => {
    const adam = { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0, maxGradNorm: 0 }
    await using engine = await open()
    const controller = new AbortController()
    const reason = new Error('changed my mind')
    const running = engine.accumulate(pairs(8, 300), objective, step, { signal: controller.signal })
    setTimeout(() => controller.abort(reason), 5)
    await expect(running).rejects.toMatchObject({ code: 'ERR_FIRE_ABORTED', cause: reason })
    await engine.accumulate(pairs(2, 20), objective, step)
    const { gradNorm } = await engine.update(adam)
    await using fresh = await open()
    await fresh.accumulate(pairs(2, 20), objective, step)
    // The dropout of the aborted step may have been drawn: what is drawn again is the same.
    expect(await fresh.update(adam)).toMatchObject({ gradNorm, step: 1 })
  })

  it('scales the gradient of a pair by its weight, and saves nothing that is not finite', async () => {
    const adam = { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0, maxGradNorm: 0 }
    const norms: number[] = []
    for (const weight of [1, 0.5, 0]) {
      await using engine = await openEngine({ model, threads: 1, lora: { ...defaultLora, rank: 4, dropout: 0 } })
      const weighted = pairs(2, 20).map((pair) => ({ ...pair, weight }))
      const stats = await engine.accumulate(weighted, objective, step)
      expect(stats.pairs[0].loss).toBeCloseTo(weight * stats.pairs[0].base, 6)
      norms.push((await engine.update(adam)).gradNorm)
    }
    expect(norms[1] / norms[0]).toBeCloseTo(0.5, 6)
    expect(norms[2]).toBe(0)
  })

  it('rejects bad arguments with a class, a code and a stack', async () => {
    await using engine = await open()
    const missing = { ...pairs(1, 4)[0], prompt: Int32Array.of(500), images: ['nowhere'] }
    const error = await engine.accumulate([missing], objective, step).catch((failure) => failure)
    expect(error).toBeInstanceOf(ArgumentError)
    expect(error.message).toContain('nowhere')
    expect(error.stack).toContain('native.test.ts')
    const wild = { ...sequence, ids: Int32Array.of(1, 99_999) }
    await expect(engine.logprobs([wild])).rejects.toThrow(/99999/)
    expect(() => engine.imageTokens(1, 100_000)).toThrow(UnsupportedError)
  })

  it('names the errors of the system', async () => {
    await using engine = await open()
    await expect(engine.saveAdapter('/dev/null/x')).rejects.toMatchObject({ detail: { systemCode: 'ENOTDIR' } })
    if (process.platform !== 'linux') return
    const folder = await temporaryFolder()
    await symlink('/dev/full', join(folder, `adapter_config.json.tmp-${process.pid}`))
    await expect(engine.saveAdapter(folder)).rejects.toThrow(DiskFullError)
  })

  it('finishes queued calls before it closes', async () => {
    const engine = await open()
    const pending = logprobs(engine)
    await Promise.all([pending, engine.close(), engine.close()])
    expect(await pending).toHaveLength(39)
    await expect(engine.zeroGrad()).rejects.toThrow(ClosedError)
  })

  it('works in worker threads, also in one that is terminated in a step', async () => {
    const source = `
      const { parentPort, workerData } = require('node:worker_threads')
      import(${JSON.stringify(library)}).then(async ({ openEngine, defaultLora }) => {
        const engine = await openEngine({ model: ${JSON.stringify(model)}, threads: 1, lora: { ...defaultLora, rank: 4 } })
        parentPort.postMessage('open')
        const [values] = await engine.logprobs([workerData.sequence])
        if (workerData.pairs) await engine.accumulate(workerData.pairs, workerData.objective, workerData.step)
        parentPort.postMessage([...values])
        await engine.close()
      })`
    const start = (data: object) =>
      new Worker(source, { eval: true, workerData: { sequence, objective, step, ...data } })
    await using engine = await open()
    const expected = await logprobs(engine)
    const answer = await new Promise((resolve, reject) => {
      const worker = start({})
      worker.on('message', (message) => message !== 'open' && resolve(message))
      worker.on('error', reject)
    })
    expect(answer).toEqual(expected)
    const doomed = start({ pairs: pairs(8, 400) })
    await new Promise((resolve) => doomed.once('message', resolve))
    await new Promise((resolve) => setTimeout(resolve, 20))
    await doomed.terminate()
    expect(await logprobs(engine)).toEqual(expected)
  })

  it('does not hold a process that has nothing to do', () => {
    const { status, signal } = runScript('')
    expect({ status, signal }).toEqual({ status: 0, signal: null })
  })

  it('lets a process end that opened and closed several engines', () => {
    const { status, signal } = runScript(`await engine.close()
await (await openEngine({ model: engine.spec.model })).close()`)
    expect({ status, signal }).toEqual({ status: 0, signal: null })
  })

  it('lets a process leave in the middle of a step, with its own exit code', () => {
    const { status, signal, stderr } = runScript(`
const ids = Int32Array.from({ length: 2000 }, (_, index) => index % 400)
engine.logprobs([{ ids, images: [] }])
setTimeout(() => process.exit(7), 20)`)
    expect({ status, signal, stderr }).toEqual({ status: 7, signal: null, stderr: '' })
  })
})
