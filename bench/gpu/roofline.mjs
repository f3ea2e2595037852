/**
 * Writes bench/roofline.md: what every operation of a training step must move and compute, what that takes at the least,
 * what was measured (bench/results/gpu-*.json), and where the memory goes.
 *
 *   node bench/gpu/roofline.mjs
 */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { branches, costs, gatedBackward as gatedBackwardCost, gated as gatedCost } from './costs.mjs'
import { expected, gated, gatedBackward, headBackward, instructions, linear, lora, loraBackward } from './expected.mjs'
import { attention, attentionBackward } from './expected-attention.mjs'
import { adapterParameters, packedBatch, walkStep, walkVision, weightParameters } from './step.mjs'

const bench = join(dirname(fileURLToPath(import.meta.url)), '..')

/** Measured on such cards with PyTorch 2.11: a device-to-device copy (read plus written), and an 8192^3 product in bf16. */
const cards = [
  { name: 'H100', bytes: 3.0e12, flops: 790e12 },
  { name: 'H200', bytes: 4.3e12, flops: 790e12 },
]
const target = 60e9
const bf16 = 2
const unmeasured = 'not yet measured on a GPU'

const titles = {
  'qwen3-vl-4b': 'Qwen3-VL-4B',
  'huatuogpt-vision-7b': 'HuatuoGPT-Vision-7B',
}

