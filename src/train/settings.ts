/** The settings of training: every key, its type, range and default. The file format is YAML with these names. */
import { z } from 'zod'
import { defaultLora, gemmBackends, mostCoefficient, mostLoraAlpha } from '../engine/engine.js'
import { objectiveNames, type Scope } from '../engine/objectives.js'
import {
  beyondContext,
  compute,
  count,
  inputPath,
  outputPath,
  rootPath,
  seed,
  share,
  shared,
  text,
  whole,
} from '../settings/common.js'
import { type EvaluationMetric, evaluationMetrics } from './metrics.js'
import { orders } from './order.js'

const nonNegative = z.number().nonnegative()
const coefficient = nonNegative.max(mostCoefficient)
const decay = z.number().min(0).lt(1)

const loraProjections = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'] as const

/** One of the numbers of an evaluation that say which adapter is better. */
const evaluationMetric = z.enum(Object.keys(evaluationMetrics) as [EvaluationMetric, ...EvaluationMetric[]])

const lora = z.strictObject({
  init: text
    .nullable()
    .default(null)
    .meta(
      inputPath(
        "Adapter folder to start from, ours or PEFT's; rank, alpha, rslora and targets are then its own. Default: a fresh adapter",
      ),
    ),
  reference: z.enum(['init', 'base']).default('init').meta({
    description:
      'What the policy is compared with: the adapter it starts from, frozen, or the model without an adapter',
    needs: 'init',
  }),
  rank: count.default(defaultLora.rank).meta({ description: 'Rank of the adapter' }),
  alpha: z
    .number()
    .positive()
    .max(mostLoraAlpha)
    .default(defaultLora.alpha)
    .meta({ description: 'The update is scaled by alpha / rank' }),
  dropout: decay
    .default(defaultLora.dropout)
    .meta({ description: 'Dropout on the input of A, one mask for each adapted projection' }),
  rslora: z
    .boolean()
    .default(defaultLora.rslora)
    .meta({ description: 'Scale the update by alpha / sqrt(rank) instead of alpha / rank' }),
  targets: z
    .array(z.enum(loraProjections))
    .min(1)
    .default([...loraProjections])
    .meta({ description: 'Linear layers of the language model that are adapted' }),
})

/** Which objective has which, and its published value, which is the default: src/engine/objectives.ts. */
const coefficients = {
  beta: coefficient.optional().meta({ description: 'Scale of the preference margin' }),
  alpha: coefficient
    .optional()
    .meta({ description: 'Weight of the KL term; r-dpo: margin for each token; tdpo2: weight of the token KLs' }),
  gamma: coefficient
    .optional()
    .meta({ description: 'Weight of the visual term; simpo: target margin; v-dpo: weight of the policy on the image' }),
  lambda: share.optional().meta({
    description:
      'Share of forward KL(reference || policy) in the KL term, the rest is reverse; symmpo-pair: weight of the symmetric terms',
  }),
  klReduction: z
    .enum(['sum', 'mean'])
    .optional()
    .meta({ description: 'KL of one pair: sum or mean over its phrase tokens; pairs are always averaged' }),
  labelSmoothing: z
    .number()
    .min(0)
    .lt(0.5)
    .optional()
    .meta({ description: 'Share of labels that are taken to be wrong' }),
  tau: z.number().positive().max(mostCoefficient).optional().meta({ description: 'Width of the blend of discopop' }),
  nllWeight: coefficient.optional().meta({ description: 'Weight of the likelihood of the chosen answer' }),
  textWeight: coefficient.optional().meta({ description: 'Weight of the preference in mpo' }),
  bcoWeight: coefficient.optional().meta({ description: 'Weight of the classification in mpo' }),
  ldAlpha: share.optional().meta({ description: 'Weight of tokens beyond the length of the shorter answer' }),
  fAlpha: coefficient.optional().meta({ description: 'Order of the alpha divergence' }),
  tokenWeight: coefficient.optional().meta({ description: 'Weight of phrase tokens; others have 1' }),
  klWeight: coefficient.optional().meta({ description: 'Weight of the token KLs in chip' }),
  eta: coefficient.optional().meta({ description: 'Weight of the anchors of symmpo-pair' }),
  rho: coefficient.optional().meta({ description: 'Weight of the consistency of symmpo-pair' }),
}

