import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { CheckpointError } from '../../src/errors.js'
import { runAdapters } from '../../src/train/index.js'
import { temporaryFolder } from '../fakes/world.js'

const checkpoint = (run: string, step: number) =>
  mkdir(join(run, 'checkpoints', `step-${step}`, 'adapter'), { recursive: true })

it('lists the checkpoints by step, with the adapter of the complete run, stopped early, in place of the last one', async () => {
  const run = await temporaryFolder()
  await expect(runAdapters(run)).rejects.toBeInstanceOf(CheckpointError)
  for (const step of [100, 20, 9]) await checkpoint(run, step)
  await mkdir(join(run, 'checkpoints', '.step-120.tmp'))
  const saved = (step: number) => ({ step, path: join(run, 'checkpoints', `step-${step}`, 'adapter') })
  expect(await runAdapters(run)).toEqual([saved(9), saved(20), saved(100)])
  await writeFile(join(run, 'train.json'), JSON.stringify({ totalSteps: 300, step: 100 }))
  expect(await runAdapters(run)).toEqual([saved(9), saved(20), { step: 100, path: join(run, 'adapter') }])
  await writeFile(join(run, 'train.json'), '{}')
  await expect(runAdapters(run)).rejects.toThrow(/not the report of a training run/)
})
