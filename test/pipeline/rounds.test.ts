/** `rounds` of a pipeline: what each round starts from, what a file may not say, and a run that is killed, continued and prolonged. */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseHTML } from 'linkedom'
import { describe, expect, it } from 'vitest'
import { parse, stringify } from 'yaml'
import type { Response } from '../../src/data/records.js'
import { readEvaluation } from '../../src/evaluate/index.js'
import { loadPipeline, type PlannedStage } from '../../src/pipeline/index.js'
import { temporaryFolder } from '../fakes/world.js'
import { readLines } from '../sample/records.js'

const at = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url))
const demo = at('models/phantom/demo.yaml')

const plan = (settings: string[], file = demo) => loadPipeline(file, ['output=/runs/r', ...settings])
const inputOf = ({ inputs }: PlannedStage, setting: string): (string | undefined)[] =>
  inputs.filter((input) => input.setting === setting).map(({ path }) => path)

describe('rounds', () => {
  it('repeat sampling, pairs, twins and training, each in its folder, from the adapter of the round before', async () => {
    const { stages } = await plan(['rounds=2'])
    const repeated = ['sample', 'pairs', 'corrupt', 'train']
    expect(stages.map(({ name }) => name)).toEqual([
      'import',
      ...repeated.map((name) => `round-1/${name}`),
      ...repeated.map((name) => `round-2/${name}`),
      'evaluate',
      'report',
    ])
    const stage = (name: string): PlannedStage => stages.find((each) => each.name === name) as PlannedStage
    const adapters = ['/runs/r/round-1/train/adapter', '/runs/r/round-2/train/adapter']
    expect(inputOf(stage('round-1/sample'), 'adapter')).toEqual([])
    expect(inputOf(stage('round-2/sample'), 'adapter')).toEqual([adapters[0]])
    expect(inputOf(stage('round-1/train'), 'lora.init')).toEqual([])
    expect(inputOf(stage('round-2/train'), 'lora.init')).toEqual([adapters[0]])
    expect(inputOf(stage('round-2/train'), 'data.train')).toEqual(['/runs/r/round-2/corrupt/pairs.jsonl'])
    expect(inputOf(stage('evaluate'), 'adapter')).toEqual([adapters[1]])
    expect(inputOf(stage('evaluate'), 'trainedOn')).toEqual(
      [1, 2].map((round) => `/runs/r/round-${round}/corrupt/pairs.jsonl`),
    )
    expect(inputOf(stage('report'), 'metrics')).toEqual(['/runs/r/round-2/train/metrics.jsonl'])
  })

  it('draw anew in every round, and start where a run without rounds starts', async () => {
    const seeds = (stages: readonly PlannedStage[], name: string) =>
      stages.filter((each) => each.name.endsWith(name)).map(({ identity }) => identity.seed)
    const { stages } = await plan(['rounds=3', 'seed=7', 'train.seed=1'])
    for (const name of ['sample', 'pairs', 'corrupt']) expect(seeds(stages, name), name).toEqual([7, 1007, 2007])
    expect(seeds(stages, 'train')).toEqual([1, 1001, 2001])
    const once = await plan(['seed=7', 'train.seed=1'])
    expect(once.stages.map(({ name }) => name)).toEqual([
      'import',
      'sample',
      'pairs',
      'corrupt',
      'train',
      'evaluate',
      'report',
    ])
    for (const name of ['sample', 'train']) {
      const [first, alone] = [stages, once.stages].map((list) => list.find((each) => each.name.endsWith(name)))
      expect(first?.identity).toEqual(alone?.identity)
    }
  })

  it('take what the file names as the start of the first round only', async () => {
    const { stages } = await plan([
      'rounds=2',
      'sample.adapter=/start',
      'train.lora.init=/start',
      'train.lora.reference=base',
    ])
    const inits = stages.filter(({ name }) => name.endsWith('/train')).map((stage) => inputOf(stage, 'lora.init'))
    expect(inits).toEqual([['/start'], ['/runs/r/round-1/train/adapter']])
    const asked = stages.filter(({ name }) => name.endsWith('/sample')).map((stage) => inputOf(stage, 'adapter'))
    expect(asked).toEqual([['/start'], ['/runs/r/round-1/train/adapter']])
  })

  it('may say in the file what only later rounds have a use for', async () => {
    const trainings = async (settings: string[]) =>
      (await plan(settings)).stages.filter(({ name }) => name.endsWith('train')).map(({ identity }) => identity)
    const identities = await trainings(['rounds=2', 'train.lora.reference=base'])
    // The first round starts from no adapter: the setting does nothing there, and makes it no other round.
    expect(identities.map((identity) => identity['lora.reference'])).toEqual(['init', 'base'])
    expect(identities[0]).toEqual((await trainings(['rounds=2']))[0])
    await expect(plan(['rounds=1', 'train.lora.reference=base'])).rejects.toThrow(/lora\.reference/)
  })

  it.each<[string, string[], RegExp]>([
    ['no round at all', ['rounds=0'], /--set rounds=0: Expected a number > 0 for rounds/],
    ['pairs of its own', ['rounds=2', 'train.data.train=/p.jsonl'], /train\.data\.train is made anew in every round/],
    ['answers of its own', ['rounds=2', 'pairs.responses=/r.jsonl'], /pairs\.responses is made anew in every round/],
    [
      'a server',
      ['rounds=2', 'sample.endpoint={url: http://h/v1, model: m}'],
      /adapter is for the engine; a server has its own/,
    ],
  ])('refuse %s', async (_, settings, message) => {
    await expect(plan(settings)).rejects.toThrow(message)
  })

  it('refuse a file without training', async () => {
    const folder = await temporaryFolder()
    const { train, evaluate, report, ...rest } = parse(await readFile(demo, 'utf8'))
    await writeFile(join(folder, 'p.yaml'), stringify({ ...rest, model: at('models/phantom'), rounds: 2 }))
    await expect(plan([], join(folder, 'p.yaml'))).rejects.toThrow(/rounds: no stage makes an adapter/)
  })
})

