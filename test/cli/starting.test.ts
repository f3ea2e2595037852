/** Who starts the ranks of `launch`. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { startingOf } from '../../src/cli/starting.js'
import { ConfigError } from '../../src/errors.js'
import { fakeNative, writeWorld } from '../fakes/world.js'

const machine = (gpus: number) => ({
  gpuReport: () => ({ ...fakeNative().gpuReport(), gpus: Array.from({ length: gpus }, card) }),
})
const card = () => ({ name: 'a card', capability: 'sm_90', kernels: 'sm_90a', totalBytes: 1, objection: '', uuid: '1' })

it('is mpirun for a training on CPUs, whatever GPUs there are, and launch itself otherwise', async () => {
  const { root, model, pairs } = await writeWorld(1)
  const path = join(root, 'run.yaml')
  const train = (...more: string[]) => ['--log', 'json', 'train', path, ...more]
  const settings = { model, data: { train: pairs }, output: 'out' }
  await writeFile(path, JSON.stringify(settings))
  expect(await startingOf(train(), machine(2))).toBe('mpirun')
  expect(await startingOf(train('--set', 'device=cuda'), machine(2))).toBe('processes')
  expect(await startingOf(train('--set=device=auto'), machine(2))).toBe('processes')
  expect(await startingOf(train('--set=device=auto'), machine(0))).toBe('mpirun')
  expect(await startingOf(train('--help'), machine(0))).toBe('processes')
  expect(await startingOf(['sample', 'train'], machine(0))).toBe('processes')
  await expect(startingOf(train('--set', 'device=gpu'), machine(0))).rejects.toThrow(ConfigError)
})
