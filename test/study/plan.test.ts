/** What a study is before anything runs: its file, its arms, its steps. */
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { ContentHashes } from '../../src/study/contents.js'
import { planStudy } from '../../src/study/graph.js'
import { formatStudy, loadStudy, type Study, type StudyOptions } from '../../src/study/load.js'
import { asItStands, type Graph } from '../../src/study/plan.js'
import { planFor, runStudy } from '../../src/study/study.js'
import { temporaryFolder } from '../fakes/world.js'
import { type StudyDraft, smallStudy, writeStudy } from './small.js'

async function planned(study: Study): Promise<Graph> {
  const root = join(await temporaryFolder(), 'out')
  return asItStands(await planStudy(study, root, await ContentHashes.open(root)), { assume: true })
}

const stepOf = ({ runs }: Graph, arm: string, stage: string): string | undefined =>
  runs.find((run) => run.arm === arm)?.steps.find((step) => step.stage === stage)?.name

const problemOf = async (changes: object, options: StudyOptions = {}): Promise<string> =>
  loadStudy(await writeStudy(changes as Record<string, unknown>), options).then(
    () => 'none',
    (error: Error) => error.message,
  )

describe('the file of a study', () => {
  it('loads, and its copy in the folder loads to the same study', async () => {
    const { locate: _, ...study } = await loadStudy(await writeStudy())
    const copy = join(await temporaryFolder(), 'study.yaml')
    await writeFile(copy, formatStudy({ ...study, locate: () => undefined }))
    const { locate: __, ...again } = await loadStudy(copy)
    expect(again).toEqual(study)
  })

  it('is refused with the mistake and what was meant', async () => {
    const { tables } = smallStudy
    const table = (changes: object) => ({ tables: { objectives: { ...tables.objectives, ...changes } } })
    expect(await problemOf(table({ arms: ['base', 'fyre', 'dpo'] }))).toContain("did you mean 'fire'?")
    expect(await problemOf(table({ baseline: 'same', arms: ['base', 'fire', 'dpo'] }))).toContain('objectives.baseline')
    expect(await problemOf(table({ evaluations: ['sampled'] }))).toContain("there is no evaluation 'sampled'")
    const primary = { ...tables.objectives.primary, metric: 'headroom' }
    expect(await problemOf(table({ primary }))).toContain('headroom needs an evaluation of the table with answers')
    expect(await problemOf({ arms: { base: {} } })).toContain('arms.base.words')
    expect(await problemOf({ titel: 'x' })).toContain('title')
    expect(await problemOf({}, { arms: ['dpi'] })).toContain('did you mean dpo?')
    expect(await problemOf({}, { quick: true })).toContain('quick')
    await expect(loadStudy('objektives')).rejects.toThrow('did you mean objectives?')
  })

  it('is refused with a key that no stage has, wherever it stands', async () => {
    const { base, arms } = smallStudy
    const arm = (set: object) => ({ arms: { ...arms, dpo: { words: 'x', set } } })
    expect(await problemOf({ base: { ...base, trian: {} } })).toContain(
      "base.trian: Unknown key 'trian'; did you mean 'train'?",
    )
    expect(await problemOf(arm({ 'trian.optimizer.lr': 1 }))).toContain('arms.dpo.set.trian.optimizer.lr')
    expect(await problemOf(arm({ 'train.optimizer.weightdecay': 1 }))).toContain("did you mean 'weightDecay'?")
    expect(await problemOf(arm({ train: { optimiser: {} } }))).toContain("did you mean 'optimizer'?")
    expect(await problemOf(arm({ train: true }))).toContain('expected the keys of the section, or null')
    expect(await problemOf(arm({ seed: 5 }))).toContain('from its own seeds')
    expect(await problemOf(arm({ rounds: 2 }))).toContain('the arms of a study train once')
    const evaluations = { unused: { words: 'x', set: { temprature: 1 } } }
    expect(await problemOf({ evaluations })).toContain("did you mean 'temperature'?")
    expect(await problemOf({ heldOut: { sample: { splt: 'test' } } })).toContain("did you mean 'split'?")
    expect(await problemOf({ quick: { set: { 'import.tranStudies': 1 } } })).toContain("did you mean 'trainStudies'?")
  })

  it('names paths relative to itself, in every place', async () => {
    const file = 'mine.jsonl'
    const path = await writeStudy({
      arms: { ...smallStudy.arms, dpo: { words: 'x', set: { evaluate: { samples: file, predictions: [file] } } } },
      evaluations: { more: { words: 'x', set: { scores: [file] } } },
      heldOut: { sample: { samples: file } },
      quick: { set: { 'evaluate.samples': file } },
    })
    const there = join(path, '..', file)
    const { arms, evaluations, heldOut } = await loadStudy(path)
    expect(arms.dpo.set).toEqual({ evaluate: { samples: there, predictions: [there] } })
    expect(evaluations.more.set).toEqual({ scores: [there] })
    expect(heldOut?.sample).toEqual({ samples: there })
    expect((await loadStudy(path, { quick: true })).base.evaluate).toMatchObject({ samples: there })
  })

  it('has every seed once', async () => {
    expect(await problemOf({ seeds: [0, 1, 0] })).toContain('seeds: 0 stands there twice')
    expect(await problemOf({}, { seeds: [2, 2] })).toContain('seeds: 2 stands there twice')
  })

  it('has every arm of a table once, and compares none with itself', async () => {
    const table = (changes: object) => ({
      tables: { t: { ...{ title: 'T', question: 'q', arms: ['base', 'dpo'], baseline: 'base' }, ...changes } },
    })
    const primary = { arm: 'dpo', baseline: 'base' }
    expect(await problemOf(table({ primary, arms: ['base', 'dpo', 'dpo'] }))).toContain("'dpo' stands twice")
    expect(await problemOf(table({ primary: { arm: 'dpo', baseline: 'dpo' } }))).toContain('compared with itself')
    expect(await problemOf({}, { arms: ['dpo', 'dpo'] })).toContain('asked for twice')
  })

  it('chooses nothing on what is reported', async () => {
    const tune = {
      setting: 'train.optimizer.lr',
      values: [1e-4, 2e-4],
      seed: 9,
      set: { 'evaluate.split': 'validation' },
    }
    expect(await problemOf({ tune })).toBe('none')
    const planOf = async (changes: object): Promise<Graph> =>
      planned(await loadStudy(await writeStudy(changes as StudyDraft)))
    const refused = /tune.set: the trials of fire may ask questions that are reported/
    expect((await planOf({ tune })).runs).toHaveLength(4)
    await expect(planOf({ tune: { ...tune, set: {} } })).rejects.toThrow(refused)
    await expect(planOf({ tune: { ...tune, set: { 'evaluate.split': 'test' } } })).rejects.toThrow(refused)
    await expect(planOf({ tune: { ...tune, set: { 'evaluate.split': null } } })).rejects.toThrow(refused)
    const own = { words: 'x', set: { 'evaluate.split': 'test' } }
    await expect(planOf({ tune, arms: { ...smallStudy.arms, fire: own } })).rejects.toThrow(refused)
    expect(await problemOf({ tune: { ...tune, seed: 0 } })).toContain('tune.seed 0')
    expect(await problemOf({ tune }, { seeds: [1, 9] })).toContain('tune.seed 9')
  })

  it('names the place of a setting that a stage refuses', async () => {
    const arms = { ...smallStudy.arms, dpo: { words: 'x', set: { 'train.objective.name': 'dpu' } } }
    const path = await writeStudy({ arms })
    await expect(planned(await loadStudy(path))).rejects.toThrow(/study\.yaml:\d+/)
  })
})

