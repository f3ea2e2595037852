/** What a server with LoRA reads of an adapter that the engine saves (docs/serving.md says where that was read). */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { readSafetensors } from '../../src/bench/safetensors.js'
import { openEngine } from '../../src/engine/engine.js'
import { temporaryFolder } from '../fakes/world.js'

const at = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url))
const ready = existsSync(at('build/Release/fire.node'))

describe.skipIf(!ready)('an adapter for vLLM', () => {
  it.each(['qwen3_vl', 'llava_qwen2', 'llava'])(
    'of %s has the keys and the tensor names that its loader takes',
    async (family) => {
      const folder = join(await temporaryFolder(), 'adapter')
      const lora = { rank: 4, alpha: 8, dropout: 0, rslora: true, targets: ['q_proj', 'down_proj'], seed: 1 }
      await using engine = await openEngine({ model: at(`test/golden/${family}`), adapter: null, lora })
      await engine.saveAdapter(folder)
      const config = JSON.parse(await readFile(join(folder, 'adapter_config.json'), 'utf8'))
      expect(config).toMatchObject({
        r: 4,
        lora_alpha: 8,
        use_rslora: true,
        bias: 'none',
        target_modules: expect.any(String),
      })
      const refused = [
        'use_dora',
        'modules_to_save',
        'lora_bias',
        'init_lora_weights',
        'rank_pattern',
        'layer_replication',
      ]
      expect(refused.filter((key) => config[key])).toEqual([])
      const names = [...(await readSafetensors(join(folder, 'adapter_model.safetensors'))).keys()]
      expect(names.length).toBe(2 * 2 * engine.info.layers)
      // With `base_model.model.` cut off, the mapper of both classes knows this prefix.
      const taken =
        /^base_model\.model\.model\.language_model\.layers\.\d+\.(self_attn\.q_proj|mlp\.down_proj)\.lora_[AB]\.weight$/
      expect(names.filter((name) => !taken.test(name))).toEqual([])
    },
  )
})
