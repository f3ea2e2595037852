/**
 * A checkpoint of the true shapes of Qwen3-VL-4B with random weights (8.9 GB, bfloat16, two shards with an index), and
 * the bundled model's tokenizer, whose ids fit into the vocabulary: what memory and start of the real model look like,
 * without the real model.
 *
 *   node bench/large/make_checkpoint.mjs DIR [CONFIG]      after `npm run build`
 *
 * CONFIG, a config.json, gives other shapes.
 */
import { copyFile, mkdir, open, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { modelShapes } from '../../dist/bench/model.js'
import { Draws } from '../../dist/bench/random.js'
import { bfloat16 } from '../../dist/bench/safetensors.js'

const shardBytes = 5e9
const here = fileURLToPath(new URL('.', import.meta.url))
const phantom = join(here, '..', '..', 'models', 'phantom')

const [folder, shapes = join(here, 'qwen3-vl-4b.json')] = process.argv.slice(2)
if (!folder) {
  console.error('usage: node bench/large/make_checkpoint.mjs DIR [CONFIG]')
  process.exit(2)
}
await mkdir(folder, { recursive: true })
const config = JSON.parse(await readFile(shapes, 'utf8'))
const small = JSON.parse(await readFile(join(phantom, 'config.json'), 'utf8'))
for (const key of ['image_token_id', 'video_token_id', 'vision_start_token_id', 'vision_end_token_id']) {
  config[key] = small[key]
}
config.text_config.eos_token_id = small.text_config.eos_token_id
await writeFile(join(folder, 'config.json'), `${JSON.stringify(config, null, 2)}\n`)
const preprocessor = JSON.parse(await readFile(join(phantom, 'preprocessor_config.json'), 'utf8'))
Object.assign(preprocessor, { patch_size: 16, size: { shortest_edge: 65536, longest_edge: 16777216 } })
await writeFile(join(folder, 'preprocessor_config.json'), `${JSON.stringify(preprocessor, null, 2)}\n`)
for (const name of ['chat_template.jinja', 'generation_config.json', 'tokenizer.json', 'tokenizer_config.json']) {
  await copyFile(join(phantom, name), join(folder, name))
}

// Noise of a prime length, read round and round with another start for each tensor: no two rows are alike, and nine
// gigabytes need no nine gigabytes of draws.
const noise = new Draws('noise', 0).normals(4_000_000, 0, 1).subarray(0, 3_999_971)
const shards = [[]]
let size = 0
for (const [name, shape] of modelShapes(config)) {
  const count = shape.reduce((product, extent) => product * extent, 1)
  if (size + 2 * count > shardBytes) {
    shards.push([])
    size = 0
  }
  shards.at(-1).push({ name, shape, count })
  size += 2 * count
}
const index = { metadata: { total_size: 0 }, weight_map: {} }
for (const [number, tensors] of shards.entries()) {
  const file = `model-${String(number + 1).padStart(5, '0')}-of-${String(shards.length).padStart(5, '0')}.safetensors`
  const header = { __metadata__: { format: 'pt' } }
  let end = 0
  for (const { name, shape, count } of tensors) {
    header[name] = { dtype: 'BF16', shape, data_offsets: [end, end + 2 * count] }
    end += 2 * count
    index.weight_map[name] = file
  }
  index.metadata.total_size += end
  const text = Buffer.from(JSON.stringify(header))
  const prefix = Buffer.alloc(8 + Math.ceil(text.length / 8) * 8, ' ')
  prefix.writeBigUInt64LE(BigInt(prefix.length - 8))
  text.copy(prefix, 8)
  const handle = await open(join(folder, file), 'w')
  await handle.write(prefix)
  for (const { name, shape, count } of tensors) {
    const isNorm = shape.length === 1 && /norm/.test(name) && name.endsWith('.weight')
    const scale = (count / shape[0]) ** -0.5
    const values = isNorm ? new Float32Array(count).fill(1) : noise.map((value) => value * scale)
    const period = Buffer.from(bfloat16(values, [values.length]).data.buffer)
    let at = isNorm ? 0 : 2 * ((Object.keys(index.weight_map).indexOf(name) * 7919) % noise.length)
    for (let left = 2 * count; left > 0; ) {
      const { bytesWritten } = await handle.write(period, at, Math.min(left, period.length - at))
      left -= bytesWritten
      at = (at + bytesWritten) % period.length
    }
  }
  await handle.sync()
  await handle.close()
  console.log(`${file}: ${(end / 1e9).toFixed(2)} GB`)
}
await writeFile(join(folder, 'model.safetensors.index.json'), `${JSON.stringify(index, null, 2)}\n`)