describe('the steps', () => {
  it('of a quick study are quick for held-out pairs too', async () => {
    const { runs } = await planned(await loadStudy('reward-hacking', { quick: true }))
    const worlds = runs.flatMap(({ steps }) => steps).filter(({ stage }) => stage === 'import')
    expect(new Set(worlds.map(({ identity }) => identity.testStudies))).toEqual(new Set([40]))
  })

  it('are the same for arms of equal settings, and shared where arms agree', async () => {
    const graph = await planned(await loadStudy(await writeStudy()))
    for (const stage of ['train', 'evaluate']) {
      expect(stepOf(graph, 'same', stage)).toBe(stepOf(graph, 'fire', stage))
      expect(stepOf(graph, 'dpo', stage)).not.toBe(stepOf(graph, 'fire', stage))
    }
    for (const stage of ['import', 'sample', 'pairs', 'corrupt']) {
      expect(stepOf(graph, 'dpo', stage)).toBe(stepOf(graph, 'fire', stage))
    }
    expect(stepOf(graph, 'base', 'train')).toBeUndefined()
    expect(stepOf(graph, 'base', 'import')).toBe(stepOf(graph, 'fire', 'import'))
  })

  it('measure the rewards of an arm on held-out pairs and on those that it is trained on', async () => {
    const table = { ...smallStudy.tables.objectives, evaluations: ['rewards'] }
    const evaluations = { rewards: { words: 'rewards', rewards: true, set: { rewardLimit: 5 } } }
    const heldOut = { sample: { split: 'test' } }
    const graph = await planned(await loadStudy(await writeStudy({ tables: { table }, evaluations, heldOut })))
    const { steps, evaluations: measured } = graph.runs.find(({ arm }) => arm === 'fire') as Graph['runs'][number]
    const [training, held] = steps.filter(({ stage }) => stage === 'pairs')
    const isTraining = steps.find(({ stage }) => stage === 'corrupt')?.needs.includes(training.name)
    expect(isTraining).toBe(true)
    expect(measured.rewards.needs).toContain(held.name)
    expect(measured.rewards.from).toContain(`${stepOf(graph, 'fire', 'corrupt')}/pairs.jsonl`)
    expect(measured.rewards.identity.rewardLimit).toBe(5)
    expect(measured[''].needs).not.toContain(held.name)
  })

  it('do not depend on threads, jobs or where the folder is', async () => {
    const path = await writeStudy()
    const names = async (set: string[]) => [...(await planned(await loadStudy(path, { set }))).steps.keys()]
    expect(await names(['base.threads=2'])).toEqual(await names([]))
    expect(await names(['base.train.optimizer.lr=0.1'])).not.toEqual(await names([]))
  })
})

