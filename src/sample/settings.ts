/** What a run of sampling can be told, with defaults: the same on the command line and in a pipeline's file. */
import { z } from 'zod'

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

/** A server to ask instead of the engine. */
export const endpointSettings = z.strictObject({
  /** Up to and including the version, for instance `http://localhost:8000/v1`. */
  url: z.string().min(1),
  /** The model's name at the server. */
  model: z.string().min(1),
  /** The environment variable with the key. */
  keyEnv: z.string().min(1).nullable().default(null),
  /** Requests at a time. */
  concurrency: count.default(8),
  /** Seconds a request may take. */
  timeout: z.number().positive().max(86_400).default(300),
  /** Attempts after a failure that may pass. */
  retries: z.number().int().nonnegative().default(5),
})

export type EndpointSettings = z.output<typeof endpointSettings>
