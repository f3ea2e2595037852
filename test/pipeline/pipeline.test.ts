/** Pipelines from a file: the configuration, the stages on the in-memory engine and, killed, on the real one. */
import { spawn } from 'node:child_process'
import { existsSync, statSync } from 'node:fs'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { z } from 'zod'
import type { Sample } from '../../src/data/records.js'
import { ConfigError } from '../../src/errors.js'
import type { GroupResult } from '../../src/evaluate/groups.js'
import type { Prediction, VerdictRecord } from '../../src/evaluate/records.js'
import { generateStudies } from '../../src/phantom/index.js'
import { loadPipeline, planPipeline, runPipeline, stages } from '../../src/pipeline/index.js'
import { defineStage, silent } from '../../src/stage/index.js'
import { say, server } from '../endpoint/world.js'
import {
  fakeNative,
  fakeNativePath,
  temporaryFolder,
  type World,
  writeImage,
  writePairs,
  writeWorld,
} from '../fakes/world.js'
import { makeSample, readLines, writePng, writeRecords } from '../sample/records.js'

const at = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url))

let world: World

beforeAll(async () => {
  world = await writeWorld(12)
  const samples = world.records.map(({ id, images, prompt }) => makeSample(id, { images, question: prompt }))
  await writeRecords(join(world.root, 'samples.jsonl'), samples)
})

const base = {
  output: 'out',
  model: 'model',
  sample: { samples: 'samples.jsonl', maxNewTokens: 4 },
  train: { data: { train: 'pairs.jsonl' }, batchSize: 4, epochs: 2 },
  evaluate: { samples: 'samples.jsonl', limit: 6 },
}

async function write(name: string, changes: object = {}): Promise<string> {
  const path = join(world.root, `${name}.yaml`)
  await writeFile(path, stringify({ ...base, output: name, ...changes }))
  return path
}

async function run(path: string, overrides: string[] = []) {
  const report = await runPipeline(await loadPipeline(path, overrides), { native: fakeNative() })
  return report.stages.map(({ name, reason }) => [name, reason])
}

