/** What a system is, is known before it is asked, and is the same when it has answered. */
import { existsSync } from 'node:fs'
import { appendFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, expect, it } from 'vitest'
import { evaluateStage } from '../../src/evaluate/stage.js'
import { silent } from '../../src/stage/progress.js'
import { checkSettings } from '../../src/stage/stage.js'
import { resolveTrainConfig } from '../../src/train/config.js'
import { train } from '../../src/train/train.js'
import { fakeNative, type World, writeWorld } from '../fakes/world.js'
import { makeSample, writeRecords } from '../sample/records.js'

let world: World
let adapter: string

beforeAll(async () => {
  world = await writeWorld(6)
  const samples = world.records.map(({ id, images, prompt }) => makeSample(id, { images, question: prompt }))
  await writeRecords(join(world.root, 'samples.jsonl'), samples)
  const answers = samples.map(({ id }) => ({ sampleId: id, text: 'yes' }))
  await writeRecords(join(world.root, 'theirs.jsonl'), answers)
  const output = join(world.root, 'run')
  const data = { train: world.pairs }
  await train(resolveTrainConfig({ model: world.model, output, data, maxSteps: 1 }), { native: fakeNative() })
  adapter = join(output, 'adapter')
})

/** @param meanwhile happens when the model without its adapter has been asked. */
function evaluation(name: string, systems: object, meanwhile?: () => Promise<void>) {
  const out = join(world.root, name)
  const fake = fakeNative()
  const openEngine: typeof fake.openEngine = async (...given) => {
    const engine = await fake.openEngine(...given)
    const generate = engine.generate.bind(engine)
    engine.generate = async (...asked) => {
      const answers = await generate(...asked)
      await meanwhile?.()
      return answers
    }
    return engine
  }
  const settings = checkSettings(
    evaluateStage,
    { samples: join(world.root, 'samples.jsonl'), model: world.model, out, ...systems },
    () => undefined,
  )
  const started: string[] = []
  const progress = { ...silent, start: (title: string) => void started.push(title) }
  return { out, started, done: evaluateStage.run(settings, { progress, native: { ...fake, openEngine } }) }
}

const merged = () => join(world.model, 'fire-train.merge.json')
const mergedFrom = (digit: string) => JSON.stringify({ adapterSha256: digit.repeat(64) })

it.each([
  ['an adapter', () => ({ adapter }), () => appendFile(join(adapter, 'adapter_config.json'), ' ')],
  ['a merged model', () => ({}), () => writeFile(merged(), mergedFrom('b'))],
  [
    'a file of answers',
    () => ({ predictions: [join(world.root, 'theirs.jsonl')] }),
    () => appendFile(join(world.root, 'theirs.jsonl'), ' '),
  ],
])('refuses %s that was replaced while it answered', async (name, systems, replace) => {
  if (name === 'a merged model') await writeFile(merged(), mergedFrom('a'))
  expect(await evaluation(`${name}, whole`, systems()).done).toMatchObject({ interrupted: false })
  const { out, done } = evaluation(name, systems(), replace)
  await expect(done).rejects.toMatchObject({
    code: 'ERR_FIRE_DATA',
    message: expect.stringContaining('was changed while'),
    hint: expect.stringContaining('--overwrite'),
  })
  await rm(merged(), { force: true })
  expect(existsSync(join(out, 'evaluation.json'))).toBe(false)
})

it('refuses a model that does not say what it was merged from before the first question', async () => {
  await writeFile(merged(), '{"base":"x"}')
  const { done, started } = evaluation('unread', {})
  await expect(done).rejects.toThrow(`${merged()} does not say what the model was merged from`)
  await rm(merged())
  expect(started).toEqual([])
})
