import { resolve } from 'node:path'
import type { Pair } from '../../data/records.js'
import type { Endpoint, Usage } from '../../endpoint/index.js'
import type { openEngine } from '../../engine/engine.js'
import { ConfigError } from '../../errors.js'
import type { BlindJudge, PairReport, Perplexity, Provider } from '../../pairs/index.js'
import { defineCommand } from '../command.js'
import { deviceOption } from '../device.js'
import { formatCount, formatTable } from '../format.js'
import type { Progress } from '../progress.js'
import { catchSignals } from '../signals.js'

export const pairs = defineCommand({
  usage: 'pairs',
  summary: 'Preference pairs from answers: judge, edit minimally, verify',
  options: (parser) =>
    parser
      .option('samples', { type: 'string', demandOption: true, describe: 'JSON Lines of questions with references' })
      .option('responses', { type: 'string', demandOption: true, describe: "JSON Lines of a model's answers" })
      .option('out', {
        type: 'string',
        demandOption: true,
        describe: 'JSON Lines of pairs; rejected.jsonl and pairs.report.json are written beside it',
      })
      .option('provider', {
        type: 'string',
        default: 'rules',
        describe: 'rules (offline), or the address of an OpenAI-compatible endpoint, https://…/v1',
      })
      .option('model', { type: 'string', describe: 'Model of the endpoint' })
      .option('mode', {
        choices: ['on-policy', 'reference-style', 'style-agnostic'] as const,
        default: 'on-policy' as const,
        describe: 'Which text is edited: the answer, the reference, or none (styles as they are)',
      })
      .option('judge', { type: 'string', describe: 'Address of an endpoint that checks every pair blindly' })
      .option('judge-model', { type: 'string', describe: 'Its model; default: that of --model' })
      .option('key-env', { type: 'string', default: 'OPENAI_API_KEY', describe: 'Variable that holds the key' })
      .option('judge-key-env', { type: 'string', describe: 'Variable of the judge; default: that of --key-env' })
      .option('budget', { type: 'number', describe: 'US dollars that are never exceeded, for each endpoint' })
      .option('price-in', { type: 'number', default: 0, describe: 'US dollars per million prompt tokens' })
      .option('price-out', { type: 'number', default: 0, describe: 'US dollars per million completion tokens' })
      .option('concurrency', { type: 'number', default: 4, describe: 'Requests under way at once' })
      .option('rpm', { type: 'number', default: 0, describe: 'Requests a minute; 0 = no limit' })
      .option('timeout', { type: 'number', default: 60, describe: 'Seconds for one attempt' })
      .option('retries', { type: 'number', default: 6, describe: 'Further attempts for one request' })
      .option('retry-delay', { type: 'number', default: 1, describe: 'Seconds before the first retry; doubles' })
      .option('max-tokens', { type: 'number', default: 1024, describe: 'Longest reply' })
      .option('cache', { type: 'string', describe: 'Folder of paid replies; default: <out>.cache' })
      .option('policy', { type: 'string', describe: 'Model folder; the report then has the perplexity of both sides' })
      .option('policy-adapter', { type: 'string', describe: 'Its PEFT adapter folder' })
      .option('device', deviceOption)
      .option('seed', { type: 'number', default: 42, describe: 'Decides between edits that are equally good' })
      .example('$0 pairs --samples s.jsonl --responses r.jsonl --out pairs.jsonl', 'offline, by word rules')
      .epilogue('Interrupted, the same command goes on and pays for no request twice.'),
  async run(options, { stdout, progress }) {
    const { concurrency } = options
    if (!(concurrency >= 1)) throw new ConfigError(`--concurrency is ${concurrency}; expected a number of at least 1`)
    const { openEndpoint } = await import('../../endpoint/index.js')
    const { buildPairs, EndpointProvider, RulesProvider } = await import('../../pairs/index.js')
    using stop = catchSignals((name) => progress.log(`${name}: stopping; again to leave at once`))
    const failed = new AbortController()
    const signal = AbortSignal.any([stop.signal, failed.signal])
    const endpoints: Endpoint[] = []
    const open = async (url: string, model: string | undefined, keyEnv: string) => {
      if (!model) throw new ConfigError(`${url} needs a model`, { hint: 'Give --model or --judge-model.' })
      const cache = resolve(options.cache ?? `${options.out}.cache`)
      const { retries, retryDelay, timeout, rpm, maxTokens, priceIn, priceOut } = options
      const settings = {
        ...{ url, model, keyEnv: process.env[keyEnv] ? keyEnv : null, concurrency, retries, retryDelay, timeout },
        ...{ requestsPerMinute: rpm, maxTokens, budget: options.budget ?? null, priceIn, priceOut },
      }
      const endpoint = await openEndpoint(settings, { cache, signal, onLog: (line) => progress.log(line) })
      endpoints.push(endpoint)
      return new EndpointProvider(endpoint)
    }
    const provider: Provider =
      options.provider === 'rules' ? new RulesProvider() : await open(options.provider, options.model, options.keyEnv)
    const blindJudge: BlindJudge | null =
      options.judge === undefined
        ? null
        : await open(options.judge, options.judgeModel ?? options.model, options.judgeKeyEnv ?? options.keyEnv)
    try {
      let started = false
      const result = await buildPairs({
        ...{ samples: options.samples, responses: options.responses, out: options.out, mode: options.mode },
        ...{ provider, blindJudge, seed: options.seed, signal, concurrency: 2 * concurrency },
        ...(options.policy !== undefined && { measure: measureWith(options.policy, options, progress, signal) }),
        ...(endpoints.length > 0 && { usage: () => sumUsage(endpoints) }),
        onProgress(done, total) {
          if (!started) progress.start('pairs', total, 'answers')
          started = true
          progress.update(done)
        },
      })
      progress.end()
      stdout(describe(result.report, Object.values(result.files), endpoints))
      const { byRejection } = result.report.statistics
      return byRejection.endpoint_failed || byRejection.budget ? 1 : 0
    } catch (error) {
      failed.abort(error)
      if (stop.exitCode === undefined) throw error
      progress.end('stopped')
      progress.log('Run the same command again to go on.')
      return stop.exitCode
    }
  },
})