const ready = existsSync(at('build/Release/fire.node')) && existsSync(at('models/phantom/model.safetensors'))

describe.skipIf(!ready)('rounds on the real engine', () => {
  it('end with the same files when they are killed in each round, and go on when there are more', {
    timeout: 240_000,
  }, async () => {
    const root = await temporaryFolder()
    const small = ['import.trainStudies=8', 'import.testStudies=4', 'evaluate.attentionQuestions=2']
    const start = (name: string, rounds: number) => {
      const settings = [`output=${join(root, name)}`, `rounds=${rounds}`, ...small]
      const flags = settings.flatMap((setting) => ['--set', setting])
      return spawn(process.execPath, [at('dist/cli/main.js'), 'run', demo, '--json', ...flags], {
        stdio: ['ignore', 'pipe', 'ignore'],
      })
    }
    const end = async (
      child: ReturnType<typeof start>,
    ): Promise<{ code: number | null; stages: { name: string; reason: string | null }[] }> => {
      let text = ''
      child.stdout.on('data', (chunk) => (text += chunk))
      const code = await new Promise<number | null>((resolve) => child.on('close', resolve))
      return { code, stages: code === 0 ? JSON.parse(text).stages : [] }
    }
    expect((await end(start('calm', 2))).code).toBe(0)
    for (const begun of ['round-1/train/metrics.jsonl', 'round-2/sample', 'round-2/train/metrics.jsonl']) {
      const child = start('killed', 2)
      const poll = setInterval(() => existsSync(join(root, 'killed', begun)) && child.kill('SIGKILL'), 2)
      const { code } = await end(child)
      clearInterval(poll)
      expect(code, begun).toBe(null)
    }
    const { code, stages } = await end(start('killed', 2))
    expect(code).toBe(0)
    const reason = (name: string) => stages.find((each) => each.name === name)?.reason
    expect(['import', 'round-1/sample', 'round-1/train', 'round-2/sample'].map(reason)).toEqual([
      null,
      null,
      null,
      null,
    ])
    expect(reason('round-2/train')).toBe('it was cut off')

    for (const round of ['round-1', 'round-2']) {
      for (const file of ['sample/responses.jsonl', 'corrupt/pairs.jsonl', 'train/adapter/adapter_model.safetensors']) {
        // A response names the folder of its adapter.
        const bytes = async (name: string): Promise<string> =>
          (await readFile(join(root, name, round, file), 'latin1')).replaceAll(join(root, name), '')
        expect((await bytes('killed')) === (await bytes('calm')), `${round}/${file}`).toBe(true)
      }
    }
    const said = async (round: string) =>
      (await readLines<Response>(join(root, 'calm', round, 'sample', 'responses.jsonl'))).map(({ text }) => text)
    expect(await said('round-2')).not.toEqual(await said('round-1'))
    const config = parse(await readFile(join(root, 'calm', 'round-2', 'train', 'config.resolved.yaml'), 'utf8'))
    expect(config.lora).toMatchObject({ init: join(root, 'calm', 'round-1', 'train', 'adapter'), reference: 'init' })
    const { inputs } = await readEvaluation(join(root, 'calm', 'evaluate'))
    expect(inputs.trainedOn.map(({ path }) => path)).toEqual([
      '../round-1/corrupt/pairs.jsonl',
      '../round-2/corrupt/pairs.jsonl',
    ])
    const { document } = parseHTML(await readFile(join(root, 'calm', 'report.html'), 'utf8'))
    const section = [...document.querySelectorAll('section')].find(
      (each) => each.querySelector('h2')?.textContent === 'Rounds',
    )
    expect([...(section?.querySelectorAll('tbody tr td:first-child') ?? [])].map((cell) => cell.textContent)).toEqual([
      'round-1',
      'round-2',
    ])

    const longer = await end(start('calm', 3))
    expect(longer.code).toBe(0)
    expect(longer.stages.filter(({ reason: why }) => why === null).map(({ name }) => name)).toEqual([
      'import',
      ...['round-1', 'round-2'].flatMap((round) =>
        ['sample', 'pairs', 'corrupt', 'train'].map((name) => `${round}/${name}`),
      ),
    ])
  })
})
