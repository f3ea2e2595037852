/**
 * An in-memory stand-in for the addon: the same interface, a four-parameter "model", every number deterministic. It can
 * be loaded where the real one is (FIRE_NATIVE_PATH), in this process or a child.
 *
 * FIRE_FAKE_DELAY_MS slows a step down; FIRE_FAKE_NAN names a pair whose loss is NaN; FIRE_FAKE_DRIFT one whose policy is
 * never its reference.
 * @typedef {import('../../src/engine/native.js')} Native
 */
const { mkdir, readFile, writeFile } = require('node:fs/promises')
const { existsSync, readFileSync } = require('node:fs')
const { join } = require('node:path')
const { setTimeout: sleep } = require('node:timers/promises')
const { enter, groupId } = require('./group.cjs')

const size = 4
let ErrorClass = Error

function fail(code, message, detail) {
  return new ErrorClass(`ERR_FIRE_${code}`, message, detail)
}

function checkCancelled(cancel) {
  if (cancel?.cancelled) throw fail('ABORTED', 'aborted')
}

/** A feature vector in [-1, 1] of a token list. */
function features(ids, salt) {
  const vector = new Float64Array(size)
  ids.forEach((id, index) => {
    vector[(id + index + salt) % size] += Math.sin(id * 0.37 + salt)
  })
  return vector.map((value) => Math.tanh(value))
}

const dot = (a, b) => a.reduce((total, value, index) => total + value * b[index], 0)
const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)))
const sigmoid = (x) => 1 / (1 + Math.exp(-x))
const count = (mask) => mask.reduce((total, value) => total + value, 0)

function readAdapter(folder) {
  const { shape } = JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8'))
  return { shape, parameters: JSON.parse(readFileSync(join(folder, 'adapter_model.safetensors'), 'utf8')) }
}

class FakeEngine {
  constructor(spec, config) {
    this.spec = spec
    const adapter = spec.adapter ? readAdapter(spec.adapter) : null
    this.reference = spec.referenceAdapter ? readAdapter(spec.referenceAdapter).parameters : new Array(size).fill(0)
    this.state = {
      parameters: adapter?.parameters ?? new Array(size).fill(0),
      first: new Array(size).fill(0),
      second: new Array(size).fill(0),
      step: 0,
    }
    this.gradient = new Float64Array(size)
    this.group = spec.group && spec.group.size > 1 ? enter(spec.group, fail) : null
    this.images = new Set()
    this.encoded = 0
    /** Prompts of each call of generate. */
    this.calls = []
    this.closed = false
    this.info = {
      family: 'fake',
      device: spec.device,
      dtype: spec.dtype,
      threads: 1,
      gemm: 'native',
      isa: 'none',
      hiddenSize: size,
      layers: 1,
      vocabSize: config.vocab_size,
      imageTokenId: config.image_token_id,
      eosTokenIds: [config.eos_token_id],
      parameters: size,
      trainableParameters: size,
      weightBytes: 4 * size,
      maxPackedBytes: 0,
      weightDTypes: ['f32'],
      lora: adapter ? { ...spec.lora, ...adapter.shape } : spec.lora,
    }
  }

  imageTokens(width, height) {
    return Math.max(1, Math.round(width / 16)) * Math.max(1, Math.round(height / 16))
  }

  async prepareImages(images, cancel) {
    checkCancelled(cancel)
    return images
  }

  async encodeImages(images, cancel) {
    checkCancelled(cancel)
    for (const image of images) {
      this.images.add(image.id)
      this.encoded += 1
    }
    return images.map((image) => ({
      id: image.id,
      grid: [1, 2, 2],
      tokens: this.imageTokens(image.width, image.height),
    }))
  }

  async releaseImages(ids) {
    for (const id of ids) this.images.delete(id)
  }

  async plan(pairs) {
    const tokens = pairs.reduce((total, pair) => total + pair.prompt.length + pair.chosen.length, 0)
    const rows = pairs.reduce((total, pair) => total + count(pair.chosenMask), 0)
    const bytes = {
      weightBytes: 16,
      packedBytes: 0,
      adapterBytes: 16,
      optimizerBytes: 32,
      activationBytes: tokens * 64,
      visionBytes: 0,
      arenaBytes: tokens * 64,
      logitsBytes: rows,
      scratchBytes: 0,
      featureBytesPerToken: 8,
      featureUnitBytes: 8,
      pixelBytesPerToken: 4,
      referenceBytes: rows * 2,
    }
    return { ...bytes, tokens, rows }
  }

