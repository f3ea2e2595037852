/** What a log holds open is closed again, also where it cannot be opened whole. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { resolveTrainConfig } from '../../src/train/config.js'
import { RunLog } from '../../src/train/run-log.js'
import { canListOpenFiles, openFilesBelow } from '../fakes/open-files.js'
import { temporaryFolder } from '../fakes/world.js'

const model = { weightDTypes: ['f32'], isa: 'avx2' } as unknown as Parameters<typeof RunLog.open>[0]['model']

describe.runIf(canListOpenFiles)('RunLog', () => {
  const aboutOf = (output: string) => ({
    config: resolveTrainConfig({ model: '/m', data: { train: '/p.jsonl' }, output, objective: {} }),
    ...{ model, totalSteps: 1 },
  })

  it('holds metrics and events open until it is closed', async () => {
    const output = await temporaryFolder()
    const log = await RunLog.open(aboutOf(output))
    expect(await openFilesBelow(output)).toEqual([
      join(output, 'metrics.jsonl'),
      expect.stringContaining(join(output, 'tensorboard', 'events.out.tfevents')),
    ])
    await log.close()
    expect(await openFilesBelow(output)).toEqual([])
  })

  it.each(['report.html', 'tensorboard'])('leaves nothing open where %s cannot be written', async (name) => {
    const output = await temporaryFolder()
    // A folder in the place of the page; a file of events that is a folder, and cannot be emptied.
    await mkdir(name === 'tensorboard' ? join(output, name, 'tfevents', 'x') : join(output, name, 'x'), {
      recursive: true,
    })
    await expect(RunLog.open(aboutOf(output))).rejects.toMatchObject({ code: 'ERR_FIRE_IO' })
    expect(await openFilesBelow(output)).toEqual([])
  })
})
