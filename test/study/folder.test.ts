/** What stands in the folder of a study: its plan, its failures, its results. */
import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { sha256 } from '../../src/data/files.js'
import { LockedError, NumericError, TrainingError } from '../../src/errors.js'
import { silent } from '../../src/stage/index.js'
import { chooseStep } from '../../src/study/choose.js'
import { joinStudy } from '../../src/study/join.js'
import type { StudyResults } from '../../src/study/results.js'
import { isFailure, standingsOf } from '../../src/study/standing.js'
import type { Step, StepFiles } from '../../src/study/steps.js'
import { runCommand } from '../command.js'
import { temporaryFolder } from '../fakes/world.js'
import { smallStudy, writeStudy } from './small.js'

const read = (root: string, name: string): Promise<string> => readFile(join(root, name), 'utf8')

describe('a report', () => {
  it('needs no model, leaves nothing stale, and earlier results are kept', { timeout: 120_000 }, async () => {
    const folder = await temporaryFolder()
    const model = join(folder, 'model')
    await cp(smallStudy.base.model, model, { recursive: true })
    const file = await writeStudy({ base: { ...smallStudy.base, model } })
    const out = join(folder, 'out')
    const study = ['study', file, '--out', out, '--arms', 'base']
    expect(await runCommand(study)).toMatchObject({ code: 0 })
    const [results, page] = [await read(out, 'study.json'), await read(out, 'report.html')]

    await rm(model, { recursive: true })
    await writeFile(join(out, 'second.html'), 'of a wider run')
    await writeFile(join(out, 'tables', 'second-arms.csv'), 'of a wider run')
    expect(await runCommand(['study', 'report', out])).toMatchObject({ code: 0 })
    expect([await read(out, 'study.json'), await read(out, 'report.html')]).toEqual([results, page])
    expect((await readdir(out)).filter((name) => name.endsWith('.html')).sort()).toEqual([
      'objectives.html',
      'report.html',
    ])
    expect(await readdir(join(out, 'tables'))).not.toContain('second-arms.csv')

    // Another model: all is to be done anew, and this shard does none of it.
    await cp(smallStudy.base.model, model, { recursive: true })
    await writeFile(join(model, 'note.txt'), 'changed')
    const without = 2 - (Number.parseInt(sha256('base/0').slice(0, 8), 16) % 2)
    await runCommand([...study, '--shard', `${without}/2`])
    expect((JSON.parse(await read(out, 'study.json')) as StudyResults).missing).toHaveLength(1)
    expect(await read(join(out, 'earlier', '1'), 'study.json')).toBe(results)
    expect(await readdir(join(out, 'earlier', '1'))).toContain('report.html')
  })
})

describe('a failure', () => {
  const stepOf = (root: string, name: string, needs: string[]): StepFiles => {
    const folder = join(root, 'steps', name)
    return { name, stage: name.split('-')[0], folder, needs, outputs: [] }
  }

  it('is that of all that needs it, but a value that diverged is only out of the choice', async () => {
    const root = await temporaryFolder()
    const chain = [
      stepOf(root, 'train-1', []),
      stepOf(root, 'evaluate-1', ['train-1']),
      stepOf(root, 'train-2', []),
      stepOf(root, 'evaluate-2', ['train-2']),
      stepOf(root, 'choose-1', ['evaluate-1', 'evaluate-2']),
      stepOf(root, 'train-3', ['choose-1']),
    ]
    const steps = new Map(chain.map((step) => [step.name, step]))
    const fail = async (step: string, code: string): Promise<void> => {
      await mkdir(join(root, 'failures'), { recursive: true })
      await writeFile(join(root, 'failures', `${step}.json`), JSON.stringify({ step, code, message: 'why' }))
    }
    const standing = async (name: string) => {
      const found = (await standingsOf(root, steps)).get(name)
      return found && isFailure(found) ? found.step : found
    }
    expect([await standing('train-1'), await standing('choose-1')]).toEqual(['ready', 'waiting'])
    await fail('train-1', TrainingError.code)
    expect([await standing('evaluate-1'), await standing('choose-1')]).toEqual(['train-1', 'waiting'])
    await fail('train-2', NumericError.code)
    expect([await standing('choose-1'), await standing('train-3')]).toEqual(['ready', 'waiting'])
    await fail('train-2', 'ERR_FIRE_IO')
    expect([await standing('choose-1'), await standing('train-3')]).toEqual(['train-2', 'train-2'])
  })

  it('of one value leaves the arm with the others', { timeout: 120_000 }, async () => {
    // Weighed so, the KL of a policy that jumps is a loss that grows, whichever way it jumps.
    const set = { 'evaluate.split': 'train', 'train.epochs': 6, 'train.objective.alpha': 5 }
    const tune = { setting: 'train.optimizer.lr', values: [1e-4, 1], seed: 9, set }
    const out = join(await temporaryFolder(), 'out')
    const { code } = await runCommand(['study', await writeStudy({ tune }), '--out', out, '--arms', 'fire'])
    const { arms, missing } = JSON.parse(await read(out, 'study.json')) as StudyResults
    expect({ code, missing }).toEqual({ code: 0, missing: [] })
    const { tuned } = arms[0].seeds[0]
    expect(tuned).toMatchObject({ value: 1e-4, trials: [{ out: null }, { value: 1, count: 0 }] })
    expect(tuned?.trials[1].out).toContain('diverged')
  })

  it('of all values is that of the choice', async () => {
    const root = await temporaryFolder()
    await mkdir(join(root, 'failures'))
    const failure = { step: 'evaluate-1', code: TrainingError.code, message: 'The loss diverged' }
    await writeFile(join(root, 'failures', 'evaluate-1.json'), JSON.stringify(failure))
    const evaluation = { ...stepOf(root, 'evaluate-1', []), from: [], identity: {} } as unknown as Step
    const tune = { setting: 'lr', values: [1, 2], metric: 'overall' as const, seed: 9, set: {} }
    const choice = chooseStep(root, tune, [{ value: 1, evaluation }], new Map([[evaluation.name, evaluation]]))
    await expect(choice.run({ progress: silent })).rejects.toThrow('No value of lr can be chosen: The loss diverged')
  })
})

describe('a folder', () => {
  it('is for one study at a time, in as many processes as there are', async () => {
    const root = await temporaryFolder()
    const first = await joinStudy(root, 'aaaa')
    const second = await joinStudy(root, 'aaaa')
    expect([first.isFirst, second.isFirst]).toEqual([true, false])
    await expect(joinStudy(root, 'bbbb')).rejects.toThrow(LockedError)
    await first[Symbol.asyncDispose]()
    await second[Symbol.asyncDispose]()
    await using other = await joinStudy(root, 'bbbb')
    expect(other.isFirst).toBe(true)
  })
})
