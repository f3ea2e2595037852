/** The folder of a run: what may be resumed or replaced, and by what it is known. */
import { existsSync } from 'node:fs'
import { cp, readdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { CheckpointError, DataError, FileError } from '../../src/errors.js'
import type { TrainConfigInput } from '../../src/train/settings.js'
import { type World, writePairs, writeWorld } from '../fakes/world.js'
import { adapterOf, configOf, run } from './fake-runs.js'

let world: World

beforeEach(async () => {
  world = await writeWorld(13)
})

const config = (output: string, changes: Partial<TrainConfigInput> = {}) => configOf(world, output, changes)

describe('the folder of a run', () => {
  it('refuses a folder that holds a run, and a resume under other settings or data', async () => {
    const settings = config('used', { maxSteps: 3 })
    await run(settings)
    await expect(run(settings)).rejects.toThrow(CheckpointError)
    await expect(run(config('used', { maxSteps: 3, seed: 7 }), { resume: true })).rejects.toThrow(
      /seed: 42 then, 7 now/,
    )
    await expect(
      run(config('used', { maxSteps: 3, data: { train: world.pairs, order: 'image' } }), { resume: true }),
    ).rejects.toThrow(/data\.order: "random" then, "image" now/)
    await run(config('used', { maxSteps: 3, threads: 1, logEvery: 5 }), { resume: true })
    await writeFile(join(settings.output, 'mine.txt'), 'kept')
    await run(config('used', { maxSteps: 3, seed: 7 }), { overwrite: true })
    expect(await readFile(join(settings.output, 'mine.txt'), 'utf8')).toBe('kept')
    await writePairs(world.pairs, world.records.slice(1))
    await expect(run(config('used', { maxSteps: 3, seed: 7 }), { resume: true })).rejects.toThrow(/has changed since/)
  })

  it('clears what a run left that was cut off before its first checkpoint, and refuses one of other settings', async () => {
    const changes = {
      ...{ data: { train: world.pairs, eval: world.pairs }, evalEvery: 2, evalSamples: 1 },
      checkpoint: { every: 0, best: 'eval_loss' },
    } as const
    const settings = config('cut-off', changes)
    const cut = new AbortController()
    const killed = run(settings, { signal: cut.signal, onProgress: ({ step }) => step === 5 && cut.abort() })
    await expect(killed).rejects.toThrow()
    await writeFile(join(settings.output, 'mine.txt'), 'kept')
    const left = async () => (await readdir(settings.output, { recursive: true })).sort()
    expect(await left()).toEqual(expect.arrayContaining(['best', join('samples', 'step-4.md')]))
    const before = await left()
    await expect(run(config('cut-off', { ...changes, seed: 7 }), { resume: true })).rejects.toThrow(
      /cut-off\/config\.resolved\.yaml:\n {2}seed: 42 then, 7 now/,
    )
    expect(await left()).toEqual(before)

    const lines: string[] = []
    const again = new AbortController()
    await run(settings, {
      ...{ resume: true, stop: again.signal, onLog: (line: string) => lines.push(line) },
      onProgress: ({ step }) => step === 1 && again.abort(),
    })
    expect((await left()).filter((name) => /^(best|samples|train\.json)/.test(name))).toEqual([])
    expect(lines).toContainEqual(expect.stringMatching(/^no checkpoint to resume from: .*best.*samples/))
    expect(await readFile(join(settings.output, 'mine.txt'), 'utf8')).toBe('kept')
    const whole = config('not-cut-off', changes)
    await run(whole)
    await run(settings, { resume: true })
    expect(await adapterOf(settings)).toBe(await adapterOf(whole))
    expect(existsSync(join(settings.output, 'best', 'adapter_model.safetensors'))).toBe(true)
  })

  it('does not take a finished run without a checkpoint for one that was cut off', async () => {
    const settings = config('uncheckpointed', { maxSteps: 2, checkpoint: { every: 0 } })
    await run(settings)
    const adapter = await adapterOf(settings)
    await expect(run(settings, { resume: true })).rejects.toThrow(
      /uncheckpointed holds a finished run, and no checkpoint to go on from/,
    )
    expect(await adapterOf(settings)).toBe(adapter)
    // Killed between the adapter and the report, or the disk was full: the adapter is what the run was for.
    await rename(join(settings.output, 'train.json'), join(world.root, 'train.json'))
    const started = vi.fn()
    const refused = await run(settings, { resume: true, onStart: started }).catch((error) => error)
    expect(refused).toBeInstanceOf(CheckpointError)
    expect(refused.hint).toContain('Its adapter is whole, only train.json is missing')
    expect(started).not.toHaveBeenCalled()
    expect(await adapterOf(settings)).toBe(adapter)
    // A pipeline that was killed before it had written the end down.
    expect(await run(settings, { resume: true, overwrite: true })).toMatchObject({ step: 2, resumedFrom: 0 })
    expect(await adapterOf(settings)).toBe(adapter)
  })

  it('knows its model by its content: one that moved is the same, another one at its place is refused', async () => {
    const model = join(world.root, 'first-model')
    await cp(world.model, model, { recursive: true })
    const at = (place: string) => config('models', { maxSteps: 3, model: place })
    await run(at(model))
    const moved = join(world.root, 'moved-model')
    await rename(model, moved)
    expect(await run(at(moved), { resume: true })).toMatchObject({ step: 3, resumedFrom: 3 })
    await cp(moved, model, { recursive: true })
    await writeFile(join(model, 'config.json'), '{"other": true}')
    await expect(run(at(model), { resume: true })).rejects.toThrow(/The model in .*first-model has changed since/)
  })

  it('knows the model of a run that was cut off before its first checkpoint in the same way', async () => {
    const model = join(world.root, 'cut-model')
    await cp(world.model, model, { recursive: true })
    const at = (place: string) => config('cut-models', { maxSteps: 3, model: place, checkpoint: { every: 0 } })
    const cut = new AbortController()
    const killed = run(at(model), { signal: cut.signal, onProgress: () => cut.abort() })
    await expect(killed).rejects.toThrow()
    const moved = join(world.root, 'moved-cut-model')
    await rename(model, moved)
    const other = join(world.root, 'other-model')
    await cp(moved, other, { recursive: true })
    await writeFile(join(other, 'config.json'), '{"other": true}')
    await expect(run(at(other), { resume: true })).rejects.toThrow(/cut-models\/config\.resolved\.yaml:\n {2}model: /)
    await rename(other, model)
    await expect(run(at(model), { resume: true })).rejects.toThrow(/The model in .*cut-model has changed since/)
    expect(await run(at(moved), { resume: true })).toMatchObject({ step: 3, resumedFrom: 0 })
  })

  it('keeps an earlier run when the one that should replace it cannot start', async () => {
    const settings = config('precious', { maxSteps: 1 })
    await run(settings)
    await writePairs(world.pairs, [{ ...world.records[0], chosen: 'too short' }])
    await expect(run(settings, { overwrite: true })).rejects.toThrow(DataError)
    expect(existsSync(join(settings.output, 'adapter', 'adapter_model.safetensors'))).toBe(true)
  })

  it('does not overwrite what the new run starts from', async () => {
    const settings = config('start', { maxSteps: 1 })
    await run(settings)
    const init = join(settings.output, 'adapter')
    const again = config('start', { maxSteps: 1, lora: { init } })
    await expect(run(again, { overwrite: true })).rejects.toThrow(
      /lora\.init is .*adapter, which would be deleted with .*adapter of an earlier run/,
    )
    expect(existsSync(join(init, 'adapter_model.safetensors'))).toBe(true)
  })

  it('says which folder of a run is the adapter', async () => {
    const settings = config('a-run', { maxSteps: 1 })
    await run(settings)
    const failure = await run(config('on', { lora: { init: settings.output } })).catch((error) => error)
    expect(failure).toBeInstanceOf(FileError)
    expect(failure.message).toBe(`${settings.output} is no adapter; it holds ${join(settings.output, 'adapter')}`)
    expect(failure.hint).toBe(`Name ${join(settings.output, 'adapter')}.`)
  })
})
