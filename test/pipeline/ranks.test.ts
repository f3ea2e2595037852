/** Every stage that ranks share, on the bundled model: the folder of one process, also after a stop and a failure. */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'
import { corruptStage } from '../../src/corrupt/stage.js'
import { readJsonl, writeJsonl } from '../../src/data/jsonl.js'
import { sample } from '../../src/data/records.js'
import { openEngine } from '../../src/engine/engine.js'
import { RankError } from '../../src/errors.js'
import { evaluateStage } from '../../src/evaluate/stage.js'
import { importStage } from '../../src/import/stage.js'
import { pairsStage } from '../../src/pairs/stage.js'
import { alone } from '../../src/ranks/ranks.js'
import { sampleStage } from '../../src/sample/stage.js'
import { silent } from '../../src/stage/index.js'
import { checkSettings, runStage, type Stage, type StageContext, type StageResult } from '../../src/stage/stage.js'
import { allRanks, onRanks } from '../fakes/ranks.js'
import { temporaryFolder } from '../fakes/world.js'

const model = fileURLToPath(new URL('../../models/phantom', import.meta.url))

let root: string
let samples: string
let masks: string

const run = <T, R>(stage: Stage<T, R>, tree: Record<string, unknown>, context: Partial<StageContext>) => {
  const settings = checkSettings(stage, tree, () => undefined)
  const { ranks = alone, signal } = context
  const both = AbortSignal.any([ranks.signal, ...(signal ? [signal] : [])])
  return runStage({ run: (given) => stage.run(settings, given) }, { progress: silent, ...context, signal: both })
}

/** An adapter that changes what the model says. */
async function writeAdapter(folder: string): Promise<void> {
  const lora = { rank: 2, alpha: 4, dropout: 0, rslora: false, targets: ['q_proj', 'v_proj'], seed: 1 }
  {
    await using engine = await openEngine({ model, adapter: null, threads: 1, lora })
    await engine.saveAdapter(folder)
  }
  const path = join(folder, 'adapter_model.safetensors')
  const bytes = await readFile(path)
  const start = 8 + Number(bytes.readBigUInt64LE(0))
  for (let at = start; at + 4 <= bytes.length; at += 4) bytes.writeFloatLE(0.2 * Math.sin(at), at)
  await writeFile(path, bytes)
}

beforeAll(async () => {
  root = await temporaryFolder()
  const tree = { kind: 'phantom', trainStudies: 4, testStudies: 3, out: join(root, 'data') }
  await run(importStage, tree, {})
  const made = importStage.makes(checkSettings(importStage, tree, () => undefined))
  samples = made.samples as string
  masks = made.masks as string
  await writeAdapter(join(root, 'adapter'))
  const questions: object[] = []
  for await (const { record } of readJsonl(samples, sample)) {
    const [image] = record.images
    if (record.split !== 'test' || !image || questions.length > 9) continue
    questions.push({ image: image.path, question: record.question, bbox: [8, 8, 20, 20], kind: 'localization' })
  }
  questions.push({ image: 'images/gone.png', question: 'Where?', bbox: [1, 1, 4, 4], kind: 'localization' })
  await writeJsonl(join(root, 'data', 'boxes.jsonl'), questions)
  await all('one', {})
}, 120_000)

const common = { threads: 1, batchSize: 4 }

type Run = (name: string, context: Partial<StageContext>) => Promise<StageResult>

const stages: Record<string, Run> = {
  sample: (name, context) =>
    run(
      sampleStage,
      {
        ...{ ...common, model, samples, split: 'train', answers: 2, temperature: 1, maxNewTokens: 24 },
        out: join(root, name, 'responses.jsonl'),
      },
      context,
    ),
  pairs: (name, context) =>
    run(
      pairsStage,
      {
        ...{ samples, responses: join(root, name, 'responses.jsonl'), provider: 'phantom', policy: model },
        ...{ policyAdapter: join(root, 'adapter'), out: join(root, name, 'pairs.jsonl') },
      },
      context,
    ),
  corrupt: (name, context) =>
    run(
      corruptStage,
      {
        pairs: join(root, name, 'pairs.jsonl'),
        masks,
        model,
        grain: 'model',
        sheetRows: 4,
        out: join(root, name, 'twins'),
      },
      context,
    ),
  evaluate: (name, context) =>
    run(
      evaluateStage,
      {
        ...{ ...common, model, samples, split: 'test', adapter: [join(root, 'adapter')], truth: 'phantom', masks },
        ...{ maxNewTokens: 24, answers: 2, temperature: 0.7, attentionQuestions: 3, hideLesions: ['lesion-noise'] },
        ...{ priors: ['question', 'swapped'], rewardPairs: [join(root, name, 'pairs.jsonl')] },
        ...{ groundingQuestions: [join(root, 'data', 'boxes.jsonl')], out: join(root, name, 'evaluation') },
      },
      context,
    ),
}