/** One table of `cases.cpp`: kernel, shape, cost and, of products on Hopper, what is launched, at bf16. */
export function kernelCases(model, batch, rank) {
  const cost = costs(bf16)
  const packed = packedBatch(model, batch)
  const { tokens: t, rows, terms, prefix } = packed
  const { hidden: h, heads: n, kv_heads: kv, head_dim: d, intermediate: i, vocab: v, vision } = model
  const q = n * d
  const image = model.image_tokens
  const decode = batch.decode
  const parameters = adapterParameters(model, rank)
  const inner = vision.hidden / vision.heads
  const qkv = [q, kv * d, kv * d]
  const together = (outs, part, passes) =>
    branches(
      outs.map((out) => part(t, out, h, rank)),
      passes * bf16 * t * h,
    )
  const table = [
    ['embedding', [t, h], cost.embedding(t, h)],
    ['gather_rows', [rows, h], cost.gatherRows(rows, h)],
    ['scatter_rows', [image, h], cost.scatterRows(image, h)],
    ['scatter_add_rows', [image, h], cost.scatterAddRows(image, h)],
    ['rms_norm', [t, h], cost.rmsNorm(t, h)],
    ['rms_norm_backward', [t, h], cost.rmsNormBackward(t, h)],
    ['norm_rope q', [t, n, d], cost.normRope(t, n, d)],
    ['norm_rope_backward q', [t, n, d], cost.normRopeBackward(t, n, d)],
    ['linear q', [t, q, h], cost.linear(t, q, h), linear(t, [q], h)],
    ['linear gate', [t, i, h], cost.linear(t, i, h), linear(t, [i], h)],
    ['linear down', [t, h, i], cost.linear(t, h, i, { residual: true }), linear(t, [h], i, { residual: true })],
    ['lora_linear q', [t, q, h, rank], cost.lora(t, q, h, rank), lora(t, [q], h, rank)],
    ['lora_linear gate', [t, i, h, rank], cost.lora(t, i, h, rank), lora(t, [i], h, rank)],
    [
      'lora_linear gate, dropout',
      [t, i, h, rank],
      cost.lora(t, i, h, rank, { dropped: true }),
      lora(t, [i], h, rank, { dropped: true }),
    ],
    ['linear gate, up', [t, h, i, i], together([i, i], (m, n, k) => cost.linear(m, n, k), 1), linear(t, [i, i], h)],
    ['lora_linear q, k, v', [t, h, ...qkv, rank], together(qkv, cost.lora, 1), lora(t, qkv, h, rank)],
    ['lora_linear gate, up', [t, h, i, i, rank], together([i, i], cost.lora, 1), lora(t, [i, i], h, rank)],
    [
      'lora_linear down',
      [t, h, i, rank],
      cost.lora(t, h, i, rank, { residual: true }),
      lora(t, [h], i, rank, { residual: true }),
    ],
    [
      'lora_linear_backward q',
      [t, q, h, rank],
      cost.loraBackward(t, q, h, rank, { accumulate: true }),
      loraBackward(t, [q], h, rank, { residual: true }),
    ],
    ['lora_linear_backward gate', [t, i, h, rank], cost.loraBackward(t, i, h, rank), loraBackward(t, [i], h, rank)],
    ['lora_linear_backward down', [t, h, i, rank], cost.loraBackward(t, h, i, rank), loraBackward(t, [h], i, rank)],
    [
      'lora_linear_backward q, k, v',
      [t, h, ...qkv, rank],
      together(qkv, cost.loraBackward, 2),
      loraBackward(t, qkv, h, rank),
    ],
    [
      'lora_linear_backward gate, up',
      [t, h, i, i, rank],
      together([i, i], cost.loraBackward, 2),
      loraBackward(t, [i, i], h, rank),
    ],
    [
      'gated_branches',
      [t, h, i, rank],
      gatedCost([cost.lora(t, i, h, rank), cost.lora(t, i, h, rank)], bf16 * t * h, bf16 * t * i, true),
      gated(t, i, h, rank),
    ],
    [
      'gated_branches, nothing kept',
      [t, h, i],
      gatedCost([cost.linear(t, i, h), cost.linear(t, i, h)], bf16 * t * h, bf16 * t * i, false),
      gated(t, i, h, 0),
    ],
    [
      'gated_backward',
      [t, h, i, rank],
      gatedBackwardCost(cost.loraBackward(t, h, i, rank), bf16 * t * i),
      gatedBackward(t, h, i, rank),
    ],
    ['swiglu', [t, i], cost.swiglu(t, i)],
    ['swiglu_backward', [t, i], cost.swigluBackward(t, i)],
    ['attention', [t, n, kv, d], cost.attention(t, t, n, kv, d, packed.seen), attention(packed.spans, n, kv, d)],
    [
      'attention_backward',
      [t, n, kv, d],
      cost.attentionBackward(t, t, n, kv, d, packed.seen),
      attentionBackward(packed.spans, n, kv, d),
    ],
    ['linear head', [rows, v, h], cost.linear(rows, v, h, { y: 4 }), linear(rows, [v], h, { f32: true })],
    ['linear_backward head', [rows, v, h], cost.linear(rows, h, v, { x: 4, y: 4 }), headBackward(rows, h, v)],
    ['preference_statistics', [rows, v], cost.preferenceStatistics(rows, v, terms)],
    ['preference_backward', [rows, v], cost.preferenceBackward(rows, v, terms)],
    ['adamw', [parameters], cost.adamw(parameters)],
    ['linear decode', [decode, i, h], cost.linear(decode, i, h), linear(decode, [i], h)],
    [
      'attention decode',
      [decode, n, kv, d, prefix],
      cost.attention(decode, decode * prefix, n, kv, d, decode * prefix, { lse: false }),
    ],
    ['sample', [decode, v], cost.sample(decode, v)],
    ['layer_norm vision', [vision.tokens, vision.hidden], cost.layerNorm(vision.tokens, vision.hidden)],
    ['rope vision', [vision.tokens, vision.heads, inner], cost.rope(vision.tokens, vision.heads, inner)],
    ['gelu vision', [vision.tokens, vision.intermediate], cost.gelu(vision.tokens, vision.intermediate)],
    [
      'linear vision fc1',
      [vision.tokens, vision.intermediate, vision.hidden],
      cost.linear(vision.tokens, vision.intermediate, vision.hidden, { bias: true }),
      linear(vision.tokens, [vision.intermediate], vision.hidden),
    ],
    [
      'attention vision',
      [vision.tokens, vision.heads, vision.heads, inner],
      cost.attention(vision.tokens, vision.tokens, vision.heads, vision.heads, inner, vision.tokens ** 2, {
        lse: false,
      }),
      attention([{ rows: vision.tokens, context: 0, causal: false }], vision.heads, vision.heads, inner),
    ],
  ]
  return table.map(([kernel, shape, { bytes, flops }, launches]) => ({
    ...{ kernel, shape: shape.join('x'), bytes, flops },
    launches,
  }))
}