interface PolicyOptions {
  policyAdapter?: string
  device: Parameters<typeof openEngine>[0]['device']
}

/** Perplexities under a model, which is opened once there are pairs. */
function measureWith(
  policy: string,
  { policyAdapter, device }: PolicyOptions,
  progress: Progress,
  signal: AbortSignal,
) {
  return async (made: readonly Pair[], imageRoot: string): Promise<Perplexity> => {
    const { openEngine } = await import('../../engine/engine.js')
    const { Chat } = await import('../../text/chat.js')
    const { perplexityGap } = await import('../../evaluate/index.js')
    const adapter = policyAdapter === undefined ? null : resolve(policyAdapter)
    await using engine = await openEngine({ model: resolve(policy), adapter, device })
    const chat = await Chat.load(engine.spec.model, engine.info)
    progress.start('perplexity', made.length, 'pairs')
    const onProgress = (done: number): void => progress.update(done)
    return { model: policy, ...(await perplexityGap(engine, chat, made, imageRoot, { signal, onProgress })) }
  }
}

function sumUsage(endpoints: readonly Endpoint[]): Usage {
  const sum: Usage = { requests: 0, promptTokens: 0, completionTokens: 0, cost: 0 }
  for (const { usage } of endpoints) for (const name of Object.keys(sum) as (keyof Usage)[]) sum[name] += usage[name]
  return { ...sum, cost: Number(sum.cost.toFixed(6)) }
}

function describe(report: PairReport, files: readonly string[], endpoints: readonly Endpoint[]): string {
  const { statistics, acceptance, style, perplexity, usage } = report
  const { answers, pairs: count, byOrigin, byCategory, byRejection } = statistics
  const share = (part: number) => `${((100 * part) / Math.max(1, answers)).toFixed(1)} %`
  const rows = [
    ...Object.entries(byOrigin).map(([name, number]) => [`pair: ${name}`, number, share(number)]),
    ...Object.entries(byRejection).map(([name, number]) => [name, number, share(number)]),
  ]
  const lines = [
    `${count} pairs from ${answers} answers (${(100 * acceptance).toFixed(1)} %), ${report.mode}, by ${report.provider}`,
    formatTable(['outcome', 'answers', 'share'], rows),
    `edits: ${
      Object.entries(byCategory)
        .map(([name, number]) => `${name} ${number}`)
        .join(', ') || 'none'
    }`,
  ]
  if (style) {
    const words = `${style.chosen.meanWords} and ${style.rejected.meanWords} words`
    const longer = `longer is chosen in ${(100 * style.longerIsChosen).toFixed(1)} %`
    lines.push(`style gap, chosen and rejected: ${words}, ${longer}, divergence ${style.unigramDivergence} bits a word`)
  }
  if (perplexity) {
    const { chosen, rejected, chosenIsLikelier, model } = perplexity
    const likelier = `chosen likelier in ${(100 * chosenIsLikelier).toFixed(1)} %`
    lines.push(`perplexity under ${model}: ${chosen} and ${rejected}, ${likelier}`)
  }
  if (usage) {
    const now = endpoints.reduce((sum, endpoint) => sum + endpoint.sent, 0)
    const tokens = `${formatCount(usage.promptTokens)} + ${formatCount(usage.completionTokens)} tokens`
    lines.push(`${usage.requests} requests (${now} of them now), ${tokens}, $${usage.cost}`)
  }
  return `${[...lines, ...files].join('\n')}\n`
}
