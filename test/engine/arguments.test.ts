/** Every call of the engine with arguments of the wrong kind. Skipped where the addon has not been built. */
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { inspect } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Engine, mergeWeights, openEngine } from '../../src/engine/engine.js'
import { nativeCandidates } from '../../src/engine/load.js'
import { ArgumentError } from '../../src/errors.js'

const model = fileURLToPath(new URL('../../models/phantom', import.meta.url))
const image = { id: 'a', width: 1, height: 1, rgb: new Uint8Array(3) }
const pair = {
  id: 'p',
  prompt: Int32Array.of(1, 2),
  chosen: Int32Array.of(3),
  rejected: Int32Array.of(4),
  chosenMask: Uint8Array.of(1),
  rejectedMask: Uint8Array.of(1),
  images: [],
  corruptedImages: null,
}
const objective = { name: 'dpo' }
const step = { normalizer: 1, layout: 'packed' }
const sequence = { ids: Int32Array.of(1, 2), images: [] }
const prompt = { ...sequence, seed: 1 }

/** Values that no argument of any method takes. */
const strange = [null, -1, true, 1n, Symbol('s'), () => 0]
const noText = [undefined, ...strange, {}]
const junk = [...strange, 'x']
const noList = [undefined, ...junk, {}]
const listsWith = (...wrong: unknown[]) => [...noList, ...[undefined, ...junk, ...wrong].map((each) => [each])]
const options = [...junk, { x: 1 }, { signal: 1 }, { signal: {} }]

const pairs = listsWith({}, [], { ...pair, images: undefined, corruptedImages: [] }, { ...pair, images: [1] })
const objectives = [undefined, ...junk, {}, [], { name: 'fier' }, { name: 1 }, { name: 'dpo', beta: 'x' }]
const steps = [undefined, ...junk, {}, { ...step, normalizer: 'x' }, { ...step, layout: 1 }]
const images = listsWith({}, [], { ...image, rgb: null }, { ...image, width: 1n }, { ...image, id: 1 })
const sequences = listsWith({}, [], { ids: [1] }, { ids: sequence.ids }, { ...sequence, images: [1] })

/** Each method with arguments that are right, and what is wrong in the place of each. */
const methods: Record<string, { right: unknown[]; wrong: unknown[][] }> = {
  abortGroup: { right: ['over'], wrong: [noText] },
  imageTokens: { right: [28, 28], wrong: [noList, noList] },
  viewImage: { right: [image], wrong: [[undefined, ...junk, {}, []]] },
  prepareImages: { right: [[image]], wrong: [images, options] },
  encodeImages: { right: [[image]], wrong: [images, options] },
  releaseImages: { right: [['a']], wrong: [[...noList, ...noText.map((each) => [each])]] },
  plan: { right: [[pair], objective, step], wrong: [pairs, objectives, steps, options] },
  reserve: {
    right: [[[pair]], objective, step],
    wrong: [[...noList, ...pairs.map((each) => [each])], objectives, steps, options],
  },
  reserveImages: { right: [[1]], wrong: [listsWith({})] },
  accumulate: { right: [[pair], objective, step], wrong: [pairs, objectives, steps, options] },
  evaluate: { right: [[pair], objective, step], wrong: [pairs, objectives, steps, options] },
  update: { right: [{}], wrong: [[undefined, ...junk, {}, { lr: 'x' }]] },
  logprobs: { right: [[sequence]], wrong: [sequences, options] },
  generate: {
    right: [[prompt], { maxNewTokens: 1 }],
    wrong: [
      listsWith({}, [], { ...prompt, seed: 'x' }),
      [...junk, { maxNewTokens: 'x' }, { stopStrings: {} }, { stopStrings: { strings: [1] } }, { stopTokens: ['x'] }],
      [...options, { onToken: 1 }, { onEnd: {} }],
    ],
  },
  attention: { right: [sequence, [0]], wrong: [[undefined, ...junk, {}, []], listsWith({}, 2), options] },
  saveAdapter: { right: ['/none/such'], wrong: [noText, [...strange, {}]] },
  saveState: { right: ['/none/such'], wrong: [noText] },
  loadState: { right: ['/none/such'], wrong: [noText] },
}
const lora = { rank: 1, alpha: 1, dropout: 0, rslora: false, targets: ['q_proj'], seed: 1 } as const
const functions: Record<string, { right: unknown[]; wrong: unknown[][] }> = {
  openEngine: {
    right: [{ model, planOnly: true }],
    wrong: [
      [
        ...[undefined, ...junk, {}],
        ...[...strange, {}].map((each) => ({ model: each })),
        ...[...strange.slice(1), {}].map((each) => ({ model, adapter: each })),
        ...[1, {}, { ...lora, targets: 1 }, { ...lora, targets: [1] }].map((each) => ({ model, lora: each })),
      ],
      options,
    ],
  },
  mergeWeights: {
    right: [{ model, adapter: model, output: '/none/such', shardBytes: 1e9, rename: [] }],
    wrong: [[undefined, ...junk, {}, { model: 1 }], options],
  },
}

let engine: Engine

const exported: Record<string, unknown> = { openEngine, mergeWeights }

async function call(name: string, values: unknown[]): Promise<unknown> {
  const method = (exported[name] ?? engine[name as keyof Engine]) as (...values: unknown[]) => unknown
  try {
    return await method.apply(engine, values)
  } catch (error) {
    return error
  }
}

describe.skipIf(!nativeCandidates().some((path) => existsSync(path)))('wrong arguments', () => {
  beforeAll(async () => {
    engine = await openEngine({ model, lora: { ...lora, targets: [...lora.targets] } })
  })
  afterAll(() => engine.close())

  it('knows every method of an engine', () => {
    const known = [...Object.keys(methods), 'constructor', 'zeroGrad', 'close'].sort()
    expect(Object.getOwnPropertyNames(Engine.prototype).sort()).toEqual(known)
  })

  const rows = Object.entries({ ...methods, ...functions }).flatMap(([name, { right, wrong }]) =>
    wrong.map((values, index) => ({ name, index, values, right })),
  )

  it.each(rows)(
    '$name refuses what argument $index cannot be with an ArgumentError',
    async ({ name, index, values, right }) => {
      for (const value of values) {
        const taken = [...right, ...Array(4).fill(undefined)].slice(0, Math.max(right.length, index + 1))
        taken[index] = value
        expect(await call(name, taken), `${name} with ${inspect(value)}`).toBeInstanceOf(ArgumentError)
      }
    },
  )

  it('names the objective that was probably meant', async () => {
    const error = await call('reserve', [[], { name: 'fier' }, step])
    expect(error).toMatchObject({ message: expect.stringMatching(/received 'fier'; did you mean 'fire'\?$/) })
  })
})
