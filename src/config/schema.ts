/** The training configuration: every key, its type, range and default. The file format is YAML with these names. */
import { z } from 'zod'
import { type Device, defaultLora, deviceNames, gemmBackends, isDevice } from '../engine/engine.js'
import { objectiveNames } from './objectives.js'

const positive = z.number().positive()
const nonNegative = z.number().nonnegative()
const count = z.number().int().positive()
const fraction = z.number().min(0).max(1)
const folder = z.string().min(1)

const loraProjections = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'] as const

const lora = z.strictObject({
  rank: count.default(defaultLora.rank),
  alpha: positive.default(defaultLora.alpha),
  /** On the input of A, one mask per adapted projection. */
  dropout: z.number().min(0).lt(1).default(defaultLora.dropout),
  /** Scale the update by alpha / sqrt(rank) instead of alpha / rank. */
  rslora: z.boolean().default(defaultLora.rslora),
  targets: z
    .array(z.enum(loraProjections))
    .min(1)
    .default([...loraProjections]),
})

const objective = z.strictObject({
  name: z.enum(objectiveNames).default('fire'),
  beta: nonNegative.default(0.1),
  /** Weight of the KL term. */
  alpha: nonNegative.default(0.01),
  /** Weight of the visual term. */
  gamma: nonNegative.default(0.1),
  /** Share of forward KL(ref || policy) in the KL term; the rest is reverse. */
  lambda: fraction.default(0.5),
  /** Over phrase tokens of one pair; pairs are always averaged. */
  klReduction: z.enum(['sum', 'mean']).default('sum'),
  /** A pair with no phrase tokens on one side: leave it out, stop, or train on the other side alone. */
  emptyPhrase: z.enum(['skip', 'error', 'keep']).default('skip'),
  /** How phrases become tokens: by the character offsets of the clean text's tokens, or as the authors' release did. */
  maskMode: z.enum(['offsets', 'authors']).default('offsets'),
})

const optimizer = z.strictObject({
  lr: nonNegative.default(1e-6),
  beta1: z.number().min(0).lt(1).default(0.9),
  beta2: z.number().min(0).lt(1).default(0.999),
  eps: positive.default(1e-8),
  weightDecay: nonNegative.default(0),
  /** Global L2 norm of the gradient to clip to; 0 = no clipping. */
  maxGradNorm: nonNegative.default(1),
})

const schedule = z.strictObject({
  name: z.enum(['cosine', 'linear', 'constant']).default('cosine'),
  /** Optimizer steps of linear warm-up; not together with warmupRatio. */
  warmupSteps: z.number().int().nonnegative().nullable().default(null),
  /** Warm-up as a share of all steps, rounded up. */
  warmupRatio: fraction.nullable().default(null),
})

const checkpoint = z.strictObject({
  /** Optimizer steps between checkpoints; 0 = only when interrupted. */
  every: z.number().int().nonnegative().default(100),
  /** How many of the newest to keep. */
  keep: count.default(2),
})

export const trainSchema = z.strictObject({
  /** A published recipe that lies under these settings: the name of a file in models/. */
  preset: z.string().optional(),
  /** Checkpoint folder in Hugging Face layout. */
  model: folder,
  data: z.strictObject({
    /** Pair records, JSON Lines. */
    train: folder,
    /** What image paths are relative to; default: the folder of the records. */
    images: folder.nullable().default(null),
  }),
  /** Receives config.resolved.yaml, metrics.jsonl, checkpoints/ and adapter/. */
  output: folder,
  seed: z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER).default(42),
  /** The processor, a GPU, or `auto`: the first usable GPU, else the processor. */
  device: z.custom<Device>(isDevice, deviceNames).default('cpu'),
  dtype: z.enum(['f32', 'bf16']).default('f32'),
  /** 0 = all this process may use; results do not depend on it. */
  threads: z.number().int().nonnegative().default(0),
  gemm: z.enum(gemmBackends).default('auto'),
  lora: lora.prefault({}),
  objective: objective.prefault({}),
  optimizer: optimizer.prefault({}),
  schedule: schedule.prefault({}),
  epochs: count.default(1),
  /** Stop after this many optimizer steps; the schedule spans them. */
  maxSteps: count.nullable().default(null),
  /** Pairs per optimizer step. */
  batchSize: count.default(8),
  /** Pairs computed at once; default: all of a step. */
  microBatchSize: count.nullable().default(null),
  checkpoint: checkpoint.prefault({}),
  /**
   * Recompute layers in backward instead of keeping their activations; `auto`: when the step would not fit into the memory
   * that is free otherwise. The numbers are the same bits either way.
   */
  checkpointing: z.union([z.boolean(), z.literal('auto')], 'true, false or auto').default('auto'),
  /** Optimizer steps between lines on the terminal; metrics.jsonl has every step. */
  logEvery: count.default(1),
  /** MiB for what the reference says about pairs, so that later epochs need no reference pass; 0 = none. Exact. */
  referenceCache: z.number().int().nonnegative().default(256),
  /** Distinct images whose features are kept. */
  imageCache: count.default(256),
})

/** What a file or a caller may give: defaults left out. */
export type TrainConfigInput = z.input<typeof trainSchema>

/** Every key present, paths absolute, preset spelled out, `microBatchSize` decided. */
export type TrainConfig = Omit<z.output<typeof trainSchema>, 'preset' | 'microBatchSize'> & { microBatchSize: number }