async function all(name: string, context: Partial<StageContext>): Promise<void> {
  for (const [stage, of] of Object.entries(stages)) {
    const { interrupted } = await of(name, context)
    expect(`${stage} ${interrupted}`).toBe(`${stage} false`)
  }
}

/** Every file below a folder, times and machines aside. */
async function contents(name: string): Promise<Record<string, string>> {
  const folder = join(root, name)
  const files: Record<string, string> = {}
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const path = join(entry.parentPath, entry.name)
    const text = (await readFile(path)).toString('latin1')
    files[path.slice(folder.length)] = text.replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g, 'then')
  }
  return files
}

/** Names of the files that differ: contents would fill the screen. */
async function different(name: string, from = 'one'): Promise<string[]> {
  const [one, other] = [await contents(from), await contents(name)]
  const names = [...new Set([...Object.keys(one), ...Object.keys(other)])]
  return names.filter((path) => one[path] !== other[path])
}

/** Progress of a rank that does something at its so many-th item. */
function atUpdate(count: number, act: () => void): StageContext['progress'] {
  let number = 0
  return { ...silent, update: () => void (++number === count && act()) }
}

describe('stages by rank', () => {
  it.each([2, 3])('leave with %i ranks what one process leaves', { timeout: 120_000 }, async (size) => {
    await allRanks(size, (ranks) => all(`of-${size}`, { ranks }))
    expect(await different(`of-${size}`)).toEqual([])
    expect(Object.keys(await contents('one')).length).toBeGreaterThan(30)
  })

  it('leave the same where only attention is looked at', { timeout: 120_000 }, async () => {
    const looks = (name: string, context: Partial<StageContext>) =>
      run(
        evaluateStage,
        {
          ...{
            ...common,
            model,
            samples,
            split: 'test',
            limit: 12,
            adapter: [join(root, 'adapter')],
            truth: 'phantom',
          },
          ...{ masks, maxNewTokens: 24, attentionQuestions: 3, out: join(root, name, 'evaluation') },
        },
        context,
      )
    await looks('looks-of-one', {})
    await allRanks(2, (ranks) => looks('looks-of-two', { ranks }))
    expect(await different('looks-of-two', 'looks-of-one')).toEqual([])
  })

  it('go on after a failure and a stop, each time with another number of ranks', { timeout: 240_000 }, async () => {
    for (const [name, stage] of Object.entries(stages)) {
      // Of an evaluation the answers are done by then.
      const count = name === 'evaluate' ? 25 : 2
      const failed = await onRanks(3, (ranks) => {
        const broken = atUpdate(ranks.rank === 1 ? count : 0, () => {
          throw new RangeError('this rank breaks')
        })
        return stage('again', { ranks, progress: broken })
      })
      expect(failed[1]).toMatchObject({ status: 'rejected', reason: expect.any(RangeError) })
      // The engine was stopped there, or a rank waited for the one that broke.
      for (const other of [failed[0], failed[2]]) {
        if (other.status === 'rejected') expect(other.reason).toBeInstanceOf(RankError)
        else expect(other.value.interrupted).toBe(true)
      }
      const stop = new AbortController()
      const stopped = await onRanks(2, (ranks) => {
        const progress = atUpdate(ranks.rank === 1 ? count : 0, () => stop.abort())
        return stage('again', { ranks, progress, signal: stop.signal })
      })
      for (const each of stopped) expect(each).toMatchObject({ status: 'fulfilled', value: { interrupted: true } })
      await allRanks(3, (ranks) => stage('again', { ranks }))
    }
    expect(await different('again')).toEqual([])
  })
})
