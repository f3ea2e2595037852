/** Checks of what crosses into native code, so that a wrong argument is named here and not found as a crash there. */
import { ArgumentError, expected } from '../errors.js'
import { checkOptions, nearest } from '../options.js'
import { deviceNames, gemmBackends, isDevice, packWeightsModes } from './device.js'
import type { GroupSpec, Transport } from './group.js'
import type {
  AdamWSpec,
  EngineSpec,
  ImageInput,
  MergeSpec,
  PairInput,
  PreparedImage,
  PromptInput,
  SamplingSpec,
  SequenceInput,
  StepOptions,
} from './native.js'
import { coefficientNames, coefficientNumbers, type ObjectiveSpec, objectiveNames, objectives } from './objectives.js'

/** Far above what is published (beta, alpha and gamma up to 1, LoRA's alpha up to 512), far below what overflows. */
export const mostCoefficient = 1000
export const mostLoraAlpha = 1e6

const transports: Transport[] = ['nccl', 'mpi']

/** What crosses into native code as a list, or is read as one here. */
export function checkArray(list: unknown[], where: string): void {
  if (!Array.isArray(list)) throw expected('an array', where, list)
}

export function checkSignal(signal: AbortSignal | undefined): void {
  if (signal != null && typeof signal.addEventListener !== 'function')
    throw expected('an AbortSignal', 'signal', signal)
}

export function checkMerge(spec: MergeSpec): void {
  checkOptions('mergeWeights', spec, { model: true, adapter: true, output: true, shardBytes: true, rename: true })
  for (const key of ['model', 'adapter', 'output'] as const) {
    if (typeof spec[key] !== 'string' || spec[key] === '') throw expected('a folder', key, spec[key])
  }
}

function checkRecord(value: object, what: string, where: string): void {
  if (typeof value !== 'object' || value === null) throw expected(what, where, value)
}

export function checkSpec(spec: EngineSpec): void {
  if (typeof spec.model !== 'string' || spec.model === '') throw expected('a folder', 'model', spec.model)
  for (const key of ['adapter', 'referenceAdapter'] as const) {
    if (spec[key] !== null && typeof spec[key] !== 'string') throw expected('a folder or null', key, spec[key])
  }
  if (!isDevice(spec.device)) throw expected(deviceNames, 'device', spec.device)
  if (spec.dtype !== 'f32' && spec.dtype !== 'bf16') throw expected("'f32' or 'bf16'", 'dtype', spec.dtype)
  if (!gemmBackends.includes(spec.gemm)) throw expected(gemmBackends.join(', '), 'gemm', spec.gemm)
  if (!Number.isInteger(spec.threads) || spec.threads < 0) throw expected('an integer >= 0', 'threads', spec.threads)
  if (!packWeightsModes.includes(spec.packWeights)) {
    throw expected(packWeightsModes.join(', '), 'packWeights', spec.packWeights)
  }
  const free = spec.freeBytes
  if (!Number.isSafeInteger(free) || free < 0) throw expected('an integer >= 0', 'freeBytes', free)
  const cache = spec.referenceCacheBytes
  if (!Number.isSafeInteger(cache) || cache < 0) throw expected('an integer >= 0', 'referenceCacheBytes', cache)
  if (spec.featureStore) {
    const { folder, key, maxBytes } = spec.featureStore
    if (typeof folder !== 'string' || folder === '') throw expected('a folder', 'featureStore.folder', folder)
    if (typeof key !== 'string' || key === '') throw expected('a text', 'featureStore.key', key)
    const isSize = Number.isSafeInteger(maxBytes) && maxBytes >= 0
    if (!isSize) throw expected('an integer >= 0', 'featureStore.maxBytes', maxBytes)
  }
  if (spec.group) checkGroup(spec.group)
  if (!spec.lora) return
  const { rank, alpha, dropout, targets } = spec.lora
  if (!Number.isInteger(rank) || rank < 1) throw expected('a positive integer', 'lora.rank', rank)
  if (!(alpha > 0 && alpha <= mostLoraAlpha)) throw expected(`a number in (0, ${mostLoraAlpha}]`, 'lora.alpha', alpha)
  if (!(dropout >= 0 && dropout < 1)) throw expected('a probability in [0, 1)', 'lora.dropout', dropout)
  checkArray(targets, 'lora.targets')
  if (targets.length === 0) throw expected('at least one projection', 'lora.targets', targets)
}

