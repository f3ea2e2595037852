/**
 * One training step on paper: the same walk as native/objective/preference_step.cpp, native/model/decoder.cpp,
 * decoder_backward.cpp and vision.cpp, which adds up what operations move and compute, and takes memory from an arena in
 * the same order. test/bench/roofline.test.ts holds the memory against the engine's own plan, byte for byte.
 */
import { branches, costs, vocabularySlice } from './costs.mjs'

const linears = ['q', 'k', 'v', 'o', 'gate', 'up', 'down']

/** native/tensor/arena.h: bump allocation from blocks, with scopes. What does not fit into the rest of a block is in the next. */
class Arena {
  blocks = []
  at = 0
  used = 0
  peak = 0

  constructor(block) {
    this.block = block
  }

  take(bytes) {
    const size = Math.ceil(Math.max(bytes, 1) / 64) * 64
    while (this.at < this.blocks.length && this.used + size > this.blocks[this.at]) {
      this.at++
      this.used = 0
    }
    if (this.at === this.blocks.length) {
      this.blocks.push(Math.max(size, this.block))
      this.used = 0
    }
    this.used += size
    const below = this.blocks.slice(0, this.at).reduce((sum, block) => sum + block, 0)
    this.peak = Math.max(this.peak, below + this.used)
  }

  scope(body) {
    const { at, used } = this
    body()
    this.at = at
    this.used = used
  }
}

/**
 * Lengths of a packed batch (native/objective/packing.cpp): for every image a prefix, which both answers share, and the
 * two tails. The first phrase token is predicted by the last row of the prefix, the others by the last rows of the tails.
 */
export function packedBatch(model, batch) {
  const prefix = model.image_tokens + batch.text + batch.common
  const { images, tail, phrase } = batch
  const seenBy = (row) => prefix + row + 1
  const readRows = Array.from({ length: phrase - 1 }, (_, i) => seenBy(tail - phrase + 1 + i))
  const sum = (values) => values.reduce((total, value) => total + value, 0)
  return {
    images: Array.from({ length: images }, () => model.image_tokens),
    prefix,
    tokens: images * (prefix + 2 * tail),
    rows: images * (2 * phrase - 1),
    terms: images * 2 * phrase,
    spans: Array.from({ length: images }, () => [
      { rows: prefix, context: 0, causal: true },
      { rows: tail, context: prefix, causal: true },
      { rows: tail, context: prefix, causal: true },
    ]).flat(),
    /** Pairs of a query row and a key row that it sees: of all rows, and of the rows that are read. */
    seen: images * ((prefix * (prefix + 1)) / 2 + 2 * (tail * prefix + (tail * (tail + 1)) / 2)),
    seenByRead: images * (prefix + 2 * sum(readRows)),
  }
}

export function linearShape(model, name) {
  const q = model.heads * model.head_dim
  const kv = model.kv_heads * model.head_dim
  return {
    q: [q, model.hidden],
    k: [kv, model.hidden],
    v: [kv, model.hidden],
    o: [model.hidden, q],
    gate: [model.intermediate, model.hidden],
    up: [model.intermediate, model.hidden],
    down: [model.hidden, model.intermediate],
  }[name]
}

/** Numbers of the adapter on all seven linears. */
export function adapterParameters(model, rank) {
  const layer = linears.reduce((sum, name) => sum + rank * linearShape(model, name).reduce((a, b) => a + b), 0)
  return model.layers * layer
}

/** Matrices and vectors apart: on a GPU matrices (`vision`: the tower's) have the activation type, vectors stay f32. */
export function weightParameters(model) {
  const matrices = linears.reduce((sum, name) => sum + linearShape(model, name).reduce((a, b) => a * b), 0)
  const kv = model.kv_heads * model.head_dim
  const biases = model.qkv_bias ? model.heads * model.head_dim + 2 * kv : 0
  const vectors = 2 * model.hidden + (model.head_norms ? 2 * model.head_dim : 0) + biases
  const embedding = model.vocab * model.hidden
  return {
    matrices: model.layers * matrices + embedding * (model.tied_head ? 1 : 2),
    vectors: model.layers * vectors + model.hidden + model.vision.vectors,
    vision: model.vision.parameters - model.vision.vectors,
  }
}