/** Milliseconds that no implementation can go below on this card. */
export function floor({ bytes, flops }, card) {
  return 1e3 * Math.max(bytes / card.bytes, flops / card.flops)
}

/** Memory of one step in bytes. */
export function stepMemory(model, batch, rank, checkpointing) {
  const { matrices, vectors, vision } = weightParameters(model)
  const parameters = adapterParameters(model, rank)
  // src/train/memory.ts, featureBytes; the unit is that of native/model/feature_pool.h.
  const unit = 256
  const features = Math.ceil((model.vision.mergers * model.image_tokens * model.hidden * bf16) / unit) * unit
  const packed = packedBatch(model, batch)
  const { arenaBytes } = walkStep(model, packed, { rank, activation: bf16, checkpointing })
  // native/engine/plan.cpp, with_room; native/ops/ops.h, gpu_workspace.
  const room = Math.ceil((arenaBytes + Math.floor(arenaBytes / 32)) / 2 ** 21) * 2 ** 21 - arenaBytes
  const parts = {
    'weights (matrices bf16, vectors f32)': bf16 * (matrices + vision) + 4 * vectors,
    'adapter, f32 and bf16': (4 + bf16) * parameters,
    'gradients and two moments, f32': 3 * 4 * parameters,
    'encoded images': batch.images * features,
    'activations, workspaces and logits (the arena)': arenaBytes,
    'room in the arena, workspaces beside it': room + 2 ** 25,
  }
  const logits = 8 * packed.rows * model.vocab
  return { parts, logits, total: Object.values(parts).reduce((sum, part) => sum + part) }
}

/** A whole step: every operation, the vision tower on every image, and their floors added up. */
export function stepCost(model, batch, rank) {
  const packed = packedBatch(model, batch)
  const { operations } = walkStep(model, packed, { rank, activation: bf16 })
  const once = walkVision(model, bf16)
  operations.set('vision tower', {
    count: batch.images,
    bytes: batch.images * once.bytes,
    flops: batch.images * once.flops,
  })
  const rows = [...operations].map(([name, sum]) => ({ name, ...sum }))
  const add = (key) => rows.reduce((sum, row) => sum + row[key], 0)
  const floors = cards.map((card) => rows.reduce((sum, row) => sum + floor(row, card), 0))
  return { rows, bytes: add('bytes'), flops: add('flops'), floors }
}

/** The results of bench/results, oldest first. */
export function readResults(folder = join(bench, 'results')) {
  return readdirSync(folder)
    .filter((name) => /^gpu-.*\.json$/.test(name))
    .map((name) => ({ name, ...JSON.parse(readFileSync(join(folder, name), 'utf8')) }))
    .sort((a, b) => a.date.localeCompare(b.date))
}

/** @throws {Error} when a result was counted otherwise than here: then one of the two is wrong. */
function measured(results, model, dtype, { kernel, shape, bytes, flops }) {
  const cells = []
  for (const { name, machine, kernels } of results) {
    const row = kernels.find((one) => one.kernel === kernel && one.model === model && one.dtype === dtype)
    if (row?.median_ms == null || row.shape !== shape) continue
    const differs = (a, b) => Math.abs(a - b) > 1e-6 * Math.max(a, b)
    if (differs(row.bytes, bytes) || differs(row.flops, flops)) {
      throw new Error(
        `${name}: ${kernel} of ${model} counts ${row.bytes} bytes, ${row.flops} flops; expected ${bytes}, ${flops}`,
      )
    }
    const torch = row.torch_ms == null ? '' : `, PyTorch ${row.torch_ms.toFixed(3)}`
    cells.push(`${row.median_ms.toFixed(3)} (${(100 * row.share_of_floor).toFixed(0)} %${torch}; ${cardOf(machine)})`)
  }
  return cells.join('<br>') || unmeasured
}