const objective = z.strictObject({
  name: z.enum(objectiveNames).default('fire').meta({ description: 'The loss (docs/objectives.md)' }),
  scope: z.enum(['phrase', 'completion']).optional().meta({
    description: 'Tokens that are scored: those of the decisive phrases, or the whole answer; default: as published',
  }),
  ...coefficients,
  emptyPhrase: z.enum(['skip', 'error', 'keep']).default('skip').meta({
    description: 'A pair without phrase tokens on one side: leave it out, stop, or train on the other side alone',
  }),
  maskMode: z.enum(['offsets', 'authors']).default('offsets').meta({
    description: "How phrases become tokens: by character offsets of the clean text, or as the authors' release did",
  }),
})

const optimizer = z.strictObject({
  lr: share.default(1e-6).meta({ description: 'Peak learning rate of AdamW' }),
  beta1: decay.default(0.9).meta({ description: 'Decay of the first moment' }),
  beta2: decay.default(0.999).meta({ description: 'Decay of the second moment' }),
  eps: z.number().min(1e-30).max(1).default(1e-8).meta({ description: 'Added to the root of the second moment' }),
  weightDecay: nonNegative.default(0).meta({ description: 'Decoupled weight decay' }),
  maxGradNorm: nonNegative.default(1).meta({ description: 'Global L2 norm that the gradient is clipped to; 0 = off' }),
})

const schedule = z.strictObject({
  name: z
    .enum(['cosine', 'linear', 'constant'])
    .default('cosine')
    .meta({ description: 'How the learning rate falls after warm-up' }),
  warmupSteps: whole
    .nullable()
    .default(null)
    .meta({ description: 'Optimizer steps of linear warm-up; not together with warmupRatio', unit: 'optimizer steps' }),
  warmupRatio: share.nullable().default(null).meta({ description: 'Warm-up as a share of all steps, rounded up' }),
})

const checkpoint = z.strictObject({
  every: whole.default(100).meta({
    description: 'Optimizer steps between checkpoints; 0 = only when interrupted',
    unit: 'optimizer steps',
    free: true,
  }),
  keep: count
    .default(2)
    .meta({ description: 'How many of the newest checkpoints to keep', unit: 'checkpoints', free: true }),
  best: evaluationMetric.nullable().default(null).meta({
    description: 'Keep the adapter with the best value of this metric on the held-out pairs, in best/',
  }),
})

const earlyStopping = z.strictObject({
  metric: evaluationMetric.default('eval_loss').meta({
    description:
      'What must become better on the held-out pairs, or training stops; off without this section, or with earlyStopping: null',
  }),
  patience: count.default(3).meta({
    description: 'Evaluations in a row without a better value, after which training stops',
    unit: 'evaluations',
  }),
  minDelta: nonNegative
    .default(0)
    .meta({ description: 'A value counts as better when it is so by more than this', unit: 'of the metric' }),
})

