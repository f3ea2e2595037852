/** A model that says which adapter was merged into it. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import { hashModel } from '../../src/data/files.js'
import { refuseMerged, writeMergedFrom } from '../../src/data/merged.js'
import { CheckpointError } from '../../src/errors.js'
import { mergeAdapter } from '../../src/merge/merge.js'
import { engineAnswerer } from '../../src/sample/index.js'
import { resolveTrainConfig } from '../../src/train/config.js'
import { planTraining } from '../../src/train/plan.js'
import { runCommand } from '../command.js'
import { temporaryFolder } from '../fakes/world.js'

let root: string
let model: string
let adapter: string

beforeEach(async () => {
  root = await temporaryFolder()
  model = join(root, 'merged')
  adapter = join(root, 'adapter')
  for (const folder of [model, adapter]) await mkdir(folder)
  await writeFile(join(adapter, 'adapter_config.json'), '{}')
  await writeMergedFrom(model, { adapterSha256: await hashModel(adapter) })
})

describe('an adapter that is merged already', () => {
  it('is refused by whatever would apply it again', async () => {
    const settings = { maxNewTokens: 4, temperature: 0, topP: 1, topK: 0, stop: [], seed: 1 }
    const uses = [
      () => mergeAdapter(model, adapter, join(root, 'twice')),
      () => engineAnswerer({ model, adapter, dtype: 'f32', batchSize: 1, imageRoot: root }, settings),
      () =>
        planTraining(resolveTrainConfig({ model, data: { train: 'p.jsonl' }, output: root, lora: { init: adapter } })),
    ]
    for (const use of uses) {
      const error = await use().then(
        () => expect.fail('it was applied'),
        (reason: unknown) => reason as CheckpointError,
      )
      expect(error).toBeInstanceOf(CheckpointError)
      expect(error.message).toBe(`${adapter} is merged into ${model} already: it would be applied twice`)
      expect(error.hint).toContain('Leave the adapter out')
    }
  })

  it('is refused by the command that answers one question', async () => {
    const { code, stderr } = await runCommand(['generate', '--model', model, '--adapter', adapter, '--prompt', 'x'])
    expect(code).toBe(1)
    expect(stderr).toContain('it would be applied twice')
  })

  it('is another one when its content is, and a model without the record says nothing', async () => {
    await expect(refuseMerged(adapter, model)).resolves.toBeUndefined()
    await writeFile(join(adapter, 'adapter_config.json'), '{"r": 4}')
    await expect(refuseMerged(model, adapter)).resolves.toBeUndefined()
  })
})