/** What fire_step_bench said of this model, as rows of a table. */
function measuredSteps(results, model) {
  const rows = results.flatMap(({ machine, steps = [] }) =>
    steps
      .filter((step) => step.model === model)
      .map((step) => {
        const settings = [
          step.gemm,
          step.dropout > 0 && `dropout ${step.dropout}`,
          step.checkpointing && 'checkpointing',
          step.cached_reference && 'cached reference',
          step.cached_vision && 'cached vision',
        ]
        return [
          cardOf(machine),
          settings.filter(Boolean).join(', '),
          (1e3 * step.gpu_s.step.median).toFixed(0),
          (1e3 * step.wall_s.step.median).toFixed(0),
          step.asked.launches,
          step.asked.host_waits,
          gigabytes(step.memory_bytes.used),
        ]
      }),
  )
  if (rows.length === 0) return `Measured: ${unmeasured}.`
  return table(['measured on', 'settings', 'between events, ms', 'wall, ms', 'launches', 'waits', 'GB used'], rows)
}

const cardOf = (machine) => machine.gpu.replace(/^NVIDIA /, '').split(' ')[0]
const gigabytes = (bytes) => (bytes / 1e9).toFixed(2)
const table = (headers, rows) =>
  [headers, headers.map((_, column) => (column === 0 ? '---' : '---:')), ...rows]
    .map((row) => `| ${row.join(' | ')} |`)
    .join('\n')

function modelSection(name, model, { batch, rank }, results) {
  const packed = packedBatch(model, batch)
  const step = stepCost(model, batch, rank)
  const stepRows = step.rows.map((row) => [
    row.name,
    row.count,
    gigabytes(row.bytes),
    (row.flops / 1e12).toFixed(2),
    ...cards.map((card) => floor(row, card).toFixed(2)),
  ])
  stepRows.push([
    '**all**',
    '',
    `**${gigabytes(step.bytes)}**`,
    `**${(step.flops / 1e12).toFixed(2)}**`,
    ...step.floors.map((ms) => `**${ms.toFixed(1)}**`),
  ])
  const memory = [false, true].map((checkpointing) => stepMemory(model, batch, rank, checkpointing))
  const memoryRows = Object.keys(memory[0].parts).map((part) => [
    part,
    ...memory.map(({ parts }) => gigabytes(parts[part])),
  ])
  memoryRows.push(['**all**', ...memory.map(({ total }) => `**${gigabytes(total)}**`)])
  memoryRows.push([`room under ${target / 1e9} GB`, ...memory.map(({ total }) => gigabytes(target - total))])
  const kernelRows = kernelCases(model, batch, rank).map((row) => [
    `\`${row.kernel}\``,
    row.shape,
    (row.bytes / 1e6).toFixed(1),
    (row.flops / 1e9).toFixed(1),
    ...cards.map((card) => floor(row, card).toFixed(3)),
    row.launches ? expected(row.launches, row.bytes, cards[0]).toFixed(3) : '–',
    measured(results, name, 'bf16', row),
  ])
  const cardNames = cards.map((card) => `${card.name}, ms`)
  return `## ${titles[name]}

${batch.pairs} pairs, clean and corrupted image: ${batch.images} blocks of ${packed.prefix} shared rows (${model.image_tokens} of them the image) and two
tails of ${batch.tail}, ${packed.tokens} rows in all, of which ${packed.rows} are read by the head. Rank ${rank} on seven linears:
${(adapterParameters(model, rank) / 1e6).toFixed(0)} M trainable numbers.

### A training step

Reference and policy forward, loss, backward, AdamW; nothing cached. Floors are added up operation by operation.

${table(['operation', 'times', 'GB', 'TFLOP', ...cardNames], stepRows)}

${measuredSteps(results, name)}

### Memory of a step, GB

${table(['', 'no recompute', 'checkpointing'], memoryRows)}

In the arena the logits of policy and reference take ${gigabytes(memory[0].logits)} GB.

### Kernels

${table(['kernel', 'shape', 'MB', 'GFLOP', ...cardNames, 'expected on an H100, ms', 'measured, ms (share of floor)'], kernelRows)}
`
}