/**
 * @param {object} model dimensions as in shapes.json
 * @param {ReturnType<typeof packedBatch>} batch
 * @param {{rank: number, activation: number, checkpointing?: boolean, logitsBudget?: number, block?: number}} settings
 *   `activation`: width of an activation in bytes. `block`: of the arena; a GPU's is one block.
 * @returns {{operations: Map<string, {count: number, bytes: number, flops: number}>, arenaBytes: number}}
 */
export function walkStep(model, batch, settings) {
  return new Step(model, batch, settings).run()
}

class Step {
  constructor(model, batch, settings) {
    const {
      rank,
      activation,
      checkpointing = false,
      logitsBudget = 2 ** 30,
      block = Number.POSITIVE_INFINITY,
    } = settings
    Object.assign(this, { model, batch, rank, checkpointing, logitsBudget, a: activation })
    this.cost = costs(activation)
    this.arena = new Arena(block)
    this.operations = new Map()
    this.compact = batch.rows !== batch.tokens
  }

  run() {
    this.forward({ adapter: false, keep: false })
    this.forward({ adapter: true, keep: true })
    this.loss()
    this.backward()
    const parameters = adapterParameters(this.model, this.rank)
    this.did('adamw', this.cost.adamw(parameters))
    this.did('zero gradients', this.cost.zero(parameters))
    return { operations: this.operations, arenaBytes: this.arena.peak }
  }

  did(name, { bytes, flops }, count = 1) {
    const sum = this.operations.get(name) ?? { count: 0, bytes: 0, flops: 0 }
    sum.count += count
    sum.bytes += count * bytes
    sum.flops += count * flops
    this.operations.set(name, sum)
  }

  /** Memory of the activation type, and of four bytes. */
  take(...dims) {
    this.arena.take(this.a * dims.reduce((size, extent) => size * extent, 1))
  }
  take4(...dims) {
    this.arena.take(4 * dims.reduce((size, extent) => size * extent, 1))
  }

  /** Rows of queries, MLP and output of a layer. */
  rows(layer) {
    return this.compact && layer === this.model.layers - 1 ? this.batch.rows : this.batch.tokens
  }
  seen(layer) {
    return this.rows(layer) === this.batch.tokens ? this.batch.seen : this.batch.seenByRead
  }
  isCompact(layer) {
    return this.rows(layer) !== this.batch.tokens
  }
  /** Frame::read: the read rows of x [tokens, width], where a layer needs no others. */
  read(layer, width, bytes = this.a) {
    if (!this.isCompact(layer)) return
    this.arena.take(bytes * this.batch.rows * width)
    this.did('gather_rows', this.cost.gatherRows(this.batch.rows, width, bytes))
  }
  readRotary(layer) {
    this.read(layer, this.model.head_dim, 4)
    this.read(layer, this.model.head_dim, 4)
  }

  forward({ adapter, keep }) {
    const { model, batch, cost, arena } = this
    const { tokens, rows } = batch
    this.take(rows, model.hidden)
    const body = () => {
      this.take4(tokens, model.head_dim)
      this.take4(tokens, model.head_dim)
      arena.scope(() => {
        this.take4(3, tokens)
        this.take4(model.head_dim / 2)
        this.take4(model.head_dim / 2)
      })
      this.did('rotary_table', cost.rotaryTable(tokens, model.head_dim, 3))
      this.take4(rows)
      this.take4(batch.images.reduce((sum, image) => sum + image, 0))
      this.take4(rows)
      for (let i = 0; i < (keep ? model.layers : Math.min(model.layers, 2)); i++) this.take(tokens, model.hidden)
      this.take(this.compact ? rows : tokens, model.hidden)
      this.embed()
      for (let layer = 0; layer < model.layers; layer++) {
        const run = () => {
          this.allocateLayer(layer, adapter)
          this.layerForward(layer, adapter)
        }
        if (keep && !this.checkpointing) run()
        else arena.scope(run)
        this.addDeepstack(layer)
      }
      this.did('rms_norm', cost.rmsNorm(rows, model.hidden))
    }
    if (keep) body()
    else arena.scope(body)
  }