describe('the inputs of a step', () => {
  const evaluationsOf = async (sets: Record<string, object>, base: object): Promise<string[]> => {
    const arms = Object.fromEntries(Object.entries(sets).map(([name, set]) => [name, { words: name, set }]))
    const names = Object.keys(sets)
    const table = { ...smallStudy.tables.objectives, arms: names, baseline: names[0] }
    const tables = { objectives: { ...table, primary: { arm: names[0], baseline: names[1] } } }
    const { runs } = await planned(await loadStudy(await writeStudy({ base, arms, tables })))
    return runs.map(({ evaluations }) => evaluations[''].name)
  }

  it('count with the setting that names them', async () => {
    const folder = await temporaryFolder()
    const [samples, file] = [join(folder, 'samples.jsonl'), join(folder, 'other.jsonl')]
    await writeFile(samples, '')
    await writeFile(file, '{}')
    const adapter = join(folder, 'adapter')
    await mkdir(adapter)
    const evaluate = { samples, adapter: [adapter], split: 'test', truth: 'phantom', modelAlone: false }
    const settings = ['trainedOn', 'rewardPairs', 'predictions', 'scores', 'groundingQuestions']
    const sets = settings.map((key) => [key, { [`evaluate.${key}`]: key === 'trainedOn' ? file : [file] }])
    const names = await evaluationsOf(Object.fromEntries(sets), { model: smallStudy.base.model, evaluate })
    expect(new Set(names).size).toBe(settings.length)
  })

  it('count with the files that they name', async () => {
    const folder = await temporaryFolder()
    const [samples, image] = [join(folder, 'samples.jsonl'), join(folder, 'image')]
    const images = [{ path: 'image', sha256: '0'.repeat(64), width: 1, height: 1 }]
    await writeFile(samples, JSON.stringify({ id: 'q', images }))
    const evaluate = { samples, split: 'test', truth: 'phantom', modelAlone: false }
    const keyWith = async (text: string): Promise<string> => {
      await writeFile(image, text)
      const [key] = await evaluationsOf({ one: {}, two: {} }, { model: smallStudy.base.model, evaluate })
      return key
    }
    expect(await keyWith('a')).not.toBe(await keyWith('b'))
  })
})

