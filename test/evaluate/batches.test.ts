/** The bundled model with an adapter: what is answered together decides nothing. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { float32, type Tensor, writeSafetensors } from '../../src/bench/safetensors.js'
import type { VerdictRecord } from '../../src/evaluate/records.js'
import { evaluateStage } from '../../src/evaluate/stage.js'
import { generateStudies, Rng, studySamples } from '../../src/phantom/index.js'
import { silent } from '../../src/stage/index.js'
import { checkSettings } from '../../src/stage/stage.js'
import { temporaryFolder } from '../fakes/world.js'
import { readLines, writePng, writeRecords } from '../sample/records.js'

const model = fileURLToPath(new URL('../../models/phantom', import.meta.url))

/** An adapter of random weights on the queries of all layers, large enough to change answers. */
async function writeAdapter(folder: string): Promise<void> {
  const [rank, hidden, layers] = [4, 128, 4]
  const rng = new Rng('adapter')
  const random = (...shape: [number, number]) =>
    float32(
      Float32Array.from({ length: shape[0] * shape[1] }, () => 0.2 * (rng.next() - 0.5)),
      shape,
    )
  const tensors = new Map<string, Tensor>()
  for (let layer = 0; layer < layers; layer++) {
    const name = `base_model.model.model.language_model.layers.${layer}.self_attn.q_proj`
    tensors.set(`${name}.lora_A.weight`, random(rank, hidden))
    tensors.set(`${name}.lora_B.weight`, random(hidden, rank))
  }
  await mkdir(folder)
  await writeSafetensors(join(folder, 'adapter_model.safetensors'), tensors)
  const config = { peft_type: 'LORA', r: rank, lora_alpha: 32, target_modules: ['q_proj'], bias: 'none' }
  await writeFile(join(folder, 'adapter_config.json'), JSON.stringify(config))
}

it('an adapter has the same verdicts one answer at a time and thirty-two together', { timeout: 120_000 }, async () => {
  const folder = await temporaryFolder()
  const samples = await Promise.all(
    generateStudies({ seed: 5, split: 'test', count: 10 }).map(async (study) =>
      studySamples(study, await writePng(folder, `${study.id}.png`, study)),
    ),
  )
  const questions = samples.flat().filter(({ task }) => task === 'vqa')
  expect(questions.length).toBeGreaterThan(32)
  await writeRecords(join(folder, 'samples.jsonl'), questions)
  await writeAdapter(join(folder, 'adapter'))

  const filesOf = async (batchSize: number, threads: number) => {
    const out = join(folder, `batch-${batchSize}`)
    const settings = checkSettings(
      evaluateStage,
      {
        ...{ samples: join(folder, 'samples.jsonl'), out, model, adapter: [join(folder, 'adapter')], truth: 'phantom' },
        ...{ answers: 2, temperature: 0.7, maxNewTokens: 16, names: ['base', 'adapter'], batchSize, threads },
      },
      () => undefined,
    )
    await evaluateStage.run(settings, { progress: silent })
    return Promise.all(['predictions.jsonl', 'verdicts.jsonl'].map((name) => readFile(join(out, name), 'utf8')))
  }
  const alone = await filesOf(1, 1)
  expect(await filesOf(32, 2)).toEqual(alone)

  // The adapter is not idle, and neither are the draws.
  const verdicts = await readLines<VerdictRecord>(join(folder, 'batch-1', 'verdicts.jsonl'))
  const said = (system: string, k: number) =>
    verdicts.filter((each) => each.system === system && each.k === k).map(({ text }) => text)
  expect(verdicts).toHaveLength(2 * 3 * questions.length)
  expect(said('adapter', 0)).not.toEqual(said('base', 0))
  expect(said('adapter', 1)).not.toEqual(said('adapter', 2))
})
