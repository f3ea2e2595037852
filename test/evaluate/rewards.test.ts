/** Rewards of texts: by hand, by closed forms, and on a model that was trained to prefer one style. */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'
import { writeJsonl } from '../../src/data/jsonl.js'
import type { ImageRef, Pair, Sample } from '../../src/data/records.js'
import { type Engine, openEngine } from '../../src/engine/engine.js'
import { ImageCache } from '../../src/engine/image-cache.js'
import { DataError } from '../../src/errors.js'
import type { RewardRecord } from '../../src/evaluate/records.js'
import { type RewardItem, readRewardItems } from '../../src/evaluate/rewards/items.js'
import {
  implicitRewards,
  measureRewards,
  type Rewarded,
  type RewardedModel,
} from '../../src/evaluate/rewards/measure.js'
import { rewardResults } from '../../src/evaluate/rewards/summary.js'
import { evaluateStage } from '../../src/evaluate/stage.js'
import { PhantomProvider, RulesProvider } from '../../src/pairs/index.js'
import { counterfactual, generateStudies, judge, Rng, readTruth, studySamples } from '../../src/phantom/index.js'
import { sayClaim } from '../../src/phantom/language.js'
import { Chat } from '../../src/text/chat.js'
import { temporaryFolder } from '../fakes/world.js'
import { makeSample } from '../sample/records.js'

const model = fileURLToPath(new URL('../../models/phantom', import.meta.url))
let chat: Chat
beforeAll(async () => {
  await using engine = await openEngine({ model, planOnly: true })
  chat = await Chat.load(model, engine.info)
})

/** An engine whose adapter adds to the log-probability of each token what `extra` says of it. */
function engineWith(extra: (token: number, at: number) => number): Engine {
  const logprobs: Engine['logprobs'] = async (sequences, { adapter } = {}) =>
    sequences.map(({ ids }) =>
      Float32Array.from(ids.subarray(1), (token, at) => -1 - (token % 7) + (adapter ? extra(token, at + 1) : 0)),
    )
  return { logprobs } as unknown as Engine
}

const pairOf = (
  id: string,
  chosen: string,
  rejected: string,
  edits: Pair['edits'],
  more: Partial<Pair> = {},
): Pair => ({
  ...{ id, sampleId: id, images: [], prompt: 'Is there a nodule?', chosen, rejected, edits },
  ...{ origin: 'counterfactual', provenance: { mode: 'on-policy' }, ...more },
})
const about = (system: string) => ({ system, pairs: 'pairs.jsonl' })
const yes = 'Yes, there is a nodule.'
const no = 'No, there is no nodule.'
const edits: Pair['edits'] = [
  { chosen: [0, 3], rejected: [0, 2], category: 'presence' },
  { chosen: [14, 15], rejected: [13, 15], category: 'presence' },
]

/** Of items that can all be measured. */
async function rewarded(of: { system: string; pairs: string }, items: RewardItem[], model: RewardedModel) {
  const records: RewardRecord[] = []
  for await (const found of measureRewards(of, items, model, { trained: null })) {
    if ('record' in found) records.push(found.record)
    else expect.fail(found.problem)
  }
  return records
}

