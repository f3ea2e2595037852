/** `pairs`: answers judged, minimally edited and verified. */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import { markFolder } from '../data/files.js'
import type { Pair } from '../data/records.js'
import type { Endpoint, EndpointSettings, Usage } from '../endpoint/index.js'
import { DataError, EndpointError } from '../errors.js'
import { alone } from '../ranks/ranks.js'
import { seatOf } from '../ranks/seat.js'
import { checkTree, configError, type Locate } from '../settings/file.js'
import type { Tree } from '../settings/source.js'
import { counting, defineStage, type StageContext } from '../stage/index.js'
import { announceRanks, forgetFound, splitWork } from '../stage/split.js'
import { counted } from '../text/plural.js'
import { outputFiles } from './files.js'
import { modeProblem } from './mode.js'
import type { PerplexityGap, SideLogprobs } from './perplexity.js'
import type { PairReport, Perplexity } from './run.js'
import { type PairsSettings, pairsSettings } from './settings.js'

/** What the command says of a run. */
export interface PairsResult {
  report: PairReport
  files: string[]
  /** Requests that were sent now; the others' replies were known. */
  sent: number
}

export const pairsStage = defineStage({
  name: 'pairs',
  summary: 'Make preference pairs from answers: judge, edit minimally, verify',
  settings: pairsSettings,
  check,
  takes: { samples: 'samples', responses: 'responses', policyAdapter: 'adapter' },
  eachRound: true,
  byRank: true,
  out: { setting: 'out', name: 'pairs.jsonl' },
  makes: ({ out }) => ({ pairs: out, pairsReport: outputFiles(out).report }),
  leaves: ({ out }) => [out, outputFiles(out).report],
  async unfinished({ out }) {
    const { report } = outputFiles(out)
    const failures = existsSync(report) ? failuresOf(JSON.parse(await readFile(report, 'utf8'))) : 0
    return failures === 0 ? undefined : `${counted(failures, 'request')} failed`
  },
  ignores: ({ policy, endpoint }) => [
    ...(policy ? [] : ['device', 'policyAdapter']),
    ...(endpoint ? ['provider'] : []),
  ],
  async run(settings, context) {
    const { openEndpoint } = await import('../endpoint/index.js')
    const { buildPairs, EndpointProvider, PhantomProvider, RulesProvider } = await import('./index.js')
    const { samples, responses, out, mode, seed, policy, provider, endpoint, judge } = settings
    const { wrongSentences, logprobFloor } = settings
    announceRanks(context)
    // What has been asked for is not paid for when the rest has failed.
    const failed = new AbortController()
    const signal = context.signal ? AbortSignal.any([context.signal, failed.signal]) : failed.signal
    // Replies are kept by their content, so what was paid for is good in any later run.
    const cache = settings.cache ?? `${out}.cache`
    const endpoints: Endpoint[] = []
    const open = async (server: EndpointSettings) => {
      const onLog = (line: string): void => context.progress.log(line)
      const opened = await openEndpoint(server, { cache, signal: failed.signal, stop: context.signal, onLog })
      endpoints.push(opened)
      return new EndpointProvider(opened)
    }
    try {
      const { report, files } = await buildPairs({
        samples,
        responses,
        out,
        mode,
        seed,
        wrongSentences,
        logprobFloor,
        provider: endpoint ? await open(endpoint) : new { rules: RulesProvider, phantom: PhantomProvider }[provider](),
        blindJudge: judge ? await open(judge) : null,
        signal,
        ranks: context.ranks,
        // Enough answers under way to keep both servers busy.
        concurrency: 2 * Math.max(endpoint?.concurrency ?? 1, judge?.concurrency ?? 1),
        measure: policy === undefined ? undefined : (pairs, root) => perplexity(pairs, root, policy, settings, context),
        usage: endpoints.length > 0 ? () => sumUsage(endpoints) : undefined,
        leftOut: () => [...new Set(endpoints.flatMap(({ leftOut }) => [...leftOut]))],
        onProgress: counting(context.progress, 'answers'),
      })
      if (policy !== undefined && (context.ranks ?? alone).rank === 0) await forgetFound(perplexityOf(out))
      const { answers, pairs, byRejection } = report.statistics
      const unpaid = byRejection.budget ?? 0
      const failures = byRejection.endpoint_failed ?? 0
      const unheard = failures > 0 ? ` (${counted(failures, 'request')} failed)` : ''
      return {
        interrupted: false,
        summary: `${counted(pairs, 'pair')} from ${counted(answers, 'answer')}; the rest${unheard}: ${files.rejected}`,
        report: { report, files: Object.values(files), sent: endpoints.reduce((sum, { sent }) => sum + sent, 0) },
        problem:
          unpaid > 0
            ? new EndpointError(`${counted(unpaid, 'answer was', 'answers were')} not judged: the budget is spent`, {
                hint: 'Raise the budget and run the same command again: what was answered is kept.',
              })
            : pairs === 0
              ? new DataError(`none of ${answers} answers became a pair`, {
                  hint: `The reasons are in ${files.report}.`,
                })
              : undefined,
      }
    } catch (error) {
      await Promise.all(endpoints.map((each) => each.settle()))
      failed.abort(error)
      throw error
    }
  },
})

