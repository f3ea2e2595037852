/** `bench step` as a person runs it, on the small model and without the peer. Nothing here looks at speed. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import type { StepBenchResult } from '../../src/bench/step.js'
import { version } from '../../src/version.js'
import { runCommand } from '../command.js'
import { built, temporaryFolder } from '../fakes/world.js'

let scratch: string

beforeAll(async () => {
  scratch = await temporaryFolder()
})

/** TMPDIR is a folder of the test's own, to see that nothing is left in it. */
const bench = (...args: string[]) =>
  runCommand(['bench', 'step', '--size', 'small', ...args], { env: { TMPDIR: scratch } })

describe.skipIf(!built)('bench step', () => {
  it.each(['f32', 'bf16'] as const)('compares packed, cached and plain in %s', async (dtype) => {
    const out = join(scratch, 'results', `${dtype}.json`)
    const { code, stdout } = await bench('--dtype', dtype, '--rounds', '2', '--peer', 'none', '--out', out)
    expect(stdout).toContain('speed-up over ours-plain')
    expect(stdout).toContain('loss and gradient norm of the first step agree with ours-plain')
    expect(code).toBe(0)

    const result = JSON.parse(await readFile(out, 'utf8')) as StepBenchResult
    const names = ['ours-packed', 'ours-cached', 'ours-plain']
    expect(result.variants.map(({ variant }) => variant)).toEqual(names)
    expect(result.command).toBe(
      `fire-train bench step --objective fire --size small --dtype ${dtype} --threads 1 --rounds 2 --seed 0 ` +
        '--peer none --pairs 2 --images 2 --twins own --gemm auto',
    )
    expect(result).toMatchObject({ benchmark: 'step', version, versions: { node: process.version, peer: null } })
    expect(result.machine.kernel).not.toBe('')
    expect(result.machine.memoryBytes).toBeGreaterThan(0)
    expect(Number.isNaN(Date.parse(result.date))).toBe(false)

    expect(result.agreement.agrees).toBe(true)
    const [packed, cached, plain] = result.series
    expect(cached.warmUp).toMatchObject({ loss: packed.warmUp.loss, grad_norm: packed.warmUp.grad_norm })
    expect(packed.warmUp.tokens).toBeLessThan(plain.warmUp.tokens)
    for (const { samples } of result.series) {
      expect(samples.map(({ step }) => step)).toEqual([2, 3])
      for (const sample of samples) {
        expect(sample.seconds).toBeGreaterThan(0)
        expect(sample.peak_rss).toBeGreaterThan(2 ** 20)
      }
    }
    expect(Object.keys(result.ratios)).toEqual(['ours-plain'])
    expect(result.ratios['ours-plain'].map(({ variant }) => variant)).toEqual(names)
    expect(await readdir(scratch)).toEqual(['results'])
  })

  it('gives the same numbers again, whatever the threads', async () => {
    const first = async (threads: string): Promise<number[]> => {
      const out = join(scratch, 'results', 'again.json')
      await bench('--rounds', '1', '--threads', threads, '--peer', 'none', '--out', out)
      const { series } = JSON.parse(await readFile(out, 'utf8')) as StepBenchResult
      return series.flatMap(({ warmUp, samples }) => [warmUp.loss, warmUp.grad_norm, samples[0].loss])
    }
    expect(await first('2')).toEqual(await first('1'))
  })

  it('takes more pairs about fewer images', async () => {
    const out = join(scratch, 'results', 'images.json')
    const counts = ['--pairs', '4', '--images', '2']
    const steps = async (twins: string): Promise<StepBenchResult> => {
      const { code } = await bench('--rounds', '1', '--peer', 'none', ...counts, '--twins', twins, '--out', out)
      expect(code).toBe(0)
      return JSON.parse(await readFile(out, 'utf8')) as StepBenchResult
    }
    const [own, shared] = [await steps('own'), await steps('shared')]
    expect(own.settings).toMatchObject({ pairs: 4, images: 2, twins: 'own' })
    const [packed, pair] = own.variants
    expect([packed.variant, pair.variant]).toEqual(['ours-packed', 'ours-pair'])
    expect(packed.tokens).toBeLessThan(pair.tokens)
    expect(shared.agreement.rows[0].loss).not.toBe(own.agreement.rows[0].loss)
  })

  it('takes the steps of dpo on the bundled model, all of them compared', async () => {
    const out = join(scratch, 'results', 'dpo.json')
    const flags = ['--objective', 'dpo', '--peer', 'none', '--rounds', '2', '--images', '4', '--out', out]
    const { code, stdout } = await runCommand(['bench', 'step', ...flags], { env: { TMPDIR: scratch } })
    expect(stdout).toContain('all numbers of 3 steps agree with ours-plain')
    expect(code).toBe(0)
    const { command, series, agreement } = JSON.parse(await readFile(out, 'utf8')) as StepBenchResult
    expect(command).toBe(
      'fire-train bench step --objective dpo --dtype f32 --threads 1 --rounds 2 --seed 0 --peer none --pairs 8 --images 4 ' +
        '--gemm auto',
    )
    expect(agreement.steps).toBe(3)
    const [packed] = series
    expect(packed.samples[1].loss).toBeLessThan(packed.warmUp.loss - 0.01)
  })

  it.each([
    [['--objective', 'dpo', '--peer', 'torch'], '--objective dpo is measured beside trl, not torch'],
    [['--peer', 'trl'], '--objective fire is measured beside torch, not trl'],
    [['--images', '3', '--pairs', '2', '--peer', 'none'], '--images 3 is more than --pairs 2'],
    [['--objective', 'dpo', '--twins', 'shared'], '--twins has no effect with --objective dpo'],
    [['--twins', 'shared'], '--twins has no effect without --images'],
    [['--twins', 'shared', '--pairs', '2', '--images', '2', '--peer', 'none'], '--twins has no effect with as many'],
    [['--objective', 'dpo', '--images', '1', '--pairs', '20', '--peer', 'none'], 'too few for so many pairs'],
  ])('refuses %j', async (flags, message) => {
    const { code, stderr } = await runCommand(['bench', 'step', ...flags])
    expect(stderr).toContain(message)
    expect(code).not.toBe(0)
  })

  it.each([
    ['step', 'torch', []],
    ['step', 'trl', ['--objective', 'dpo']],
    ['generate', 'torch', []],
  ])('of %s ends with an error when the peer that was named, %s, is not there', async (name, peer, flags) => {
    const asked = ['bench', name, ...flags, '--peer', peer, '--python', '/no/such/python', '--json']
    const { code, stdout } = await runCommand(asked, { env: { TMPDIR: scratch } })
    expect(code).toBe(1)
    const { error } = JSON.parse(stdout)
    expect(error).toMatchObject({ code: 'ERR_FIRE_BENCH', detail: { peer, python: '/no/such/python' } })
    expect(error.hint).toMatch(/pip install -r .*bench\/peer\/requirements\.txt.*--python/)
  })

  it('says why the peer was skipped, and goes on without it', async () => {
    const { code, stdout, stderr } = await bench('--rounds', '1', '--python', '/no/such/python')
    expect(stderr).toMatch(/peer skipped: \/no\/such\/python cannot import torch, transformers, peft \(.*ENOENT\)/)
    expect(stderr).toContain('--python')
    expect(stdout).not.toContain('peer-')
    expect(code).toBe(0)
  })

  it.each([
    ['--rounds', '0'],
    ['--threads', '1.5'],
  ])('refuses %s %s', async (flag, value) => {
    const { code, stderr } = await bench('--peer', 'none', flag, value)
    expect(stderr).toMatch(new RegExp(`Expected a .* for ${flag} but received`))
    expect(code).toBe(2)
  })
})