function checkGroup({ transport, rank, size, id }: GroupSpec): void {
  if (!transports.includes(transport)) throw expected(transports.join(', '), 'group.transport', transport)
  if (!Number.isInteger(size) || size < 1) throw expected('a positive integer', 'group.size', size)
  if (!Number.isInteger(rank) || rank < 0 || rank >= size) throw expected(`0 to ${size - 1}`, 'group.rank', rank)
  if (typeof id !== 'string') throw expected('a text', 'group.id', id)
}

export function checkImage(image: ImageInput, where = 'image'): void {
  checkRecord(image, 'an image', where)
  const { id, width, height, rgb } = image
  if (typeof id !== 'string') throw expected('a text', `id of ${where}`, id)
  checkExtent(width, `width of image ${id}`)
  checkExtent(height, `height of image ${id}`)
  const bytes = width * height * 3
  if (rgb?.length !== bytes) throw expected(`${bytes} bytes of RGB (${width} x ${height})`, `image ${id}`, rgb)
}

export function checkImages(images: ImageInput[]): void {
  checkArray(images, 'images')
  images.forEach((image, index) => {
    checkImage(image, `image ${index}`)
  })
}

/** Of prepared images the engine itself knows whether they are its own. */
export function checkEncodable(images: (ImageInput | PreparedImage)[]): void {
  checkArray(images, 'images')
  images.forEach((image, index) => {
    checkRecord(image, 'an image', `image ${index}`)
    if ('rgb' in image) checkImage(image, `image ${index}`)
  })
}

export function checkExtent(extent: number, where: string): void {
  if (!Number.isInteger(extent) || extent < 1) throw expected('a positive integer', where, extent)
}

const objectiveKeys = Object.fromEntries(['name', 'scope', ...coefficientNames].map((key) => [key, true])) as Record<
  keyof ObjectiveSpec,
  true
>

export function checkObjective(objective: ObjectiveSpec): void {
  checkOptions('the objective', objective, objectiveKeys)
  const { name } = objective
  if (!objectiveNames.includes(name)) {
    const { message } = expected(objectiveNames.join(', '), 'objective.name', name)
    const near = typeof name === 'string' ? nearest(name, objectiveNames) : undefined
    throw new ArgumentError(near ? `${message}; did you mean '${near}'?` : message, { detail: { near } })
  }
  for (const name of coefficientNumbers) {
    const { [name]: value = 0 } = objective
    const isSound = value >= 0 && value <= mostCoefficient
    if (!isSound) throw expected(`a number in [0, ${mostCoefficient}]`, `${name} of the objective`, value)
  }
}

export function checkPairs(pairs: PairInput[], objective: ObjectiveSpec): void {
  if (!Array.isArray(pairs) || pairs.length === 0) throw expected('a non-empty array', 'pairs', pairs)
  checkObjective(objective)
  pairs.forEach((pair, index) => {
    checkRecord(pair, 'a pair', `pair ${index}`)
    const where = (part: string): string => `${part} of pair ${pair.id}`
    checkIds(pair.prompt, where('prompt'))
    checkIds(pair.chosen, where('chosen'))
    if (objectives[objective.name].prefers) checkIds(pair.rejected, where('rejected'))
    checkArray(pair.images, where('images'))
    checkMask(pair.chosenMask, pair.chosen, where('chosenMask'))
    checkMask(pair.rejectedMask, pair.rejected, where('rejectedMask'))
    for (const key of ['weight', 'rejectedScore'] as const) {
      const { [key]: value = 1 } = pair
      if (!(value >= 0 && value < Infinity)) throw expected('a number >= 0', where(key), value)
    }
    const twins = pair.corruptedImages
    if (twins && twins.length !== pair.images.length) {
      throw expected(`${pair.images.length} ids`, where('corruptedImages'), twins)
    }
  })
}

