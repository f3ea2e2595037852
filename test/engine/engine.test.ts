import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { setImmediate, setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { beforeAll, describe, expect, it } from 'vitest'
import { openEngine } from '../../src/engine/engine.js'
import { ImageCache } from '../../src/engine/image-cache.js'
import { loadFrom, nativeCandidates } from '../../src/engine/load.js'
import { packagesFor } from '../../src/engine/prebuilt.js'
import {
  AbortedError,
  ArgumentError,
  ClosedError,
  DataError,
  FileError,
  type FireError,
  NativeBindingError,
  UnsupportedError,
} from '../../src/errors.js'
import { fakeNative, temporaryFolder, writeModel } from '../fakes/world.js'

let model: string

beforeAll(async () => {
  model = await temporaryFolder()
  await writeModel(model)
})

const open = () => openEngine({ model }, { native: fakeNative() })

const pair = {
  id: 'p',
  prompt: Int32Array.of(1, 2),
  chosen: Int32Array.of(3, 4),
  rejected: Int32Array.of(5),
  chosenMask: Uint8Array.of(1, 0),
  rejectedMask: Uint8Array.of(1),
  images: [],
  corruptedImages: null,
}
const objective = { name: 'fire', beta: 0.1, alpha: 0.01, gamma: 0.1, lambda: 0.5, klReduction: 'sum' } as const
const step = { normalizer: 1, layout: 'packed' } as const
const sampling = { maxNewTokens: 5, temperature: 0, topP: 1, topK: 0, stopTokens: [], batchSize: 1, adapter: true }

describe('openEngine', () => {
  it('fills in defaults', async () => {
    await using engine = await openEngine({ model }, { native: fakeNative() })
    expect(engine.spec).toMatchObject({ dtype: 'f32', threads: 0, gemm: 'auto', lora: null, adapter: null })
  })

  it('gives native errors their class, their detail and the stack of the caller', async () => {
    const error = await openEngine({ model: '/none' }, { native: fakeNative() }).catch((failure) => failure)
    expect(error).toBeInstanceOf(FileError)
    expect(error.code).toBe('ERR_FIRE_IO')
    expect(error.detail.path).toContain('/none')
    expect(error.stack).toContain('engine.test.ts')
  })

  it('rejects wrong arguments in words', async () => {
    const native = fakeNative()
    const complain = (spec: object) => expect(openEngine({ model, ...spec }, { native })).rejects
    await complain({ dtype: 'fp8' }).toThrow("Expected 'f32' or 'bf16' for dtype but received 'fp8'")
    await complain({ threads: -1 }).toThrow('Expected an integer >= 0 for threads but received -1')
    await complain({ model: '' }).toThrow(ArgumentError)
    expect(native.engines).toHaveLength(0)
  })
})

describe('Engine', () => {
  it('rejects with an error of its own for an aborted signal, whatever the reason, before or during a call', async () => {
    await using engine = await open()
    const reason = new Error('stop')
    const stopped = { code: 'ERR_FIRE_ABORTED', cause: reason }
    const before = engine.accumulate([pair], objective, step, { signal: AbortSignal.abort(reason) })
    await expect(before).rejects.toMatchObject(stopped)
    const controller = new AbortController()
    process.env.FIRE_FAKE_DELAY_MS = '20'
    const call = engine.accumulate([pair], objective, step, { signal: controller.signal })
    controller.abort(reason)
    delete process.env.FIRE_FAKE_DELAY_MS
    await expect(call).rejects.toMatchObject(stopped)
    await expect(engine.accumulate([pair], objective, step)).resolves.toMatchObject({ rows: 1 })
  })

  it.each([
    ['lr', [Number.NaN, -1e-9, 1.5, 1e38, Infinity]],
    ['beta1', [Number.NaN, -0.1, 1]],
    ['beta2', [Number.NaN, -0.1, 1]],
    ['eps', [Number.NaN, 0, -1e-8, 1e-60, Infinity]],
    ['weightDecay', [Number.NaN, -1, 1e3, Infinity]],
    ['maxGradNorm', [Number.NaN, -1, Infinity]],
  ])('refuses a meaningless %s', async (name, values) => {
    await using engine = await open()
    const sound = { lr: 1e-2, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0, maxGradNorm: 1 }
    for (const value of values) {
      const update = engine.update({ ...sound, [name]: value })
      await expect(update).rejects.toThrow(new RegExp(` for ${name} but received`))
    }
    for (const weight of [Number.NaN, -1, Infinity]) {
      await expect(engine.accumulate([{ ...pair, weight }], objective, step)).rejects.toThrow(/for weight of pair/)
    }
    expect((await engine.update(sound)).step).toBe(1)
  })

  it('closes once, and refuses calls after that', async () => {
    const engine = await open()
    await Promise.all([engine.close(), engine.close()])
    await expect(engine.zeroGrad()).rejects.toThrow(ClosedError)
    expect(() => engine.imageTokens(1, 1)).toThrow(ClosedError)
  })

  it('warns when it is collected without close()', async () => {
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as () => void
    const warned = once(process, 'warning')
    await (async () => void (await open()))()
    const deadline = Date.now() + 5000
    let warning: Error | undefined
    warned.then(([first]) => {
      warning = first
    })
    while (!warning && Date.now() < deadline) {
      collect()
      await setImmediate()
    }
    expect(warning?.message).toMatch(/was collected without close\(\)/)
  })

  it('checks what it is given', async () => {
    await using engine = await open()
    const run = (changes: object) => expect(engine.accumulate([{ ...pair, ...changes }], objective, step)).rejects
    await run({ chosenMask: Uint8Array.of(1) }).toThrow(
      'Expected a Uint8Array of 2 for chosenMask of pair p but received a Uint8Array of 1 bytes',
    )
    await run({ prompt: [1, 2] }).toThrow('Expected an Int32Array for prompt of pair p but received an array of 2')
    await run({ chosen: new Int32Array(0), chosenMask: new Uint8Array(0) }).toThrow('at least one token')
    await run({ corruptedImages: ['a'] }).toThrow('Expected 0 ids for corruptedImages of pair p')
    await expect(engine.accumulate([], objective, step)).rejects.toThrow('non-empty array for pairs')
    await expect(engine.accumulate([pair], objective, { ...step, normalizer: 0 })).rejects.toThrow('normalizer')
    for (const name of ['beta', 'alpha', 'gamma', 'lambda']) {
      for (const value of [1e300, -1, Number.NaN]) {
        const absurd = engine.accumulate([pair], { ...objective, [name]: value }, step)
        await expect(absurd).rejects.toThrow(`${name} of the objective`)
      }
    }
    const image = { id: 'i', width: 2, height: 2, rgb: new Uint8Array(3) }
    await expect(engine.encodeImages([image])).rejects.toThrow('Expected 12 bytes of RGB (2 x 2) for image i')
    const prompt = { ids: Int32Array.of(1), images: [], seed: 1 }
    await expect(engine.generate([prompt], { ...sampling, topP: 0 })).rejects.toThrow('topP')
    await expect(engine.attention({ ids: Int32Array.of(1), images: [] }, [1])).rejects.toThrow('index below 1')
  })

  it('streams tokens', async () => {
    await using engine = await open()
    const seen: number[] = []
    const prompt = { ids: Int32Array.of(7, 8), images: [], seed: 1 }
    await engine.generate([prompt], sampling, { onToken: (_prompt, token) => seen.push(token) })
    expect(seen).toEqual([7, 8])
  })
})

describe('ImageCache', () => {
  const source = (id: string, decoded: string[]) => ({
    id,
    path: `${id}.png`,
    decode: async () => {
      decoded.push(id)
      return { id, width: 1, height: 1, rgb: new Uint8Array(3) }
    },
  })

  it('decodes each image once, drops the least recently used, keeps what a call needs', async () => {
    const native = fakeNative()
    await using engine = await openEngine({ model }, { native })
    const cache = new ImageCache(engine, 2)
    const decoded: string[] = []
    const hold = (...ids: string[]) => cache.hold(ids.map((id) => source(id, decoded)))
    await hold('a', 'a', 'b')
    await hold('a')
    await hold('c')
    expect(decoded).toEqual(['a', 'b', 'c'])
    expect([...native.engines[0].images]).toEqual(['a', 'c'])
    await hold('d', 'e', 'f')
    expect([...native.engines[0].images]).toEqual(['d', 'e', 'f'])
    await cache.clear()
    expect(native.engines[0].images.size).toBe(0)
    expect(cache.size).toBe(0)
  })

  it('tells two sources of one content apart, and keeps it while either is held', async () => {
    const native = fakeNative()
    await using engine = await openEngine({ model }, { native })
    const cache = new ImageCache(engine, 2)
    const twin = { ...source('a', []), id: 'twin' }
    const features = await cache.hold([source('a', []), twin])
    expect(features.map(({ id }) => id)).toEqual(['a', 'a'])
    await cache.hold([twin, source('b', [])])
    expect([...native.engines[0].images]).toEqual(['a', 'b'])
  })

  const failing = ['decode', 'prepare', 'encode'] as const
  it.each(failing)('holds none of a call when one fails to %s, and names it', async (step) => {
    const native = fakeNative()
    await using engine = await openEngine({ model }, { native })
    const [held] = native.engines
    for (const call of ['prepareImages', 'encodeImages'] as const) {
      const works = held[call].bind(held) as (...args: unknown[]) => Promise<never>
      held[call] = async (images: { id: string }[], ...rest: unknown[]) => {
        if (call.startsWith(step) && images.some(({ id }) => id === 'bad')) {
          throw new UnsupportedError('an image of 600x1 pixels')
        }
        return works(images, ...rest)
      }
    }
    const decode = () => Promise.reject(new DataError('bad.png is damaged'))
    const bad = { ...source('bad', []), ...(step === 'decode' && { decode }) }
    const hold = async (): Promise<void> => {
      await using cache = new ImageCache(engine, 4)
      await cache.hold([source('a', [])])
      await cache.hold([bad, source('b', [])]).catch((error) => {
        expect([...held.images]).toEqual(['a'])
        throw error
      })
    }
    await expect(hold()).rejects.toThrow(step === 'encode' ? /^bad\.png and 1 more: an image/ : /^bad\.png(:| is)/)
    expect(held.images.size).toBe(0)
  })

  it('prepares ahead what is not held, as many as it may hold, and encodes them together', async () => {
    const native = fakeNative()
    await using engine = await openEngine({ model }, { native })
    const [held] = native.engines
    const calls: string[][] = []
    const encode = held.encodeImages.bind(held)
    held.encodeImages = async (images, cancel) => {
      calls.push(images.map(({ id }) => id))
      return encode(images, cancel)
    }
    await using cache = new ImageCache(engine, 3)
    const decoded: string[] = []
    const sources = (ids: string) => [...ids].map((id) => source(id, decoded))
    await cache.hold(sources('a'))
    cache.prepare(sources('abcdefg'))
    await expect.poll(() => decoded).toEqual(['a', 'b', 'c', 'd'])
    expect(calls).toEqual([['a']])
    await cache.hold(sources('abc'))
    await cache.hold(sources('dea'))
    expect(calls).toEqual([['a'], ['b', 'c'], ['d', 'e']])
    expect(decoded).toEqual(['a', 'b', 'c', 'd', 'e'])
  })

  it('says what is wrong with an image that was prepared ahead when it is asked for', async () => {
    await using engine = await openEngine({ model }, { native: fakeNative() })
    await using cache = new ImageCache(engine, 4)
    const bad = { ...source('bad', []), decode: () => Promise.reject(new DataError('bad.png is damaged')) }
    const good = [source('a', []), source('b', [])]
    cache.prepare([bad, ...good])
    await cache.hold(good)
    await expect(cache.hold([bad])).rejects.toThrow('bad.png is damaged')
    // and again, should someone have mended it
    expect(await cache.hold([source('bad', [])])).toHaveLength(1)
  })

  /** An image that takes so long to decode. */
  const slow = (id: string, milliseconds: number, begun: string[]) => ({
    ...source(id, []),
    decode: async () => {
      begun.push(id)
      await sleep(milliseconds)
      return source(id, []).decode()
    },
  })

  it('decodes what is asked for before what is prepared ahead, whichever came first', async () => {
    await using engine = await openEngine({ model }, { native: fakeNative() })
    await using cache = new ImageCache(engine, 50)
    const begun: string[] = []
    const ahead = Array.from({ length: 50 }, (_, index) => slow(`ahead ${index}`, 2, begun))
    cache.prepare(ahead)
    await cache.hold([slow('new', 2, begun), ahead[40], slow('other', 2, begun)])
    const asked = ['new', 'ahead 40', 'other'].map((id) => begun.indexOf(id))
    expect(asked).toEqual([5, 4, 6])
  })

  it('prepares what was asked for last: what nobody wants any more, or is damaged, takes no place', async () => {
    await using engine = await openEngine({ model }, { native: fakeNative() })
    await using cache = new ImageCache(engine, 2)
    const decoded: string[] = []
    const damaged = ['x', 'y'].map((id) => ({ ...source(id, []), decode: () => Promise.reject(new DataError('no')) }))
    cache.prepare(damaged)
    await sleep(5)
    cache.prepare([...damaged, source('z', decoded)])
    await sleep(5)
    cache.prepare([source('a', decoded), source('b', decoded)])
    await expect.poll(() => decoded).toEqual(['a', 'b'])
    cache.prepare([source('b', decoded), source('c', decoded)])
    await expect.poll(() => decoded).toEqual(['a', 'b', 'c'])
    await cache.hold([source('a', decoded), source('c', decoded)])
    expect(decoded).toEqual(['a', 'b', 'c', 'a'])
  })

  it('ends a hold with its signal, whatever is being decoded', async () => {
    await using engine = await openEngine({ model }, { native: fakeNative() })
    const cache = new ImageCache(engine, 4)
    const signal = AbortSignal.timeout(10)
    const begun: string[] = []
    const started = performance.now()
    const wait = cache.hold([slow('a', 600, begun)], { signal })
    await expect(wait).rejects.toThrow(AbortedError)
    expect(performance.now() - started).toBeLessThan(500)
    await cache[Symbol.asyncDispose]()
    expect(performance.now() - started).toBeGreaterThan(500) // nothing is left under way
    expect(begun).toEqual(['a'])
  })

  it('leaves nothing under way behind, and drops what nobody asked for', async () => {
    await using engine = await openEngine({ model }, { native: fakeNative() })
    let running = 0
    const decoded: string[] = []
    const slow = (id: string) => ({
      ...source(id, decoded),
      decode: async () => {
        running += 1
        await sleep(5)
        running -= 1
        return source(id, decoded).decode()
      },
    })
    const cache = new ImageCache(engine, 20)
    cache.prepare([...'abcdefghij'].map(slow))
    await expect.poll(() => running).toBe(4)
    await cache[Symbol.asyncDispose]()
    expect(running).toBe(0)
    expect(decoded).toHaveLength(4)
  })
})

describe('loading the addon', () => {
  it('lists every try with its reason and the command to run', async () => {
    const broken = join(model, 'broken.node')
    await writeFile(broken, 'not a library')
    const paths = [join(model, 'none.node'), broken]
    try {
      loadFrom(paths)
      expect.unreachable()
    } catch (error) {
      expect(error).toBeInstanceOf(NativeBindingError)
      expect((error as FireError).message).toContain(`tried ${paths[0]}: not there`)
      expect((error as FireError).message).toMatch(/broken\.node: .*(invalid ELF|too short|slice|not a valid)/i)
      expect((error as FireError).hint).toContain('fire-train build')
    }
  })

  it('tries only FIRE_NATIVE_PATH when it is set', () => {
    expect(nativeCandidates({ FIRE_NATIVE_PATH: '/x.node' })).toEqual(['/x.node'])
    expect(nativeCandidates({ FIRE_NATIVE_PATH: 'out/x.node' })).toEqual([resolve('out/x.node')])
  })

  it('tries what was built here first, then the packages', () => {
    const machine = { platform: 'linux', arch: 'x64', hasGpuDriver: false } as const
    const candidates = nativeCandidates({}, machine)
    expect(candidates[0]).toMatch(/build\/Release\/fire\.node$/)
    expect(candidates.slice(-2)).toEqual(packagesFor(machine))
    expect(() => loadFrom(['@fire-train/none'])).toThrow('tried @fire-train/none: not installed')
  })
})