  embed() {
    const { model, batch, cost } = this
    this.arena.scope(() => {
      this.take4(batch.tokens)
      this.did('embedding', cost.embedding(batch.tokens, model.hidden))
      for (const image of batch.images) this.did('scatter_rows', cost.scatterRows(image, model.hidden))
    })
  }

  /** Image rows are never read rows here, so the last layer has nothing to add. */
  addDeepstack(layer) {
    if (layer >= this.model.vision.mergers - 1 || this.isCompact(layer)) return
    for (const image of this.batch.images)
      this.did('scatter_add_rows', this.cost.scatterAddRows(image, this.model.hidden))
  }

  allocateLayer(layer, adapter) {
    const { model, batch, rank } = this
    const { heads: n, kv_heads: kv, head_dim: d } = model
    const tokens = batch.tokens
    const rows = this.rows(layer)
    this.take4(tokens)
    this.take4(rows)
    this.take(rows, n, d)
    this.take(tokens, kv, d)
    this.take(tokens, kv, d)
    if (model.head_norms) {
      this.take4(rows, n)
      this.take4(tokens, kv)
    }
    this.take(rows, n, d)
    this.take4(rows, n)
    this.take(rows, model.hidden)
    this.take(rows, model.intermediate)
    this.take(rows, model.intermediate)
    if (!adapter) return
    for (const name of linears) this.take(name === 'k' || name === 'v' ? tokens : rows, rank)
  }

  /** Linears of one x: `names` of this layer, as one operation. */
  project(layer, names, adapter, residual = false) {
    const { cost, rank, model } = this
    const rows = this.inputRows(layer, names[0])
    const parts = names.map((name) => {
      const [out, width] = linearShape(model, name)
      return adapter ? cost.lora(rows, out, width, rank, { residual }) : cost.linear(rows, out, width, { residual })
    })
    const shared = this.a * rows * linearShape(model, names[0])[1]
    this.did(`${adapter ? 'lora_linear' : 'linear'} ${names.join(', ')}`, branches(parts, shared))
  }
  inputRows(layer, name) {
    return name === 'k' || name === 'v' ? this.batch.tokens : this.rows(layer)
  }

  /** Decoder::rotate of queries and keys. Without head norms it happens in place. */
  rotate(layer, rstd) {
    const { heads: n, kv_heads: kv, head_dim: d, head_norms: norms } = this.model
    if (!norms) {
      this.did('rope', this.cost.rope(this.rows(layer), n, d))
      this.did('rope', this.cost.rope(this.batch.tokens, kv, d))
      return
    }
    this.take(this.rows(layer), n, d)
    this.take(this.batch.tokens, kv, d)
    this.did('norm_rope', this.cost.normRope(this.rows(layer), n, d, { rstd }))
    this.did('norm_rope', this.cost.normRope(this.batch.tokens, kv, d, { rstd }))
  }

