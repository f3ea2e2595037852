/** A language model looks at the answers that the rules leave to it, and perhaps a second one at some of them. */
import { type EndpointInput, openEndpoint } from '../../endpoint/index.js'
import type { StageContext } from '../../stage/stage.js'
import type { VerdictRecord } from '../records.js'
import type { JudgeAbout } from '../results.js'
import { LanguageModelJudge } from './language-model.js'
import type { JudgeProtocolName } from './protocols.js'
import { isForJudge, type JudgeOn, judgedBy, sampleForSecond } from './select.js'

/** Which models judge, and what they look at. */
export interface JudgeRequest {
  endpoint: EndpointInput
  on: JudgeOn
  protocol: JudgeProtocolName
  /** Another model, for agreement. */
  second?: EndpointInput
  /** So many answers are shown to the second. */
  secondSample: number
  seed: number
  /** Folder of paid replies: nothing is paid for twice. */
  cache: string
}

/** The verdicts with those of the judges in place. */
export interface JudgedVerdicts {
  records: VerdictRecord[]
  judge: JudgeAbout
  second: JudgeAbout | null
}

/**
 * Asks for the verdicts that are wanted, several at a time.
 * @throws {EndpointError} when no request can succeed or the budget is spent; what was paid for is kept.
 */
export async function askJudges(
  records: readonly VerdictRecord[],
  request: JudgeRequest,
  context: Pick<StageContext, 'signal' | 'progress'>,
): Promise<JudgedVerdicts> {
  const wanted = records.filter((record) => isForJudge(record, request.on))
  const first = await askAll(wanted, request.endpoint, 'judge', request, context)
  const judged = records.map((record) => {
    const verdict = first.verdicts.get(keyOf(record))
    return verdict ? judgedBy(record, verdict) : record
  })
  if (!request.second) return { records: judged, judge: first.about, second: null }
  const sample = sampleForSecond(judged, request.secondSample, request.seed)
  const second = await askAll(sample, request.second, 'second judge', request, context)
  return {
    records: judged.map((record) => ({ ...record, second: second.verdicts.get(keyOf(record)) ?? null })),
    judge: first.about,
    second: second.about,
  }
}

const keyOf = ({ system, sampleId, k }: VerdictRecord): string => JSON.stringify([system, sampleId, k])

async function askAll(
  records: readonly VerdictRecord[],
  settings: EndpointInput,
  title: string,
  { protocol, cache }: JudgeRequest,
  { signal, progress }: Pick<StageContext, 'signal' | 'progress'>,
) {
  // Whatever ends the run ends the requests under way.
  const left = new AbortController()
  const both = signal ? AbortSignal.any([signal, left.signal]) : left.signal
  const endpoint = await openEndpoint(settings, { cache, signal: both, onLog: (line) => progress.log(line) })
  const judge = new LanguageModelJudge(endpoint, protocol)
  progress.start(title, records.length, 'answers')
  let done = 0
  try {
    const verdicts = await Promise.all(
      records.map(async (record) => {
        const { question, reference, said } = record
        const verdict = await judge.judge({ question, reference, answer: said })
        progress.update(++done)
        return [keyOf(record), verdict] as const
      }),
    )
    signal?.throwIfAborted()
    const count = (wanted: string): number => verdicts.filter(([, { verdict }]) => verdict === wanted).length
    const about: JudgeAbout = {
      model: endpoint.settings.model,
      protocol,
      promptSha256: judge.promptSha256,
      date: new Date().toISOString().slice(0, 10),
      judged: records.length,
      unreadable: count('unreadable'),
      failed: count('failed'),
      cost: endpoint.usage.cost,
    }
    return { verdicts: new Map(verdicts), about }
  } finally {
    left.abort()
  }
}
