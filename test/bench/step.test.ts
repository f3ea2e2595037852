/** `bench step` as a person runs it, on the small model and without the peer. Nothing here looks at speed. */
import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import type { StepBenchResult } from '../../src/bench/step.js'
import { nativeCandidates } from '../../src/engine/load.js'
import { version } from '../../src/version.js'
import { runCommand } from '../command.js'
import { temporaryFolder } from '../fakes/world.js'

const built = nativeCandidates().some((path) => existsSync(path))

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
    const { code, stdout } = await bench('--dtype', dtype, '--rounds', '2', '--no-peer', '--out', out)
    expect(stdout).toContain('speed-up over ours-plain')
    expect(stdout).toContain('loss and gradient norm of the first step agree with ours-plain')
    expect(code).toBe(0)

    const result = JSON.parse(await readFile(out, 'utf8')) as StepBenchResult
    const names = ['ours-packed', 'ours-cached', 'ours-plain']
    expect(result.variants.map(({ variant }) => variant)).toEqual(names)
    expect(result.command).toBe(
      `fire-train bench step --size small --dtype ${dtype} --threads 1 --rounds 2 --seed 0 --no-peer --gemm auto`,
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
      await bench('--rounds', '1', '--threads', threads, '--no-peer', '--out', out)
      const { series } = JSON.parse(await readFile(out, 'utf8')) as StepBenchResult
      return series.flatMap(({ warmUp, samples }) => [warmUp.loss, warmUp.grad_norm, samples[0].loss])
    }
    expect(await first('2')).toEqual(await first('1'))
  })

  it('says why the peer was skipped, and goes on without it', async () => {
    const { code, stdout, stderr } = await bench('--rounds', '1', '--python', '/no/such/python')
    expect(stderr).toMatch(/peer skipped: \/no\/such\/python cannot import torch, transformers and peft \(.*ENOENT\)/)
    expect(stderr).toContain('--python')
    expect(stdout).not.toContain('peer-')
    expect(code).toBe(0)
  })

  it.each([
    ['--rounds', '0'],
    ['--threads', '1.5'],
  ])('refuses %s %s', async (flag, value) => {
    const { code, stderr } = await bench('--no-peer', flag, value)
    expect(stderr).toMatch(new RegExp(`Expected a .* for ${flag} but received`))
    expect(code).toBe(2)
  })
})