  layerForward(layer, adapter) {
    const { model, batch, cost, arena } = this
    const { heads: n, kv_heads: kv, head_dim: d } = model
    const tokens = batch.tokens
    const rows = this.rows(layer)
    arena.scope(() => {
      this.take(tokens, model.hidden)
      this.did('rms_norm', cost.rmsNorm(tokens, model.hidden))
      this.read(layer, model.hidden)
      const groups = this.isCompact(layer) ? [['q'], ['k', 'v']] : [['q', 'k', 'v']]
      for (const names of groups) this.project(layer, names, adapter)
      this.readRotary(layer)
      this.rotate(layer, true)
      this.did('attention', cost.attention(rows, tokens, n, kv, d, this.seen(layer)))
      this.read(layer, model.hidden)
      this.project(layer, ['o'], adapter, true)
    })
    arena.scope(() => {
      this.take(rows, model.hidden)
      this.did('rms_norm', cost.rmsNorm(rows, model.hidden))
      this.project(layer, ['gate', 'up'], adapter)
      this.take(rows, model.intermediate)
      this.did('swiglu', cost.swiglu(rows, model.intermediate))
      this.project(layer, ['down'], adapter, true)
    })
  }

  loss() {
    const { model, batch, cost, arena } = this
    const { rows, terms } = batch
    const { hidden, vocab } = model
    const fit = Math.floor(this.logitsBudget / (rows * 8))
    const width = fit >= vocab ? vocab : Math.max(Math.floor(fit / vocabularySlice), 1) * vocabularySlice
    const chunks = Math.ceil(vocab / width)
    this.take4(rows, width)
    this.take4(rows, width)
    this.take4(2, terms)
    arena.scope(() => {
      arena.take(8 * (rows * Math.ceil(vocab / vocabularySlice) * 6 + terms))
    })
    this.did('linear head', cost.linear(rows, vocab, hidden, { y: 4 }), chunks > 1 ? 4 : 2)
    this.did('preference_statistics', cost.preferenceStatistics(rows, vocab, terms))
    this.take4(rows, hidden)
    arena.scope(() => {
      this.take4(rows, 6)
      this.take4(terms)
    })
    this.did('preference_backward', cost.preferenceBackward(rows, vocab, terms))
    this.did('linear_backward head', cost.linear(rows, hidden, vocab, { x: 4, y: 4 }))
  }

  backward() {
    const { model, batch, cost, arena } = this
    const { tokens } = batch
    const last = this.compact ? batch.rows : tokens
    arena.scope(() => {
      this.take(last, model.hidden)
      this.take(tokens, model.hidden)
      this.take(tokens, model.hidden)
      this.did('rms_norm_backward', cost.rmsNormBackward(last, model.hidden, { dy: 4, residual: false }))
      for (let layer = model.layers - 1; layer >= 0; layer--) {
        if (!this.checkpointing) {
          this.layerBackward(layer)
          continue
        }
        arena.scope(() => {
          this.allocateLayer(layer, true)
          this.take(this.rows(layer), model.hidden)
          this.layerForward(layer, true)
          this.layerBackward(layer)
        })
      }
    })
  }

  layerBackward(layer) {
    this.arena.scope(() => {
      this.take(this.rows(layer), this.model.hidden)
      this.mlpBackward(layer)
      this.attentionBackward(layer)
    })
  }

  projectBackward(layer, names, dx = true) {
    const { cost, rank, model } = this
    const rows = this.inputRows(layer, names[0])
    this.arena.scope(() => {
      for (const _ of names) this.take(rows, rank)
    })
    const parts = names.map((name) => {
      const [out, width] = linearShape(model, name)
      return cost.loraBackward(rows, out, width, rank, { dx })
    })
    const shared = (dx ? 2 : 1) * this.a * rows * linearShape(model, names[0])[1]
    this.did(`lora_linear_backward ${names.join(', ')}`, branches(parts, shared))
  }