/** What ranks measured lies beside it until the pairs are written. */
const perplexityOf = (out: string): string => `${out}.perplexity`

const counts = z.looseObject({
  statistics: z.looseObject({ byRejection: z.looseObject({ endpoint_failed: z.number() }) }),
})

/** Answers that a server could not judge. */
const failuresOf = (report: unknown): number =>
  counts.safeParse(report).data?.statistics.byRejection.endpoint_failed ?? 0
function check(tree: Tree, locate: Locate): PairsSettings {
  const settings = checkTree(pairsSettings, tree, locate)
  const message = modeProblem(settings.mode, settings.logprobFloor)
  if (message === undefined) return settings
  throw configError([{ path: ['mode'], message }], locate)
}

/** Of both sides under the model that is to be trained, which is opened once there are pairs. Rank 0 has the numbers. */
async function perplexity(
  pairs: readonly Pair[],
  imageRoot: string,
  policy: string,
  { policyAdapter, device, out }: Pick<PairsSettings, 'policyAdapter' | 'device' | 'out'>,
  { signal, progress, native, ranks = alone }: StageContext,
): Promise<Perplexity> {
  const { openEngine } = await import('../engine/engine.js')
  const { Chat } = await import('../text/chat.js')
  const { gapOf, sideLogprobs } = await import('./perplexity.js')
  const adapter = policyAdapter ?? null
  const marks = [await markFolder(policy), adapter && (await markFolder(adapter))]
  const seat = await seatOf({ device, threads: 0 }, ranks, native)
  const spec = { model: policy, adapter, device: seat.device, threads: seat.threads }
  progress.start('perplexity', pairs.length, 'pairs')
  const onProgress = (done: number): void => progress.update(done)
  let gap: PerplexityGap | undefined
  await splitWork<Pair, SideLogprobs, null>(ranks, {
    ...{ what: 'perplexity', output: perplexityOf(out), signal, onProgress, lasting: true },
    items: () => pairs,
    keyOf: ({ prompt, chosen, rejected, images }) => [marks, prompt, chosen, rejected, images],
    groupOf: ({ images, id }) => images.map(({ sha256 }) => sha256).join() || id,
    async *work(open, stop) {
      await using engine = await openEngine(spec, { native })
      yield* sideLogprobs(engine, await Chat.load(policy, engine.info), open, imageRoot, { signal: stop })
    },
    async finish(found) {
      gap = await gapOf(found, onProgress)
      return null
    },
  })
  return { model: policy, ...(gap ?? { chosen: 0, rejected: 0, chosenIsLikelier: 0, logprobs: [] }) }
}

function sumUsage(endpoints: readonly Endpoint[]): Usage {
  const sum: Usage = { requests: 0, promptTokens: 0, completionTokens: 0, cost: 0 }
  for (const { usage } of endpoints) for (const name of Object.keys(sum) as (keyof Usage)[]) sum[name] += usage[name]
  return { ...sum, cost: Number(sum.cost.toFixed(6)) }
}