describe('the studies that come with the package', () => {
  it('have arms whose settings every stage takes', async () => {
    const { runs } = await planned(await loadStudy('all', { seeds: [0] }))
    expect(runs.length).toBeGreaterThan(20)
    const sensitivity = await planned(await loadStudy('sensitivity', { seeds: [0] }))
    expect(sensitivity.runs.map(({ arm }) => arm)).toContain('fire-lambda-0.25')
  })

  it('compare orders and twins with nothing else between the arms', async () => {
    const path = fileURLToPath(new URL('../../studies/grouping.yaml', import.meta.url))
    const { runs } = await planned(await loadStudy(path, { seeds: [0] }))
    const of = (arm: string) => {
      const steps = runs.find((run) => run.arm === arm)?.steps ?? []
      const identity = (name: string) => steps.find(({ stage }) => stage === name)?.identity ?? {}
      return { train: identity('train'), corrupt: identity('corrupt') }
    }
    const [fire, grouped, shared] = [of('fire'), of('fire-by-image'), of('fire-by-image-shared-twins')]
    expect([fire.train['data.order'], fire.corrupt.seedBy]).toEqual(['random', 'pair'])
    expect(grouped).toEqual({ ...fire, train: { ...fire.train, 'data.order': 'image' } })
    expect(shared).toEqual({ ...grouped, corrupt: { ...fire.corrupt, seedBy: 'image' } })
  })

  it('train every arm with the objective that its name begins with', async () => {
    const { runs } = await planned(await loadStudy('all', { seeds: [0] }))
    for (const { arm, steps } of runs) {
      const objective = steps.find(({ stage }) => stage === 'train')?.identity['objective.name']
      const isNamed = /^(sft|dpo|mdpo|mask-dpo|rrpo)/.exec(arm)
      if (isNamed) expect(arm.startsWith(`${objective}`), arm).toBe(true)
      else expect(objective ?? 'none', arm).toMatch(arm === 'base' ? /none/ : /^fire/)
    }
  })

  it('are planned without writing anything, quick ones with few arms and nothing tuned', async () => {
    const root = await temporaryFolder()
    const plan = await planFor(await loadStudy('objectives', { quick: true }), root)
    expect(plan).toMatchObject({ arms: ['base', 'dpo', 'fire'], seeds: [0], waiting: [] })
    expect(plan.seconds).toBeGreaterThan(0)
    expect(plan.seconds).toBeLessThan(60)
    expect(await readdir(root)).toEqual([])
  })
})

describe('the folder', () => {
  it('is refused when it holds something else, or is a file', async () => {
    const root = await temporaryFolder()
    const study = await loadStudy(await writeStudy())
    await writeFile(join(root, 'thesis.tex'), 'mine')
    await expect(runStudy(study, root)).rejects.toThrow('holds something else than a study: thesis.tex')
    expect(await readdir(root)).toEqual(['thesis.tex'])
    await expect(runStudy(study, join(root, 'thesis.tex'))).rejects.toThrow(/thesis\.tex/)
  })
})