export function checkOptimizer({ lr, beta1, beta2, eps, weightDecay, maxGradNorm }: AdamWSpec): void {
  if (!(lr >= 0 && lr <= 1)) throw expected('a learning rate in [0, 1]', 'lr', lr)
  if (!(beta1 >= 0 && beta1 < 1)) throw expected('a number in [0, 1)', 'beta1', beta1)
  if (!(beta2 >= 0 && beta2 < 1)) throw expected('a number in [0, 1)', 'beta2', beta2)
  if (!(eps >= 1e-30 && eps <= 1)) throw expected('a number in [1e-30, 1]', 'eps', eps)
  if (!(weightDecay >= 0 && lr * weightDecay <= 1)) throw expected('0 to 1 / lr', 'weightDecay', weightDecay)
  if (!(maxGradNorm >= 0 && maxGradNorm < Infinity)) throw expected('a finite number >= 0', 'maxGradNorm', maxGradNorm)
}

export function checkStep(step: StepOptions): void {
  checkOptions('the step', step, { normalizer: true, layout: true, chosenTokens: true, last: true })
  const { chosenTokens = 0, last = false } = step
  if (typeof last !== 'boolean') throw expected('true or false', 'last', last)
  if (!Number.isSafeInteger(chosenTokens) || chosenTokens < 0)
    throw expected('an integer >= 0', 'chosenTokens', chosenTokens)
  if (!(step.normalizer > 0)) throw expected('a number > 0', 'normalizer', step.normalizer)
  if (!['packed', 'pair', 'plain'].includes(step.layout))
    throw expected("'packed', 'pair' or 'plain'", 'layout', step.layout)
}

export function checkSequences(sequences: SequenceInput[]): void {
  checkArray(sequences, 'sequences')
  sequences.forEach((sequence, index) => {
    checkRecord(sequence, 'a sequence', `sequence ${index}`)
    checkIds(sequence.ids, `sequence ${index}`)
  })
}

export function checkPrompts(prompts: PromptInput[]): void {
  if (!Array.isArray(prompts) || prompts.length === 0) throw expected('a non-empty array', 'prompts', prompts)
  prompts.forEach((prompt, index) => {
    checkRecord(prompt, 'a prompt', `prompt ${index}`)
    checkIds(prompt.ids, `prompt ${index}`)
    if (!Number.isSafeInteger(prompt.seed)) throw expected('a safe integer', `seed of prompt ${index}`, prompt.seed)
  })
}

export function checkSampling(sampling: SamplingSpec): void {
  const { maxNewTokens, temperature, topP, topK, stopStrings, batchSize } = sampling
  if (!Number.isInteger(maxNewTokens) || maxNewTokens < 1) {
    throw expected('a positive integer', 'maxNewTokens', maxNewTokens)
  }
  if (!(temperature >= 0 && temperature <= 100)) throw expected('a number in [0, 100]', 'temperature', temperature)
  if (!(topP > 0 && topP <= 1)) throw expected('a number in (0, 1]', 'topP', topP)
  if (!Number.isInteger(topK) || topK < 0) throw expected('an integer >= 0', 'topK', topK)
  if (!Number.isInteger(batchSize) || batchSize < 1) throw expected('a positive integer', 'batchSize', batchSize)
  if (stopStrings == null) return
  const { strings } = stopStrings
  checkArray(strings, 'stopStrings.strings')
  if (strings.some((text) => typeof text !== 'string' || text === '')) throw expected('texts', 'stopStrings', strings)
}

function checkIds(ids: Int32Array, where: string): void {
  if (!(ids instanceof Int32Array)) throw expected('an Int32Array', where, ids)
  if (ids.length === 0) throw expected('at least one token', where, ids)
}

function checkMask(mask: Uint8Array, ids: Int32Array, where: string): void {
  if (!(mask instanceof Uint8Array) || mask.length !== ids.length) {
    throw expected(`a Uint8Array of ${ids.length}`, where, mask)
  }
}
