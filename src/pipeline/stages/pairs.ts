/** `pairs`: answers judged, minimally edited and verified. */
import { join } from 'node:path'
import { z } from 'zod'
import { ConfigError, EndpointError } from '../../errors.js'
import {
  buildPairs,
  ChatEndpoint,
  EndpointProvider,
  outputFiles,
  PhantomProvider,
  pairModes,
  RequestCache,
  RulesProvider,
} from '../../pairs/index.js'
import { defineStage, type StageContext } from '../stage.js'

const count = z.number().int().positive()
const price = z.number().nonnegative()

const endpoint = z.strictObject({
  url: z.string().min(1),
  model: z.string().min(1),
  /** The environment variable with the key. */
  keyEnv: z.string().min(1).nullable().default(null),
  concurrency: count.default(4),
  requestsPerMinute: z.number().int().nonnegative().default(0),
  /** Seconds for one attempt. */
  timeout: z.number().positive().default(60),
  retries: z.number().int().nonnegative().default(6),
  maxTokens: count.default(1024),
  /** US dollars that are never exceeded. */
  budget: price.nullable().default(null),
  /** US dollars per million tokens. */
  priceIn: price.default(0),
  priceOut: price.default(0),
})
type Endpoint = z.output<typeof endpoint>

const schema = z.strictObject({
  /** Sample records; default: those of the stages before. */
  samples: z.string().min(1).optional(),
  /** Answers to them; default: those of the stage before. */
  responses: z.string().min(1).optional(),
  mode: z.enum(pairModes).default('on-policy'),
  /** Who judges and edits offline: word rules, or the exact truth of the phantom world. */
  provider: z.enum(['rules', 'phantom']).default('rules'),
  /** A language model that judges and edits instead. */
  endpoint: endpoint.optional(),
  /** A language model that checks every pair blindly. */
  judge: endpoint.optional(),
})

export const pairsStage = defineStage({
  section: 'pairs',
  schema,
  paths: [['samples'], ['responses']],
  plan({ settings, shared, artifacts, folder, fail }) {
    const samples =
      settings.samples ?? artifacts.samples ?? fail(['samples'], 'pairs.samples is missing: no stage makes samples')
    const responses =
      settings.responses ??
      artifacts.responses ??
      fail(['responses'], 'pairs.responses is missing: no stage makes answers')
    const out = join(folder, 'pairs.jsonl')
    artifacts.pairs = out
    artifacts.pairsReport = outputFiles(out).report
    return {
      name: 'pairs',
      inputs: [samples, responses],
      settings: {
        mode: settings.mode,
        seed: shared.seed,
        by: identity(settings.endpoint) ?? settings.provider,
        judge: identity(settings.judge),
      },
      outputs: [out, outputFiles(out).report],
      async run(context) {
        const { signal, progress } = context
        // Replies are kept by their content, so what was paid for is good in any later run.
        const cache = await RequestCache.open(join(folder, 'cache'))
        let started = false
        const result = await buildPairs({
          ...{ samples, responses, out, mode: settings.mode, seed: shared.seed, signal },
          provider: settings.endpoint ? open(settings.endpoint, cache, context) : offline[settings.provider](),
          blindJudge: settings.judge ? open(settings.judge, cache, context) : null,
          concurrency: 2 * (settings.endpoint?.concurrency ?? 1),
          onProgress(done, total) {
            if (!started) progress.start('', total, 'answers')
            started = true
            progress.update(done)
          },
        }).catch((error) => {
          if (!signal?.aborted) throw error
        })
        if (!result) return { interrupted: true, summary: '' }
        const { answers, pairs, byRejection } = result.report.statistics
        const unasked = (byRejection.endpoint_failed ?? 0) + (byRejection.budget ?? 0)
        if (unasked > 0) {
          throw new EndpointError(`${unasked} answers were not judged`, {
            hint: 'Run the pipeline again: what was answered is kept. Raise pairs.endpoint.budget if it was spent.',
          })
        }
        return {
          interrupted: false,
          summary: `${pairs} pairs from ${answers} answers; the rest: ${result.files.rejected}`,
        }
      },
    }
  },
})

const offline = { rules: () => new RulesProvider(), phantom: () => new PhantomProvider() }

/** What of an endpoint decides the result. */
function identity(settings: Endpoint | undefined): object | null {
  return settings ? { url: settings.url, model: settings.model, maxTokens: settings.maxTokens } : null
}

function open(settings: Endpoint, cache: RequestCache, { signal, progress }: StageContext): EndpointProvider {
  const { url, keyEnv, timeout, priceIn, priceOut, ...rest } = settings
  const key = keyEnv === null ? undefined : process.env[keyEnv]?.trim()
  if (keyEnv !== null && !key) throw new ConfigError(`The variable ${keyEnv} holds no key`)
  return new EndpointProvider(
    new ChatEndpoint(
      {
        ...rest,
        baseUrl: url,
        key,
        delayMs: 1000,
        timeoutMs: timeout * 1000,
        price: { input: priceIn, output: priceOut },
      },
      { cache, signal: signal ?? new AbortController().signal, onLog: (line) => progress.log(line) },
    ),
  )
}
