/** `pairs`: answers judged, minimally edited and verified. */
import { join } from 'node:path'
import { z } from 'zod'
import { type EndpointSettings, endpointSettings, openEndpoint } from '../../endpoint/index.js'
import { EndpointError } from '../../errors.js'
import { buildPairs, EndpointProvider, pairModes, RulesProvider } from '../../pairs/index.js'
import { defineStage, type StageContext } from '../stage.js'

const schema = z.strictObject({
  /** Sample records; default: those of the stages before. */
  samples: z.string().min(1).optional(),
  /** Answers to them; default: those of the stage before. */
  responses: z.string().min(1).optional(),
  mode: z.enum(pairModes).default('on-policy'),
  /** A language model that judges and edits; without it, word rules do. */
  endpoint: endpointSettings.optional(),
  /** A language model that checks every pair blindly. */
  judge: endpointSettings.optional(),
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
    return {
      name: 'pairs',
      inputs: [samples, responses],
      settings: {
        mode: settings.mode,
        seed: shared.seed,
        by: identity(settings.endpoint),
        judge: identity(settings.judge),
      },
      outputs: [out],
      async run(context) {
        const { signal, progress } = context
        // Replies are kept by their content, so what was paid for is good in any later run.
        const cache = join(folder, 'cache')
        let started = false
        const result = await buildPairs({
          ...{ samples, responses, out, mode: settings.mode, seed: shared.seed, signal },
          provider: settings.endpoint ? await open(settings.endpoint, cache, context) : new RulesProvider(),
          blindJudge: settings.judge ? await open(settings.judge, cache, context) : null,
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

/** What of an endpoint decides the result. */
function identity(settings: EndpointSettings | undefined): object | null {
  return settings ? { url: settings.url, model: settings.model, maxTokens: settings.maxTokens } : null
}

async function open(settings: EndpointSettings, cache: string, { signal, progress }: StageContext) {
  return new EndpointProvider(await openEndpoint(settings, { cache, signal, onLog: (line) => progress.log(line) }))
}