  async reserve(batches, objective, _options, training) {
    const ids = batches.map((pairs) => pairs.map(({ id }) => id))
    if (training) this.reserved = ids
    else if (ids.length > 0) this.reservedToEvaluate = { objective: objective.name, ids }
  }

  async reserveImages(tokens) {
    this.reservedImages = tokens
  }

  async accumulate(pairs, objective, options, cancel) {
    return this.#run(pairs, objective, options, cancel, true)
  }

  async evaluate(pairs, objective, options, cancel) {
    return this.#run(pairs, objective, options, cancel, false)
  }

  async #run(pairs, objective, options, cancel, learn) {
    if (process.env.FIRE_FAKE_DELAY_MS) await sleep(Number(process.env.FIRE_FAKE_DELAY_MS))
    checkCancelled(cancel)
    const stats = pairs.map((pair) => this.#pair(pair, objective, options, learn))
    const tokens = pairs.reduce((total, pair) => total + pair.prompt.length + pair.chosen.length, 0)
    return { pairs: stats, tokens, rows: pairs.length, seconds: 0.001 }
  }

  #pair(pair, objective, options, learn) {
    for (const id of [...pair.images, ...(pair.corruptedImages ?? [])]) {
      if (!this.images.has(id)) throw fail('INVALID_ARGUMENT', `image ${id} of pair ${pair.id} was not encoded`)
    }
    const difference = features(pair.chosen, 1).map((value, index) => value - features(pair.rejected, 1)[index])
    // By seed, step and what the pair is, as the engine draws its masks: whatever the batch around it.
    if (learn && this.spec.lora?.dropout > 0) {
      const seen = pair.chosen.reduce((total, id) => total + id, this.spec.lora.seed + this.state.step)
      difference[seen % size] *= 0.5
    }
    const learned = this.state.parameters.map((value, index) => value - this.reference[index])
    const drift = process.env.FIRE_FAKE_DRIFT === pair.id ? 0.5 : 0
    const margin = objective.beta * dot(learned, difference) + drift
    const twin = pair.corruptedImages !== null && objective.name.startsWith('fire')
    const visual = twin ? softplus(margin) : 0
    const kl = 0.001 * dot(learned, learned)
    const base = softplus(-margin)
    const loss = pair.weight * (base + objective.gamma * visual + objective.alpha * kl)
    if (process.env.FIRE_FAKE_NAN === pair.id) {
      throw fail('NONFINITE', `the loss is not a finite number for pair(s) "${pair.id}"`, { records: pair.id })
    }
    if (learn) {
      const pull = -objective.beta * sigmoid(-margin) * pair.weight
      for (let index = 0; index < size; index += 1) {
        this.gradient[index] += (pull * difference[index]) / options.normalizer
      }
    }
    const scale = (value) => (twin ? value : Number.NaN)
    const policy = { chosen: margin, rejected: 0, corruptedChosen: scale(0), corruptedRejected: scale(-margin) }
    const reference = { chosen: 0, rejected: 0, corruptedChosen: scale(0), corruptedRejected: scale(0) }
    return {
      loss,
      weight: pair.weight,
      base,
      visual,
      anchor: 0,
      margin,
      visualMargin: twin ? -margin : Number.NaN,
      forwardKl: kl,
      reverseKl: kl,
      policy,
      reference,
      chosenTokens: count(pair.chosenMask),
      rejectedTokens: count(pair.rejectedMask),
    }
  }

  async update(spec) {
    const started = performance.now()
    await this.group?.sum(this.gradient)
    const secondsWaited = this.group ? (performance.now() - started) / 1000 : 0
    const norm = Math.sqrt(dot(this.gradient, this.gradient))
    const clip = spec.maxGradNorm > 0 ? Math.min(1, spec.maxGradNorm / (norm + 1e-6)) : 1
    const { parameters, first, second } = this.state
    this.state.step += 1
    for (let index = 0; index < size; index += 1) {
      const gradient = this.gradient[index] * clip
      first[index] = spec.beta1 * first[index] + (1 - spec.beta1) * gradient
      second[index] = spec.beta2 * second[index] + (1 - spec.beta2) * gradient * gradient
      const rate = spec.lr / (1 - spec.beta1 ** this.state.step)
      const scale = Math.sqrt(second[index] / (1 - spec.beta2 ** this.state.step)) + spec.eps
      parameters[index] -= (rate * first[index]) / scale
    }
    this.gradient.fill(0)
    return { gradNorm: norm, step: this.state.step, secondsWaited }
  }

  abortGroup(reason) {
    this.group?.abort(reason)
  }

  async zeroGrad() {
    this.gradient.fill(0)
  }

  async logprobs(sequences) {
    return sequences.map((sequence) => new Float32Array(sequence.ids.length - 1).fill(-1))
  }

  /** Repeats the prompt's last tokens, at most five. Prompts end from the last to the first. */
  async generate(prompts, sampling, onToken, onEnd, cancel) {
    this.calls.push(prompts.length)
    const results = []
    for (const [index, prompt] of [...prompts.entries()].reverse()) {
      if (process.env.FIRE_FAKE_DELAY_MS) await sleep(Number(process.env.FIRE_FAKE_DELAY_MS))
      checkCancelled(cancel)
      const tokens = prompt.ids.slice(-Math.min(5, sampling.maxNewTokens))
      for (const token of tokens) onToken?.(index, token)
      results[index] = { tokens, logprob: -tokens.length, finish: sampling.maxNewTokens > 5 ? 'stop' : 'length' }
      onEnd?.(index, results[index])
    }
    return results
  }

  async viewImage({ width, height, rgb }) {
    return { width, height, rgb, scaleX: 1, scaleY: 1, left: 0, top: 0 }
  }

  async attention(_sequence, positions) {
    return positions.map(() => ({ layers: 1, heads: 1, tokens: 1, weights: new Float32Array([1]) }))
  }

  async saveAdapter(directory, baseModel) {
    await mkdir(directory, { recursive: true })
    const { rank, alpha, rslora, targets } = this.info.lora
    const config = { base_model_name_or_path: baseModel, shape: { rank, alpha, rslora, targets } }
    await writeFile(join(directory, 'adapter_config.json'), JSON.stringify(config))
    await writeFile(join(directory, 'adapter_model.safetensors'), JSON.stringify(this.state.parameters))
  }

  async saveState(directory) {
    await mkdir(directory, { recursive: true })
    await writeFile(join(directory, 'state.json'), JSON.stringify(this.state))
  }

  async loadState(directory) {
    this.state = JSON.parse(await readFile(join(directory, 'state.json'), 'utf8'))
  }

  async close() {
    this.closed = true
  }
}

