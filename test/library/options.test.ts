/** Options that nobody knows: every public call that takes an object of them refuses, and names the one that was meant. */
import { beforeAll, describe, expect, it } from 'vitest'
import { addLesionNoise, corruptPairs } from '../../src/corrupt/index.js'
import { loadPairs } from '../../src/data/pairs.js'
import { openEndpoint } from '../../src/endpoint/index.js'
import { type Engine, ImageCache, openEngine } from '../../src/engine/index.js'
import { ArgumentError, ConfigError } from '../../src/errors.js'
import { evaluate, probeAttention } from '../../src/evaluate/index.js'
import { answer, defaultGenerateSettings } from '../../src/generate/generate.js'
import { pull } from '../../src/hub/index.js'
import { importData } from '../../src/import/index.js'
import { inspectFiles } from '../../src/inspect/index.js'
import { buildPairs, constructPair, defaultVerifyLimits, verifyPair } from '../../src/pairs/index.js'
import { generateStudies } from '../../src/phantom/index.js'
import { collectReport } from '../../src/report/index.js'
import { engineAnswerer, sampleAnswers, serverAnswerer } from '../../src/sample/index.js'
import { Chat, Tokenizer } from '../../src/text/index.js'
import { collate, planTraining, resolveTrainConfig, train } from '../../src/train/index.js'
import { fakeNative, type World, writeWorld } from '../fakes/world.js'

let world: World
let engine: Engine

beforeAll(async () => {
  world = await writeWorld(2)
  engine = await openEngine({ model: world.model }, { native: fakeNative() })
})

const config = () => resolveTrainConfig({ model: world.model, data: { train: world.pairs }, output: '/nowhere' })
const prompts = () => [{ ids: Int32Array.of(1), images: [], seed: 0 }]
const sequence = () => ({ ids: Int32Array.of(1, 2), images: [] })
// What the types would refuse too.
const wrong = (options: object): never => ({ ...options }) as never
const none = (options: object = {}): never => wrong({ ...options, nonsense: 1 })
const iterate = async (all: AsyncIterable<unknown>): Promise<void> => {
  for await (const _ of all);
}

const calls: [string, () => unknown][] = [
  ['openEngine', () => openEngine(none({ model: world.model }))],
  ['openEngine, lora', () => openEngine({ model: world.model, lora: none() })],
  ['openEngine, 2nd', () => openEngine({ model: world.model }, none())],
  ['Engine.prepareImages', () => engine.prepareImages([], none())],
  ['Engine.encodeImages', () => engine.encodeImages([], none())],
  ['Engine.reserve', () => engine.reserve([], { name: 'dpo' }, { normalizer: 1, layout: 'packed' }, none())],
  ['Engine.generate, sampling', () => engine.generate(prompts(), none())],
  ['Engine.generate', () => engine.generate(prompts(), {}, none())],
  ['Engine.logprobs', () => engine.logprobs([sequence()], none())],
  ['Engine.attention', () => engine.attention(sequence(), [0], none())],
  ['Engine.update', () => engine.update(none())],
  ['ImageCache.hold', () => new ImageCache(engine, 1).hold([], none())],
  ['answer, settings', () => iterate(answer(engine, {} as Chat, [], none(defaultGenerateSettings)))],
  ['answer', () => iterate(answer(engine, {} as Chat, [], undefined, none()))],
  ['loadPairs', () => loadPairs(world.pairs, none())],
  ['train', () => train(config(), none())],
  ['planTraining', () => planTraining(config(), none())],
  ['collate', () => collate(world.records[0], none())],
  ['sampleAnswers', () => sampleAnswers(none(), {} as never)],
  ['engineAnswerer', () => engineAnswerer(none(), {} as never)],
  ['serverAnswerer', () => serverAnswerer(none(), {} as never)],
  ['openEndpoint', () => openEndpoint({ url: 'http://h', model: 'm' }, none())],
  ['buildPairs', () => buildPairs(none())],
  ['constructPair', () => constructPair({} as never, none())],
  ['verifyPair', () => verifyPair({} as never, none(defaultVerifyLimits))],
  ['corruptPairs', () => corruptPairs(none())],
  ['addLesionNoise', () => addLesionNoise({} as never, null, none(), 0)],
  ['evaluate', () => evaluate(none())],
  ['probeAttention', () => probeAttention({} as never, none())],
  ['collectReport', () => collectReport({}, none())],
  ['collectReport, sources', () => collectReport(none(), {} as never)],
  ['importData', () => importData(none({ kind: 'csv' }))],
  ['inspectFiles', () => inspectFiles([], none())],
  ['pull', () => pull(none({ repo: 'a/b' }))],
  ['generateStudies', () => generateStudies(none())],
  ['Chat', () => new Chat(none())],
  ['Tokenizer.decode', () => Tokenizer.prototype.decode([], none())],
]

describe('an unknown option', () => {
  it.each(calls)('of %s is refused', async (_name, call) => {
    const error = (await Promise.resolve()
      .then(call)
      .catch((failure) => failure)) as Error
    expect(error).toBeInstanceOf(ArgumentError)
    expect(error.message).toMatch(/^Unknown option 'nonsense' of /)
  })

  it('is answered with the one that was meant', async () => {
    await expect(train(config(), wrong({ resum: true }))).rejects.toThrow("'resum' of train; did you mean 'resume'?")
    await expect(openEngine(wrong({ model: 'm', thread: 1 }))).rejects.toThrow("did you mean 'threads'?")
    await expect(openEngine(7 as never)).rejects.toThrow(ArgumentError)
  })

  it('of settings is a ConfigError', async () => {
    await expect(train(wrong({ lrr: 1 }))).rejects.toThrow(ConfigError)
    await expect(openEndpoint(wrong({ urll: 'http://h', model: 'm' }))).rejects.toThrow(
      /Unknown key urll; did you mean 'url'/,
    )
  })
})