export const trainSettings = z.strictObject({
  preset: z
    .string()
    .optional()
    .meta({ description: 'Published recipe to start from, a file in models/, for instance qwen3-vl-4b' }),
  model: text.meta(inputPath('Checkpoint folder in Hugging Face layout')),
  data: z.strictObject({
    train: text.meta(inputPath('Pair records, JSON Lines')),
    images: text
      .nullable()
      .default(null)
      .meta(rootPath('Folder that image paths are relative to; default: that of the records')),
    eval: text
      .nullable()
      .default(null)
      .meta(inputPath('Pair records to evaluate while training, never trained on, JSON Lines')),
    evalShare: z.number().gt(0).lt(1).nullable().default(null).meta({
      description:
        'Hold out about this share of the images of data.train instead, with all their pairs: the same in every run, if each pair has one image',
      rulesOut: 'eval',
    }),
    order: z.enum(orders).default('random').meta({
      description:
        'Order of the pairs of an epoch: random (published), or image, pairs of one image one after the other',
    }),
  }),
  output: text.meta(
    outputPath('Folder for config.resolved.yaml, metrics.jsonl, report.html, tensorboard/, checkpoints/ and adapter/'),
  ),
  seed: seed.meta({ description: "Seed of the order of pairs, of dropout and of the adapter's first values" }),
  ...compute,
  gemm: z.enum(gemmBackends).default('auto').meta({ description: 'Whose matrix products to use (docs/gpu.md)' }),
  lora: lora.prefault({}),
  objective: objective.prefault({}),
  optimizer: optimizer.prefault({}),
  schedule: schedule.prefault({}),
  epochs: count.default(1).meta({ description: 'Passes over the pairs', unit: 'passes' }),
  maxSteps: count
    .nullable()
    .default(null)
    .meta({ description: 'Stop after this many optimizer steps; the schedule ends there', unit: 'optimizer steps' }),
  beyondContext,
  batchSize: count.default(8).meta({ description: 'Pairs for each optimizer step', unit: 'pairs' }),
  microBatchSize: count
    .nullable()
    .default(null)
    .meta({ description: 'Pairs computed at once; default: all of a step', unit: 'pairs' }),
  evalEvery: whole.default(100).meta({
    description: 'Optimizer steps between evaluations of the held-out pairs; the last step is always followed by one',
    unit: 'optimizer steps',
  }),
  evalSamples: whole.default(0).meta({
    description: 'Held-out questions to answer at each evaluation, greedily, for people to read: samples/step-N.md',
    unit: 'questions',
    free: true,
  }),
  earlyStopping: earlyStopping.nullable().optional(),
  selfCheck: z.boolean().default(true).meta({
    description:
      'Before the first step, check that policy and reference are equal and that images fill their placeholders',
    free: true,
  }),
  checkpoint: checkpoint.prefault({}),
  checkpointing: z
    .union([z.boolean(), z.literal('auto')], 'true, false or auto')
    .default('auto')
    .meta({
      description:
        'Recompute layers in backward instead of keeping their activations; auto: only when the step would not fit otherwise',
      free: true,
    }),
  logEvery: count.default(1).meta({
    description: 'Optimizer steps between lines on the terminal; metrics.jsonl has every step',
    unit: 'optimizer steps',
    free: true,
  }),
  tensorboard: z
    .boolean()
    .default(true)
    .meta({ description: 'Write the metrics as TensorBoard events too, to tensorboard/', free: true }),
  report: z
    .boolean()
    .default(true)
    .meta({ description: 'Write report.html, kept up to date while the run goes on', free: true }),
  referenceCache: whole.default(256).meta({
    description: 'Memory for results of the reference, so that later epochs need no reference pass; 0 = off',
    unit: 'MiB',
    free: true,
  }),
  ...shared,
  imageCache: count.default(256).meta({
    description: 'How many images keep their features in memory; on the host as many more may be prepared ahead',
    unit: 'images',
    free: true,
  }),
})

/** What a file or a caller may give: defaults left out. */
export type TrainConfigInput = z.input<typeof trainSettings>

/** What the folder of `lora.init` decides. */
export const shapeKeys = ['rank', 'alpha', 'rslora', 'targets'] as const
type ShapeKey = (typeof shapeKeys)[number]
type Lora = z.output<typeof lora>

/**
 * Every key present but coefficients that the objective does not use, and the shape of an adapter that the folder of `lora.init`
 * decides; paths absolute, preset spelled out, `microBatchSize` decided.
 */
export type TrainConfig = Omit<z.output<typeof trainSettings>, 'preset' | 'microBatchSize' | 'objective' | 'lora'> & {
  microBatchSize: number
  objective: z.output<typeof objective> & { scope: Scope }
  lora: Omit<Lora, ShapeKey> & Partial<Pick<Lora, ShapeKey>>
}