module.exports = {
  version: '0.0.0-fake',
  /** Every engine opened, for tests to look into. */
  engines: [],
  setErrorClass(errorClass) {
    ErrorClass = errorClass
  },
  gpuReport: () => ({ gpus: [], reason: 'this is a fake', cublaslt: 'this is a fake' }),
  gpuMemory: () => ({ freeBytes: 2 ** 40, totalBytes: 2 ** 40 }),
  gpuKernels: () => 'none',
  cpuInfo: () => ({
    model: 'fake cpu',
    cores: 1,
    isa: ['none'],
    kernel: 'portable',
    onednn: { available: false, detail: 'not looked for' },
  }),
  transports: () => ({ nccl: { version: 'fake' }, mpi: { version: 'fake' } }),
  groupId,
  exchange: () => false,
  createCancelToken: () => ({
    cancelled: false,
    cancel() {
      this.cancelled = true
    },
  }),
  async openEngine(spec, cancel) {
    checkCancelled(cancel)
    const path = join(spec.model, 'config.json')
    if (!existsSync(path)) throw fail('IO', `cannot open ${path}: No such file or directory`, { path })
    const engine = new FakeEngine(spec, JSON.parse(readFileSync(path, 'utf8')))
    this.engines.push(engine)
    await engine.group?.join(() => checkCancelled(cancel))
    return engine
  },
  async verify(spec, onRow) {
    const row = { group: 'logits', tensors: 1, maxAbs: 1e-6, maxRel: Number.NaN, worst: 'x', tolerance: 'abs 1e-4' }
    const rows = [
      { ...row, pass: true },
      { ...row, group: 'gradients', maxAbs: 1, maxRel: 0.5, pass: !spec.directory.includes('wrong') },
    ]
    for (const each of rows) onRow?.(each)
    return rows
  },
  async benchGemm(spec) {
    return spec.shapes.map((shape) => ({ ...shape, dtype: 'f32', backend: 'native', gflops: 60, ceiling: 100 }))
  },
}