describe('a pipeline', () => {
  it('runs its stages, then only what a change concerns', async () => {
    const path = await write('whole')
    const folder = join(world.root, 'whole')
    expect((await run(path)).map(([name]) => name)).toEqual(['sample', 'train', 'evaluate'])
    expect(await readLines(join(folder, 'sample', 'responses.jsonl'))).toHaveLength(12)
    expect(existsSync(join(folder, 'train', 'adapter', 'adapter_config.json'))).toBe(true)
    expect(await readFile(join(folder, 'train', 'config.resolved.yaml'), 'utf8')).toContain('batchSize: 4')
    const results = JSON.parse(await readFile(join(folder, 'evaluate', 'evaluation.json'), 'utf8'))
    // The engine repeats its prompt, so it never says yes or no: all six stay in the denominator.
    const [all] = results.systems[1].groups
    expect(all).toMatchObject({ name: 'overall', accuracy: { successes: 0, count: 6 }, outcomes: { undecided: 6 } })
    // Samples and pairs show the same three images.
    expect(results.leakage).toEqual({ seen: 6, unseen: 0 })
    expect(await run(path)).toEqual([
      ['sample', null],
      ['train', null],
      ['evaluate', null],
    ])
    expect(await run(path, ['threads=1', 'train.logEvery=7', 'sample.batchSize=3'])).toEqual([
      ['sample', null],
      ['train', null],
      ['evaluate', null],
    ])
    expect(await run(path, ['train.optimizer.lr=0.001'])).toEqual([
      ['sample', null],
      ['train', 'its settings changed'],
      ['evaluate', `${join(folder, 'train', 'adapter')} changed`],
    ])
    await writePairs(join(world.root, 'fewer.jsonl'), world.records.slice(0, 8))
    const fewer = ['train.optimizer.lr=0.001', `train.data.train=${join(world.root, 'fewer.jsonl')}`]
    expect((await run(path, fewer))[1]).toEqual(['train', `${join(world.root, 'fewer.jsonl')} changed`])
  })

  it.each([
    ['sample', 'sample.maxNewTokens=5'],
    ['train', 'train.optimizer.lr=0.01'],
    ['evaluate', 'evaluate.maxNewTokens=9'],
  ])('goes on after a change of %s whose run was stopped', async (stage, change) => {
    const path = await write(`changed-${stage}`)
    await run(path)
    const stop = new AbortController()
    const start = (title: string): void => void (title.includes(stage) && stop.abort())
    const context = { signal: stop.signal, progress: { ...silent, start }, native: fakeNative() }
    expect((await runPipeline(await loadPipeline(path, [change]), context)).interrupted).toBe(stage)
    expect(await run(path, [change])).toContainEqual([stage, 'it was cut off'])
    const fresh = await write(`fresh-${stage}`)
    await run(fresh, [change])
    for (const file of [
      'sample/responses.jsonl',
      'train/adapter/adapter_model.safetensors',
      'evaluate/verdicts.jsonl',
    ]) {
      const [changed, expected] = await Promise.all(
        [`changed-${stage}`, `fresh-${stage}`].map((name) => readFile(join(world.root, name, file), 'utf8')),
      )
      // Responses name the adapter's folder.
      expect(changed.replaceAll(`changed-${stage}`, `fresh-${stage}`), file).toBe(expected)
    }
  })

  it('asks questions that failed again, and says that nothing changed where the answers are the same', async () => {
    const own = await temporaryFolder()
    const image = await writeImage(own, 'late.png', 3)
    await rename(join(own, 'late.png'), join(own, 'away.png'))
    const samples = ['late', 'there'].map((id, index) => makeSample(id, { images: index === 0 ? [image] : [] }))
    await writeRecords(join(own, 'samples.jsonl'), samples)
    const path = await write('again', {
      ...{ train: undefined, evaluate: undefined },
      sample: { samples: join(own, 'samples.jsonl'), maxNewTokens: 4 },
    })
    const answers = join(world.root, 'again', 'sample', 'responses.jsonl')
    await run(path)
    expect(await readLines(answers)).toMatchObject([{ sampleId: 'there' }])
    const [first] = await readLines(answers)
    expect(await run(path)).toEqual([['sample', '1 question has no answer yet']])
    await rename(join(own, 'away.png'), join(own, 'late.png'))
    expect(await run(path)).toEqual([['sample', '1 question has no answer yet']])
    expect(await readLines(answers)).toMatchObject([{ sampleId: 'late' }, first])
    expect(existsSync(join(world.root, 'again', 'earlier'))).toBe(false)
    expect(await run(path)).toEqual([['sample', null]])
    await writeImage(own, 'late.png', 200)
    expect(await run(path)).toEqual([['sample', `${join(own, 'late.png')} changed`]])
  })

  it('asks what an evaluation has no answer to again, and keeps the other answers', async () => {
    const own = await temporaryFolder()
    const image = await writeImage(own, 'late.png', 3)
    await rename(join(own, 'late.png'), join(own, 'away.png'))
    const samples = ['late', 'there'].map((id, index) => makeSample(id, { images: index === 0 ? [image] : [] }))
    await writeRecords(join(own, 'samples.jsonl'), samples)
    const folder = join(world.root, 'asked-again', 'evaluate')
    const path = await write('asked-again', {
      ...{ sample: undefined, train: undefined },
      evaluate: { samples: join(own, 'samples.jsonl'), maxNewTokens: 4 },
    })
    const said = async () => (await readLines<Prediction>(join(folder, 'predictions.jsonl'))).map(({ text }) => text)
    await run(path)
    const [none, kept] = await said()
    expect([none, typeof kept]).toEqual([null, 'string'])
    const why = '1 question has no answer yet'
    expect(await run(path)).toEqual([['evaluate', why]])
    await rename(join(own, 'away.png'), join(own, 'late.png'))
    expect(await run(path)).toEqual([['evaluate', why]])
    expect(await said()).toEqual([expect.any(String), kept])
    expect(existsSync(join(world.root, 'asked-again', 'earlier'))).toBe(false)
    expect(await run(path)).toEqual([['evaluate', null]])
    await writeImage(own, 'late.png', 200)
    expect(await run(path)).toEqual([['evaluate', `${join(own, 'late.png')} changed`]])
  })

  it('asks a judge again whose requests failed, and pays for no reply twice', async () => {
    const own = await temporaryFolder()
    const samples = ['one', 'two'].map((id) =>
      makeSample(id, { question: `Which ${id}?`, answer: id, answerType: 'open' }),
    )
    await writeRecords(join(own, 'samples.jsonl'), samples)
    let isAway = true
    server.answer = (response, { body }) => {
      if (isAway && body.includes('Which two?')) return void response.writeHead(500).end('away')
      say(response, '{"verdict":"correct","reason":""}')
    }
    const path = await write('judged-again', {
      ...{ sample: undefined, train: undefined },
      evaluate: {
        ...{ samples: join(own, 'samples.jsonl'), maxNewTokens: 4, judgeOn: 'all', maxUnreadable: 1 },
        judge: { url: `${server.url}/v1`, model: 'm', retries: 0, retryDelay: 0.001 },
      },
    })
    await run(path)
    const folder = join(world.root, 'judged-again', 'evaluate')
    const found = async () =>
      (await readLines<VerdictRecord>(join(folder, 'verdicts.jsonl'))).map((each) => each.verdict)
    expect(await found()).toEqual(['correct', 'failed'])
    const sent = server.asked.length
    isAway = false
    expect(await run(path)).toEqual([['evaluate', '1 request to judges failed']])
    expect(await found()).toEqual(['correct', 'correct'])
    expect(server.asked.length).toBe(sent + 1)
    expect(await run(path)).toEqual([['evaluate', null]])
  })

  it('notices other bytes in an image that records name, in every stage that looks at it', async () => {
    const own = await writeWorld(12)
    const samples = own.records.map(({ id, images, prompt }) => makeSample(id, { images, question: prompt }))
    await writeRecords(join(own.root, 'samples.jsonl'), samples)
    const path = join(own.root, 'p.yaml')
    await writeFile(path, stringify(base))
    await run(path)
    const [{ path: name }] = own.records[0].images
    await writeImage(own.root, name, 251)
    const plan = await planPipeline(await loadPipeline(path))
    const changed = `runs, because ${join(own.root, name)} changed`
    expect(plan).toEqual([`sample: ${changed}`, `train: ${changed}`, 'evaluate: may run, because train runs'])
  })

  it('notices other bytes in an image beside the file of an import', async () => {
    const own = await temporaryFolder()
    await writeImage(own, 'a.png', 3)
    await writeFile(join(own, 'own.jsonl'), JSON.stringify({ image: 'a.png', question: 'Effusion?', answer: 'no' }))
    const sections = { sample: { maxNewTokens: 4 }, train: undefined, evaluate: undefined }
    const path = await write('imported', { ...sections, import: { kind: 'jsonl', source: join(own, 'own.jsonl') } })
    await run(path)
    expect((await run(path)).map(([, reason]) => reason)).toEqual([null, null])
    await writeImage(own, 'a.png', 200)
    const plan = await planPipeline(await loadPipeline(path))
    expect(plan).toEqual([
      `import: runs, because ${join(own, 'a.png')} changed`,
      'sample: may run, because import runs',
    ])
    expect((await run(path)).map(([, reason]) => reason)).not.toContain(null)
  })

  it('has the stages that the file has', async () => {
    const path = await write('one', { train: undefined, evaluate: undefined })
    expect((await run(path)).map(([name]) => name)).toEqual(['sample'])
  })

  it('takes a stage that makes what the next ones need', async () => {
    const made = defineStage({
      name: 'draw',
      summary: 'The first samples of a file',
      settings: z.strictObject({
        from: z.string().meta({ description: 'Sample records', path: 'input' }),
        count: z.number().int().meta({ description: 'How many' }),
        out: z.string().meta({ description: 'Sample records', path: 'output' }),
      }),
      takes: {},
      out: { setting: 'out', name: 'samples.jsonl' },
      makes: ({ out }) => ({ samples: out }),
      leaves: ({ out }) => [out],
      async run({ from, count, out }) {
        await mkdir(dirname(out), { recursive: true })
        await writeRecords(out, (await readLines(from)).slice(0, count))
        return { interrupted: false, summary: `${count} samples` }
      },
    })
    const sections = { draw: { from: 'samples.jsonl', count: 5 }, sample: { images: '.' }, train: undefined }
    const path = await write('drawn', { ...sections, evaluate: undefined })
    const pipeline = await loadPipeline(path, [], [made, ...stages])
    const { stages: done } = await runPipeline(pipeline, { native: fakeNative() })
    expect(done.map(({ summary }) => summary)).toEqual(['5 samples', '5 answers'])
    await expect(loadPipeline(path, [])).rejects.toThrow(/drawn\.yaml:\d+: Unknown key draw/)
  })

  it.each<[string, object, string]>([
    ['an unknown stage', { evalute: {} }, "wrong.yaml:14: Unknown key evalute; did you mean 'evaluate'?"],
    [
      'an unknown key',
      { sample: { samples: 'x', temprature: 1 } },
      "Unknown key temprature; did you mean 'temperature'?",
    ],
    [
      'a key of training',
      { train: { data: { train: 'x' }, optimizer: { lrr: 1 } } },
      "optimizer.lrr; did you mean 'optimizer.lr'?",
    ],
    ['a wrong value', { sample: { samples: 'x', answers: 0 } }, 'Expected a number > 0 for answers but received 0'],
    [
      'a folder of its own',
      { train: { data: { train: 'x' }, output: 'y' } },
      'train.output is for the command line; a pipeline chooses it',
    ],
    ['no samples', { sample: {} }, 'sample.samples is missing'],
    ['no pairs', { train: {} }, 'train.data.train is missing'],
    ['no stage', { sample: undefined, train: undefined, evaluate: undefined }, 'There is no stage; give at least one'],
  ])('refuses %s and says where', async (_, changes, message) => {
    const path = await write('wrong', changes)
    const error = await loadPipeline(path).catch((reason) => reason)
    expect(error).toBeInstanceOf(ConfigError)
    expect(error.message).toContain(message)
    expect(error.message).toMatch(/wrong\.yaml(:\d+)?: /)
  })

  it.each<[string, object, RegExp]>([
    [
      'masks of a later stage',
      { corrupt: { pairs: 'pairs.jsonl', masks: 'maks.jsonl' } },
      /ahead\.yaml:\d+: corrupt\.masks is .*maks\.jsonl, which is not/,
    ],
    [
      'held-out pairs',
      { train: { data: { train: 'pairs.jsonl', eval: 'no.jsonl' } } },
      /train\.data\.eval is .*no\.jsonl/,
    ],
    [
      'an adapter to start from',
      { train: { ...base.train, lora: { init: 'nothere' } } },
      /train\.lora\.init is .*nothere/,
    ],
    ['a folder of images', { evaluate: { ...base.evaluate, images: 'imgaes' } }, /evaluate\.images is .*imgaes/],
    ['a model', { model: 'modle' }, /ahead\.yaml:\d+: sample\.model is .*modle, which is not there$/],
    ['a split', { sample: { ...base.sample, split: 'trian' } }, /^Stage sample: .*holds no sample of split "trian"/],
    [
      'a split of a later stage',
      { evaluate: { ...base.evaluate, split: 'tset' } },
      /^Stage evaluate: .*no sample of split "tset"/,
    ],
  ])('misses %s before the first stage, in a dry run too', async (_, changes, message) => {
    const path = await write('ahead', changes)
    await expect(run(path)).rejects.toThrow(message)
    await expect(loadPipeline(path).then((pipeline) => planPipeline(pipeline))).rejects.toThrow(message)
    expect(existsSync(join(world.root, 'ahead', 'pipeline.json'))).toBe(false)
  })

  it('refuses a stage that would start from what it makes, before that is moved', async () => {
    const folder = join(world.root, 'own-input')
    const adapter = join(folder, 'train', 'adapter')
    await mkdir(adapter, { recursive: true })
    const own = { train: { ...base.train, lora: { init: adapter } } }
    const loaded = loadPipeline(await write('own-input', own))
    await expect(loaded).rejects.toThrow(ConfigError)
    await expect(loaded).rejects.toThrow(
      /own-input\.yaml:\d+: train\.lora\.init is .*, which this stage makes: it would be moved/,
    )
    const { stages } = await loadPipeline(await write('own-input', { ...own, output: 'elsewhere' }))
    expect(stages.find(({ name }) => name === 'train')?.inputs).toContainEqual({ setting: 'lora.init', path: adapter })
  })

  it('leaves to a preset what the file does not say', async () => {
    const path = await write('preset', {
      sample: undefined,
      evaluate: undefined,
      train: { preset: 'qwen3-vl-4b', data: { train: 'pairs.jsonl' } },
    })
    const identity = async (overrides: string[]) => (await loadPipeline(path, overrides)).stages[0].identity
    expect((await identity([])).dtype).toBe('bf16')
    expect((await identity(['dtype=f32'])).dtype).toBe('f32')
  })

  it('saves on SIGINT, exits with 130 and goes on to the same adapter', { timeout: 60_000 }, async () => {
    const calm = await write('calm')
    await run(calm)
    const path = await write('stopped')
    const env = { ...process.env, FIRE_NATIVE_PATH: fakeNativePath, FIRE_FAKE_DELAY_MS: '200' }
    const child = spawn(process.execPath, [at('dist/cli/main.js'), 'run', path], { env })
    let [stderr, sent] = ['', false]
    child.stderr.on('data', (chunk) => {
      stderr += chunk
      if (sent || !stderr.includes('2/3 train: 6 steps')) return
      sent = true
      setTimeout(() => child.kill('SIGINT'), 300)
    })
    const code = await new Promise((resolve) => child.on('close', resolve))
    expect(code).toBe(130)
    expect(stderr).toContain('stopped in stage train; what was finished is kept in ')
    // The command of the pipeline has no --resume.
    const page = await readFile(join(world.root, 'stopped', 'train', 'report.html'), 'utf8')
    expect(page).toContain('<p>The same command goes on from the newest checkpoint')
    expect(await run(path)).toMatchObject([
      ['sample', null],
      ['train', 'it was cut off'],
      ['evaluate', 'it never ran'],
    ])
    const adapter = (name: string) => readFile(join(world.root, name, 'train', 'adapter', 'adapter_model.safetensors'))
    expect(await adapter('stopped')).toEqual(await adapter('calm'))
  })
})