export function render(shapes, results) {
  const sections = Object.entries(shapes.models).map(([name, model]) => modelSection(name, model, shapes, results))
  return `# Roofline of a training step

Written by \`node bench/gpu/roofline.mjs\` from \`bench/gpu/shapes.json\`; do not edit. How to measure: \`README.md\`.

An operation must read each input once, write each output once, and do the arithmetic of its matrix products; in bf16 mode
activations and matrices are 2 bytes wide, statistics and loss 4, an adapter 2 where products read it. Its floor is the larger
of bytes over the rate of a copy and arithmetic over the rate of a matrix product. No implementation of these operations goes
below it; a fusion of two of them may, and so may the vision tower, counted image by image here, which the engine batches.

${table(
  ['ceiling', ...cards.map(({ name }) => name)],
  [
    ['device-to-device copy, bytes read plus written, TB/s', ...cards.map(({ bytes }) => (bytes / 1e12).toFixed(1))],
    [
      '8192 x 8192 x 8192 product in bf16 on random data, TFLOP/s',
      ...cards.map(({ flops }) => (flops / 1e12).toFixed(0)),
    ],
  ],
)}

The ceilings were measured with PyTorch 2.11 on one card of each kind before there were kernels of our own; which variant of the
card, its clock and the script were not kept. Expected times take 132 multiprocessors at 1.755 GHz (SXM). A results file has the
ceilings of its own run, and its shares of the floor are taken from those.

Lengths are like those of SLAKE, chosen, not measured on it: images of 1024 x 1024 pixels under the published limit of 401 408
pixels (361 tokens; 576 for CLIP), ${shapes.batch.text} tokens of template and question, ${shapes.batch.common} tokens that both answers begin with, tails of ${shapes.batch.tail} tokens with ${shapes.batch.phrase} phrase tokens. Memory follows
the engine's code step by step (\`test/bench/roofline.test.ts\` holds it against the engine's own plan of the real models), in one
block as a GPU reserves it; without the driver's own few hundred MB and the attention tables of a few hundred kB.

**Expected is arithmetic, not a measurement**: what our matrix products on Hopper should take where the tiles of
\`cuda/gemm_hopper_launch.cuh\` and their whole or half rounds over 132 multiprocessors, shared memory at 128 bytes a clock, ${instructions.staged}
instructions for a sum that is written (${instructions.residual} with a residual, ${instructions.plain} in f32, ${instructions.gated} and ${instructions.gatedBackward} with SwiGLU forward and backward),
2 µs a launch and the ceilings above are all there is. \`bench/gpu/expected.mjs\` has it line by line,
\`bench/gpu/expected-attention.mjs\` that of attention. What takes another kernel has none.

The biases of HuatuoGPT-Vision-7B (three vectors a layer) are in the memory and not in the operations: far below a per cent.

${sections.join('\n')}`
}

/** Which kernel sources have changed since a result was taken, as a warning. */
function warnOfStale(results) {
  if (results.length === 0) return
  const { name, sources = {} } = results[results.length - 1]
  const folder = join(bench, '..', 'cuda')
  const changed = readdirSync(folder).filter((file) => {
    if (!/\.cuh?$/.test(file)) return false
    const hash = createHash('sha256')
      .update(readFileSync(join(folder, file)))
      .digest('hex')
      .slice(0, 16)
    return sources[file.replaceAll('.', '_')] !== hash
  })
  if (changed.length > 0) console.error(`warning: ${name} is older than ${changed.join(', ')}`)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const shapes = JSON.parse(readFileSync(join(bench, 'gpu', 'shapes.json'), 'utf8'))
  const results = readResults()
  writeFileSync(join(bench, 'roofline.md'), render(shapes, results))
  warnOfStale(results)
}