describe('implicit rewards', () => {
  it('sum the log-ratios of an answer with its end, and of its phrases, and nothing of the question', async () => {
    const engine = engineWith((token, at) => token / 1000 + at)
    await using images = new ImageCache(engine, 4)
    const texts = [
      { text: yes, phrases: [[0, 3]] as [number, number][] },
      { text: 'Yes', phrases: [] },
    ]
    const question = { prompt: 'Is there a nodule?', images: [] }
    const [long, short] = await implicitRewards({ engine, chat, imageRoot: '.' }, question, texts, { images })
    const prompt = chat.promptIds(question.prompt)
    const { ids, offsets } = chat.tokenizer.encodeWithOffsets(yes)
    const ratios = [...ids, chat.endTokenId].map((token, i) => token / 1000 + prompt.length + i)
    // Sums of a dozen float32 log-probabilities of size 100.
    expect(long.answer).toBeCloseTo(
      ratios.reduce((a, b) => a + b),
      3,
    )
    const first = offsets.filter(([start]) => start < 3).length
    expect(long.phrases).toBeCloseTo(
      ratios.slice(0, first).reduce((a, b) => a + b),
      3,
    )
    expect(long.words).toBe(5)
    expect(short).toMatchObject({ phrases: 0, words: 1 })
  })

  it('of a model that its adapter did not change are 0, and a tie is no preference', async () => {
    const items = [{ pair: pairOf('a', yes, no, edits), reference: { right: 'yes', wrong: 'no' }, reason: null }]
    const engine = engineWith(() => 0)
    const records = await rewarded(about('base'), items, { engine, chat, imageRoot: '.' })
    const [{ accuracy, margin, crossed }] = rewardResults(records, 0)
    expect([accuracy.answer.value, accuracy.phrases.value, margin.answer.value]).toEqual([0, 0, 0])
    expect(crossed).toMatchObject({ items: 1, bothReference: { successes: 0 }, rightReference: { successes: 0 } })
  })

  it('show an adapter that likes short answers: high where right is short, low where wrong is', async () => {
    // Every token costs the adapter a nat; the word "Yes" pays half a nat.
    const liked = new Set(chat.tokenizer.encode('Yes').slice(0, 1))
    const engine = engineWith((token) => (liked.has(token) ? -0.5 : -1))
    const items = Array.from({ length: 30 }, (_, i) => ({
      pair: pairOf(`p${i}`, yes, no, edits),
      reference: { right: 'Yes', wrong: 'No' },
      reason: null,
    }))
    const records = await rewarded(about('short'), items, { engine, chat, imageRoot: '.' })
    const [{ crossed, accuracy, margin }] = rewardResults(records, 0)
    expect(accuracy.phrases).toMatchObject({ successes: 30, count: 30 })
    expect(margin.phrases.value).toBeGreaterThan(0)
    expect(crossed).toMatchObject({
      words: { reference: 1, own: 5 },
      bothReference: { successes: 30 },
      rightReference: { successes: 30 },
      rightOwn: { successes: 0, count: 30 },
    })
  })

  it('leave out what does not fit the context, by name', async () => {
    const items = [{ pair: pairOf('long', yes.repeat(400), no, []), reference: null, reason: 'none' }]
    const model = { engine: engineWith(() => 0), chat, imageRoot: '.' }
    const found: Rewarded[] = []
    for await (const each of measureRewards(about('base'), items, model, { trained: null })) found.push(each)
    expect(found).toEqual([
      { problem: expect.stringMatching(/^pair long: it takes \d+ tokens, the model's context has/) },
    ])
  })
})

describe('the summary', () => {
  const record = (over: Partial<RewardRecord>): RewardRecord => ({
    ...{
      system: 's',
      pairs: 'held-out.jsonl',
      pairId: 'p',
      sampleId: 'p',
      imageId: 'i',
      seenImage: null,
      reason: null,
    },
    ...{ chosen: { answer: 1, phrases: 2, words: 4 }, rejected: { answer: 0, phrases: 3, words: 6 } },
    ...{ referenceRight: null, referenceWrong: null, ...over },
  })

  it('counts strictly, by all tokens and by phrases, and takes the margin by image', () => {
    const other = record({ imageId: 'j', chosen: { answer: 5, phrases: 9, words: 1 } })
    const reason = 'its question is not asked here'
    const [first, second] = rewardResults([record({}), other, record({ system: 't', reason })], 0)
    expect(first.accuracy.answer).toMatchObject({ successes: 2, count: 2 })
    expect(first.accuracy.phrases).toMatchObject({ successes: 1, count: 2 })
    expect(first.margin).toMatchObject({ answer: { value: 3 }, phrases: { value: 2.5 } })
    expect(first).toMatchObject({
      pairs: 'held-out.jsonl',
      count: 2,
      images: 2,
      seen: null,
      crossed: null,
      notCrossed: {},
    })
    expect(second).toMatchObject({ system: 't', count: 1, notCrossed: { [reason]: 1 } })
  })

  it('of the crossed probe compares each text with the right other one', () => {
    const at = (answer: number) => ({ answer, phrases: 0, words: 2 })
    const texts = { chosen: at(3), rejected: at(1), referenceRight: at(2), referenceWrong: at(4) }
    const [{ crossed }] = rewardResults([record(texts)], 0)
    expect(crossed).toMatchObject({
      bothOwn: { successes: 1 },
      bothReference: { successes: 0 },
      rightOwn: { successes: 0 },
      rightReference: { successes: 1 },
      logRatios: { ownRight: 3, ownWrong: 1, referenceRight: 2, referenceWrong: 4 },
    })
  })

  it('has numbers of each file, and says how many pairs are about images that were trained on', () => {
    const trained = { pairs: 'train.jsonl', seenImage: true }
    const results = rewardResults(
      [record({ seenImage: false }), record(trained), record({ seenImage: true }), record(trained)],
      0,
    )
    expect(results).toMatchObject([
      { pairs: 'held-out.jsonl', count: 2, seen: 1 },
      { pairs: 'train.jsonl', count: 2, seen: 2 },
    ])
  })

  it('has the gap between styles with an interval by image', () => {
    const at = (answer: number) => ({ answer, phrases: 0, words: 2 })
    // The reference's style is worth 2 nats, right 1: right terse beats wrong long, right long loses to wrong terse.
    const hacked = { chosen: at(1), rejected: at(0), referenceRight: at(3), referenceWrong: at(2) }
    // Content alone decides.
    const fair = { chosen: at(1), rejected: at(0), referenceRight: at(1), referenceWrong: at(0) }
    const few = [...Array(3).fill(hacked), fair].map((texts, i) => record({ ...texts, imageId: `i${i}` }))
    const [{ crossed: ofFew }] = rewardResults(few, 3)
    expect(ofFew).toMatchObject({
      bothOwn: { successes: 4 },
      bothReference: { successes: 4 },
      styleGap: { count: 4, value: 0.75, interval: null },
      // Content 1 nat in all; style 2, 2, 2 and 0.
      effects: { content: { value: 1, interval: null }, style: { value: 1.5 } },
    })
    // Two items about each of 20 images, those of the first fair: it is drawn Bin(20, 1/20) times, in 95 % of draws 0 to 3 times.
    const many = Array.from({ length: 40 }, (_, i) => record({ ...(i < 2 ? fair : hacked), imageId: `i${i >> 1}` }))
    const [{ crossed, margin }] = rewardResults(many, 3)
    expect(crossed?.styleGap).toMatchObject({ count: 40, value: 0.95, interval: { seed: 3, high: 1 } })
    expect(crossed?.styleGap.interval?.low).toBeCloseTo(0.85, 12)
    expect(crossed?.effects).toMatchObject({ content: { interval: { low: 1, high: 1 } }, style: { value: 1.9 } })
    expect(crossed?.effects.style.interval?.low).toBeCloseTo(1.7, 12)
    expect(margin.answer).toMatchObject({ value: 1, interval: { low: 1, high: 1 } })
  })
})

describe('what is crossed', () => {
  const image: ImageRef = { path: 'a.png', sha256: '0'.repeat(64), width: 96, height: 96 }

  it('of the phantom world is true and false as the exact judge has it', async () => {
    const path = join(await temporaryFolder(), 'pairs.jsonl')
    const samples: Sample[] = generateStudies({ seed: 9, split: 'validation', count: 20 }).flatMap((study) =>
      studySamples(study, image),
    )
    const pairs = samples.flatMap((sample) => {
      const truth = readTruth(sample.meta)
      if (truth.ask.intent === 'report') return []
      const chosen = sayClaim(truth.ask, truth.claim!, 0)
      const rejected = counterfactual(truth, chosen, new Rng(sample.id)) as string
      return [pairOf(sample.id, chosen, rejected, [])]
    })
    await writeJsonl(path, pairs)
    const items = await readRewardItems(path, samples, new PhantomProvider(), { seed: 1 })
    expect(items).toHaveLength(pairs.length)
    const crossed = items.flatMap(({ pair, reference }) => (reference ? [{ pair, reference }] : []))
    expect(crossed.length).toBeGreaterThan(0.95 * items.length)
    for (const { pair, reference } of crossed) {
      const sample = samples.find(({ id }) => id === pair.sampleId) as Sample
      const truth = readTruth(sample.meta)
      expect(reference.right).toBe(sample.answer)
      expect(judge(truth, reference.right)).toMatchObject({ correct: true })
      expect(judge(truth, reference.wrong), `${sample.question} ${reference.wrong}`).toMatchObject({
        correct: false,
        decided: true,
      })
    }
    expect(await readRewardItems(path, samples, new PhantomProvider(), { seed: 1 })).toEqual(items)
  })

  it('of other data is made wrong by the rules; what cannot be crossed says why', async () => {
    const path = join(await temporaryFolder(), 'pairs.jsonl')
    const sample = makeSample('one', { question: 'Is there a nodule?', answer: 'yes' })
    const style = { provenance: { mode: 'phrases' } }
    const own = makeSample('own', { question: 'Is there a nodule?', answer: yes })
    await writeJsonl(path, [
      pairOf('one', yes, no, edits),
      pairOf('other', yes, no, edits),
      pairOf('short', 'Yes', 'No', [], { ...style, sampleId: 'one' }),
      pairOf('own', yes, no, edits),
    ])
    const items = await readRewardItems(path, [sample, own], new RulesProvider(), { seed: 1 })
    expect(items.map(({ reference }) => reference)).toEqual([{ right: 'yes', wrong: 'no' }, null, null, null])
    expect(items.map(({ reason }) => reason)).toEqual([
      null,
      'its question is not asked here',
      "its sides are not the model's own words",
      'the model speaks as the reference does',
    ])
    // Every second pair of four.
    const some = await readRewardItems(path, [sample, own], new RulesProvider(), { seed: 1, limit: 2 })
    expect(some.map(({ pair }) => pair.id)).toEqual(['one', 'short'])
    await writeJsonl(path, [])
    await expect(readRewardItems(path, [sample], new RulesProvider(), { seed: 1 })).rejects.toBeInstanceOf(DataError)
  })
})

it('needs an adapter', () => {
  const given = { samples: 's.jsonl', out: 'o', model: 'm', rewardPairs: ['p.jsonl'] }
  expect(() => evaluateStage.check?.(given, () => undefined)).toThrow(/give an adapter or a run/)
})