const growing = [
  'sample/responses.jsonl',
  'train/metrics.jsonl',
  'evaluate/before.responses.jsonl',
  'evaluate/after.responses.jsonl',
]

const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0

const ready = existsSync(at('build/Release/fire.node')) && existsSync(at('models/phantom/model.safetensors'))

describe.skipIf(!ready)('fire-train run on the real engine', () => {
  it('ends with the same files however often it is killed', { timeout: 180_000 }, async () => {
    const root = await temporaryFolder()
    await mkdir(join(root, 'images'))
    const samples: Sample[] = []
    for (const split of ['train', 'test'] as const) {
      for (const study of generateStudies({ seed: 4, split, count: 6 })) {
        const image = await writePng(root, `images/${study.id}.png`, study)
        for (const { id, question, answer, answerType, task } of study.questions) {
          if (task === 'vqa') samples.push(makeSample(id, { split, images: [image], question, answer, answerType }))
        }
      }
    }
    await writeRecords(join(root, 'samples.jsonl'), samples)
    // Truth against a lie, as a whole: no stage that makes pairs is under test here.
    const pairs = samples
      .filter(({ split, answer }) => split === 'train' && (answer === 'yes' || answer === 'no'))
      .map(({ id, images, question, answer }) => {
        const [chosen, rejected] = answer === 'yes' ? ['Yes.', 'No.'] : ['No.', 'Yes.']
        const edits = [{ chosen: [0, chosen.length - 1], rejected: [0, rejected.length - 1], category: 'presence' }]
        return { id, sampleId: id, images, prompt: question, chosen, rejected, origin: 'test', edits, provenance: {} }
      })
    await writePairs(join(root, 'pairs.jsonl'), pairs)
    const start = async (name: string) => {
      const config = {
        output: name,
        model: at('models/phantom'),
        threads: 1,
        sample: { samples: 'samples.jsonl', split: 'train', answers: 4, temperature: 0.8 },
        train: {
          data: { train: 'pairs.jsonl' },
          batchSize: 4,
          epochs: 3,
          lora: { rank: 8, alpha: 16 },
          optimizer: { lr: 0.002 },
          checkpoint: { every: 2 },
        },
        evaluate: { samples: 'samples.jsonl', split: 'test' },
      }
      await writeFile(join(root, `${name}.yaml`), stringify(config))
      return spawn(process.execPath, [at('dist/cli/main.js'), 'run', join(root, `${name}.yaml`)], { stdio: 'ignore' })
    }
    const exit = (child: Awaited<ReturnType<typeof start>>) =>
      new Promise<number | null>((resolve) => child.on('close', resolve))
    expect(await exit(await start('calm'))).toBe(0)
    // Bytes written tell how far a run is; time would not, on a busy machine.
    const written = (name: string): number =>
      growing.reduce(
        (sum, file) => sum + Math.max(sizeOf(join(root, name, file)), sizeOf(join(root, name, `${file}.part`))),
        0,
      )
    let kills = 0
    let code: number | null = null
    for (let round = 0; round < 8 && code !== 0; round += 1) {
      const child = await start('killed')
      const before = written('killed')
      const target = before + Math.ceil(0.5 * Math.random() * (written('calm') - before))
      const poll = setInterval(() => written('killed') >= target && child.kill('SIGKILL'), 1)
      code = await exit(child)
      clearInterval(poll)
      if (code === null) kills += 1
    }
    if (code === null) code = await exit(await start('killed'))
    expect(kills).toBeGreaterThan(0)
    expect(code).toBe(0)
    const files = ['sample/responses.jsonl', 'train/adapter/adapter_model.safetensors', 'evaluate/evaluation.json']
    const withoutTime = (file: Buffer): string => file.toString('latin1').replace(/"at": ?"[^"]+"/, '')
    for (const file of files) {
      const [calm, killed] = await Promise.all(['calm', 'killed'].map((name) => readFile(join(root, name, file))))
      expect(withoutTime(killed), file).toBe(withoutTime(calm))
    }
    const results = JSON.parse(await readFile(join(root, 'calm', 'evaluate', 'evaluation.json'), 'utf8'))
    expect(results.leakage.seen).toBe(0)
    const closed = (groups: GroupResult[]) => groups.find(({ name }) => name === 'closed')
    expect(closed(results.systems[1].groups)?.accuracy.count).toBeGreaterThan(10)
    expect(closed(results.systems[0].groups)?.outcomes.undecided).toBeLessThan(10)
  })
})
