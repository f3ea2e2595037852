/** Settings that several stages and commands share: one declaration each. */
import { z } from 'zod'
import { type Device, deviceNames, isDevice, packWeightsModes } from '../engine/engine.js'

export const count = z.number().int().positive()
export const whole = z.number().int().nonnegative()
export const share = z.number().min(0).max(1)
export const text = z.string().min(1)

/** What `meta` says of settings that are paths; see `GlobalMeta` for the kinds. */
export const inputPath = (description: string) => ({ description, path: 'input' as const })
export const rootPath = (description: string) => ({ description, path: 'root' as const })
export const outputPath = (description: string) => ({ description, path: 'output' as const })

export const seed = whole.max(Number.MAX_SAFE_INTEGER).default(42)

export const beyondContext = z
  .boolean()
  .default(false)
  .meta({ description: "Take what is longer than the model's context, max_position_embeddings of its config.json" })

/** What engines of one model leave for one another on disk. */
export const shared = {
  featureStore: text
    .nullable()
    .default(null)
    .meta({
      ...outputPath(
        'Folder that keeps image features and results of the reference for other runs of this model; may be shared and deleted',
      ),
      free: true,
    }),
  featureStoreSize: whole.default(4096).meta({
    description: 'Most that the feature store holds; what does not fit is not kept',
    unit: 'MiB',
    free: true,
    needs: 'featureStore',
  }),
}

/** Where and how an engine computes. */
export const compute = {
  device: z
    .custom<Device>(isDevice, deviceNames)
    .default('cpu')
    .meta({ description: `Where to compute: ${deviceNames}`, form: 'cpu, cuda, cuda:N or auto' }),
  dtype: z.enum(['f32', 'bf16']).default('f32').meta({ description: 'Arithmetic of matrix products' }),
  threads: whole.default(0).meta({ description: 'Compute threads; 0 = all', unit: 'threads', free: true }),
  packWeights: z.enum(packWeightsModes).default('auto').meta({
    description:
      'Keep copies of the weights in the form that matrix products on a CPU read, which saves time; auto: when they take at most a quarter of the free memory',
    free: true,
  }),
}