  mlpBackward(layer) {
    const { model, cost, arena } = this
    const rows = this.rows(layer)
    arena.scope(() => {
      this.take(rows, model.intermediate)
      arena.scope(() => {
        this.take(rows, model.intermediate)
        this.did('swiglu', cost.swiglu(rows, model.intermediate))
        this.projectBackward(layer, ['down'])
      })
      this.did('swiglu_backward', cost.swigluBackward(rows, model.intermediate))
      this.take(rows, model.hidden)
      this.take(rows, model.hidden)
      this.did('rms_norm', cost.rmsNorm(rows, model.hidden, { rstd: false }))
      this.projectBackward(layer, ['gate', 'up'])
      this.did('rms_norm_backward', cost.rmsNormBackward(rows, model.hidden))
    })
  }

  attentionBackward(layer) {
    const { model, batch, cost, arena } = this
    const { heads: n, kv_heads: kv, head_dim: d, hidden } = model
    const tokens = batch.tokens
    const rows = this.rows(layer)
    const dx = layer > 0
    this.take(rows, n, d)
    this.take(tokens, kv, d)
    this.take(tokens, kv, d)
    arena.scope(() => {
      this.take(rows, n, d)
      this.projectBackward(layer, ['o'])
      this.readRotary(layer)
      if (model.head_norms) this.rotate(layer, false)
      this.take4(rows, n)
      this.did('attention_backward', cost.attentionBackward(rows, tokens, n, kv, d, this.seen(layer)))
      if (model.head_norms) {
        this.did('norm_rope_backward', cost.normRopeBackward(rows, n, d))
        this.did('norm_rope_backward', cost.normRopeBackward(tokens, kv, d))
      } else {
        this.did('rope_backward', cost.rope(rows, n, d))
        this.did('rope_backward', cost.rope(tokens, kv, d))
      }
    })
    this.take(tokens, hidden)
    this.did('rms_norm', cost.rmsNorm(tokens, hidden, { rstd: false }))
    if (dx) this.take(tokens, hidden)
    const compact = this.isCompact(layer)
    this.projectBackward(layer, compact ? ['k', 'v'] : ['q', 'k', 'v'], dx)
    if (compact) {
      this.read(layer, hidden)
      if (dx) this.take(rows, hidden)
      this.projectBackward(layer, ['q'], dx)
    }
    if (!dx) return
    this.did('rms_norm_backward', cost.rmsNormBackward(tokens, hidden, { residual: !compact }))
    if (compact) this.did('scatter_add_rows', cost.scatterAddRows(rows, hidden), 2)
  }
}

/** The frozen tower on one image: native/model/vision.cpp; for CLIP the same blocks and its projector. */
export function walkVision(model, activation) {
  const { vision } = model
  const { tokens: t, hidden: h, intermediate: i, heads: n } = vision
  const d = h / n
  const cost = costs(activation)
  const total = { bytes: 0, flops: 0 }
  const add = ({ bytes, flops }, count = 1) => {
    total.bytes += count * bytes
    total.flops += count * flops
  }
  add(cost.linear(t, h, vision.patch_length, { bias: true }))
  add(cost.add(t, h))
  add(cost.layerNorm(t, h), 2 * vision.blocks)
  const third = cost.linear(t, h, h, { bias: true })
  add(branches([third, third, third], activation * t * h), vision.blocks)
  add(cost.rope(t, n, d), 2 * vision.blocks)
  add(cost.attention(t, t, n, n, d, t * t, { lse: false }), vision.blocks)
  add(cost.linear(t, h, h, { bias: true, residual: true }), vision.blocks)
  add(cost.linear(t, i, h, { bias: true }), vision.blocks)
  add(cost.gelu(t, i), vision.blocks)
  add(cost.linear(t, h, i, { bias: true, residual: true }), vision.blocks)
  const merged = h * vision.merge
  const inner = vision.merge > 1 ? merged : model.hidden
  add(cost.layerNorm(model.image_tokens, merged), vision.mergers)
  add(cost.linear(model.image_tokens, inner, merged, { bias: true }), vision.mergers)
  add(cost.gelu(model.image_tokens, inner), vision.mergers)
  add(cost.linear(model.image_tokens, model.hidden, inner, { bias: true }), vision.mergers)
  return total
}
