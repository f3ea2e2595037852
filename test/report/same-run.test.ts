/** An evaluation beside the curves of a run: its adapter must be of that run. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { hashModel } from '../../src/data/files.js'
import { CheckpointError } from '../../src/errors.js'
import { refuseOtherRun } from '../../src/report/same-run.js'
import { temporaryFolder } from '../fakes/world.js'

it('is refused where no system is an adapter of the run, and taken where nothing can be said', async () => {
  const run = await temporaryFolder()
  for (const name of ['adapter', 'best']) {
    await mkdir(join(run, name))
    await writeFile(join(run, name, 'adapter_config.json'), `{"name": "${name}"}`)
  }
  await writeFile(join(run, 'train.json'), '{"step": 8}')
  const best = { path: join(run, 'best'), metric: 'eval_loss', step: 4, value: 1 } as const
  const check = (...hashes: (string | undefined)[]) => {
    const systems = hashes.map((adapterSha256, i) => ({ name: `s${i}`, about: { adapterSha256 } }))
    const results = { systems } as unknown as Parameters<typeof refuseOtherRun>[3]
    return refuseOtherRun(join(run, 'metrics.jsonl'), { best }, 'eval', results)
  }
  const other = 'a'.repeat(64)
  await expect(check(undefined, other)).rejects.toThrow(CheckpointError)
  await expect(check(undefined, other)).rejects.toThrow(
    /^eval is no evaluation of the run .*: its adapters are s1 with SHA-256 aaaaaaaaaaaa…$/,
  )
  for (const name of ['adapter', 'best']) await check(undefined, other, await hashModel(join(run, name)))
  await check(undefined)
})
