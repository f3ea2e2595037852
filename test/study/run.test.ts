/** Studies that run: killed at random places, shared by two processes, with arms that fail. The numbers are those of one undisturbed run. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { beforeAll, describe, expect, it } from 'vitest'
import type { StudyResults } from '../../src/study/results.js'
import { type Outcome, runCommand, startCommand } from '../command.js'
import { temporaryFolder } from '../fakes/world.js'
import { smallStudy, writeStudy } from './small.js'

let file: string
/** What the undisturbed run left. */
let whole: Record<string, string>
let wholeMs: number
let wholeFolder: string
/** Its lines for machines. */
let wholeLog: Record<string, unknown>[]

const study = (out: string, ...flags: string[]): Promise<Outcome> => runCommand(['study', file, '--out', out, ...flags])

/** study.json, the tables and the pages. */
async function resultsIn(out: string): Promise<Record<string, string>> {
  const tables = (await readdir(join(out, 'tables'))).sort().map((name) => join('tables', name))
  const names = ['study.json', 'report.html', 'objectives.html', ...tables]
  return Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, await readFile(join(out, name), 'utf8')] as const)),
  )
}

const numbersIn = async (out: string): Promise<StudyResults> =>
  JSON.parse(await readFile(join(out, 'study.json'), 'utf8')) as StudyResults

const newFolder = async (): Promise<string> => join(await temporaryFolder(), 'study')

beforeAll(async () => {
  file = await writeStudy()
  const out = await newFolder()
  const started = performance.now()
  const outcome = await study(out, '--log', 'json')
  expect(outcome).toMatchObject({ code: 0 })
  wholeLog = outcome.stderr
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  wholeMs = performance.now() - started
  wholeFolder = out
  whole = await resultsIn(out)
}, 120_000)

describe('a study', () => {
  it('trains once for arms of equal settings, and says where the numbers come from', () => {
    const { arms, missing, oneRun } = JSON.parse(whole['study.json']) as StudyResults
    expect(missing).toEqual([])
    expect(oneRun).toEqual([['fire', 'same']])
    const steps = (name: string) => arms.find((arm) => arm.name === name)?.seeds[0].steps
    expect(steps('same')).toEqual(steps('fire'))
    expect(steps('same')).toHaveLength(6)
    expect(arms.map(({ seeds }) => seeds[0].groups?.overall.count)).toEqual(
      Array(4).fill(arms[0].seeds[0].groups?.overall.count),
    )
  })

  it('names its steps for machines, and gives them no number: two workers would give one number to two steps', () => {
    const started = wholeLog.filter(({ event }) => event === 'start')
    expect(new Set(started.map(({ stage }) => String(stage).split('-')[0])).size).toBeGreaterThan(2)
    for (const line of started) expect(line).not.toHaveProperty('stageNumber')
  })

  it('is the same after being killed again and again', { timeout: 180_000 }, async () => {
    const out = await newFolder()
    let kills = 0
    for (let part = 1; part <= 5; part += 1) {
      const { child, done } = startCommand(['study', file, '--out', out])
      const timer = setTimeout((part * wholeMs) / 6)
      if ((await Promise.race([timer.then(() => 'late'), done.then(() => 'done')])) === 'late') child.kill('SIGKILL')
      if ((await done).signal === 'SIGKILL') kills += 1
    }
    expect(kills).toBeGreaterThan(0)
    expect(await study(out)).toMatchObject({ code: 0 })
    expect(await resultsIn(out)).toEqual(whole)
  })

  it('is shared by two processes, and the same with two jobs', { timeout: 180_000 }, async () => {
    const [together, jobs] = [await newFolder(), await newFolder()]
    const codes = (await Promise.all([study(together), study(together)])).map(({ code }) => code)
    expect(codes).toEqual([0, 0])
    expect(await resultsIn(together)).toEqual(whole)
    expect(await study(jobs, '--jobs', '2')).toMatchObject({ code: 0 })
    expect(await resultsIn(jobs)).toEqual(whole)
  })

  it('is the same in two shards, the first of which says what is missing', { timeout: 180_000 }, async () => {
    const out = await newFolder()
    await study(out, '--shard', '1/2')
    const { missing, arms, tables } = await numbersIn(out)
    expect(missing.length).toBeGreaterThan(0)
    expect(arms.filter(({ means }) => means.overall !== null)).toHaveLength(4 - missing.length)
    expect(tables[0].comparisons.some(({ conclusion }) => conclusion === 'missing')).toBe(true)
    await study(out, '--shard', '2/2')
    expect(await resultsIn(out)).toEqual(whole)
  })

  it('goes on when an arm fails, and names it', { timeout: 180_000 }, async () => {
    const broken = { words: 'no model', set: { model: join(await temporaryFolder(), 'nowhere') } }
    const failing = { words: 'no such questions', set: { 'sample.split': 'nothing' } }
    const arms = { ...smallStudy.arms, dpo: failing }
    const out = await newFolder()
    const outcome = await runCommand(['study', await writeStudy({ arms }), '--out', out])
    const { missing, arms: results } = await numbersIn(out)
    expect(outcome.code).toBe(1)
    expect(await readFile(join(out, 'study.json'), 'utf8')).not.toContain(out)
    expect(missing).toMatchObject([{ arm: 'dpo', seed: 0, state: 'failed' }])
    expect(results.filter(({ means }) => means.overall !== null).map(({ name }) => name)).toEqual([
      'base',
      'fire',
      'same',
    ])
    expect(await readFile(join(out, 'report.html'), 'utf8')).toContain('Failed: dpo, seed 0')
    const refused = await runCommand([
      'study',
      await writeStudy({ arms: { ...arms, dpo: broken } }),
      '--out',
      await newFolder(),
    ])
    expect(refused.code).toBe(1)
    expect(refused.stderr).toContain('nowhere')
  })
})

describe('equal arms', () => {
  it('are bit-equal when they are run apart', { timeout: 180_000 }, async () => {
    const settings = { 'train.objective.alpha': 0, 'train.objective.gamma': 0 }
    const arms = {
      base: smallStudy.arms.base,
      fire: { words: 'fire without its terms', set: settings },
      same: { words: 'the same steps, run by a second study' },
      dpo: { words: 'preference over phrases', set: { 'train.objective.name': 'mask-dpo' } },
    }
    const one = await newFolder()
    await runCommand(['study', await writeStudy({ arms }), '--out', one, '--arms', 'fire,same,dpo'])
    const adapter = async (out: string, name: string): Promise<Buffer> => {
      const { arms: results } = await numbersIn(out)
      const steps = results.find((arm) => arm.name === name)?.seeds[0].steps as string[]
      const train = steps.find((step) => step.startsWith('train-')) as string
      return readFile(join(out, 'steps', train, 'adapter', 'adapter_model.safetensors'))
    }
    expect(await adapter(one, 'dpo')).toEqual(await adapter(one, 'fire'))
    expect(await adapter(wholeFolder, 'fire')).toEqual(await adapter(one, 'same'))
    expect(await adapter(one, 'same')).not.toEqual(await adapter(one, 'fire'))
  })
})
