/** What a run of sampling can be told, with defaults: the same on the command line and in a pipeline's file. */
import { z } from 'zod'
import { endpointSettings } from '../endpoint/index.js'

const count = z.number().int().positive()

export const sampleSettings = z.strictObject({
  /** Answers to each question. */
  answers: count.default(1),
  maxNewTokens: count.default(256),
  /** 0 = greedy. */
  temperature: z.number().nonnegative().default(0),
  topP: z.number().gt(0).max(1).default(1),
  /** 0 = off. */
  topK: z.number().int().nonnegative().default(0),
  /** Texts that end an answer. */
  stop: z.array(z.string().min(1)).default([]),
  seed: z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER).default(42),
  /** Written after every question, for instance " Answer in one sentence." */
  promptSuffix: z.string().default(''),
  /** Only the samples of this split. */
  split: z.string().nullable().default(null),
  /** Only the first so many samples. */
  limit: count.nullable().default(null),
})

export type SampleSettings = z.output<typeof sampleSettings>

/** A server to ask instead of the engine. Its longest reply is `maxNewTokens`. */
export const serverSettings = endpointSettings.omit({ maxTokens: true })
