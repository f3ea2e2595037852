/** A language model looks at the answers that the rules leave to it, and perhaps a second one at some of them. */
import { type EndpointInput, openEndpoint } from '../../endpoint/index.js'
import { throwIfAborted } from '../../errors.js'
import type { StageContext } from '../../stage/stage.js'
import type { JudgeVerdict, VerdictRecord } from '../records.js'
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
export interface JudgedVerdicts<Prior extends VerdictRecord> {
  records: VerdictRecord[]
  priors: Prior[]
  judge: JudgeAbout
  second: JudgeAbout | null
}

/**
 * Asks for the verdicts that are wanted, several at a time.
 * @param priors verdicts on answers without the image: judged like the others, and nothing to the second judge.
 * @throws {EndpointError} when no request can succeed or the budget is spent; what was paid for is kept.
 */
export async function askJudges<Prior extends VerdictRecord>(
  records: readonly VerdictRecord[],
  priors: readonly Prior[],
  request: JudgeRequest,
  context: Pick<StageContext, 'signal' | 'progress'>,
): Promise<JudgedVerdicts<Prior>> {
  const wanted = [...records, ...priors].filter((record) => isForJudge(record, request.on))
  const first = await askAll(wanted, request.endpoint, 'judge', request, context)
  const judge = <T extends VerdictRecord>(record: T): T => {
    const verdict = first.verdicts.get(record)
    return verdict ? judgedBy(record, verdict) : record
  }
  const [judged, judgedPriors] = [records.map(judge), priors.map(judge)]
  if (!request.second) return { records: judged, priors: judgedPriors, judge: first.about, second: null }
  const sample = sampleForSecond(judged, request.secondSample, request.seed)
  const second = await askAll(sample, request.second, 'second judge', request, context)
  return {
    records: judged.map((record) => ({ ...record, second: second.verdicts.get(record) ?? null })),
    priors: judgedPriors,
    judge: first.about,
    second: second.about,
  }
}

async function askAll(
  records: readonly VerdictRecord[],
  settings: EndpointInput,
  title: string,
  { protocol, cache }: JudgeRequest,
  { signal, progress }: Pick<StageContext, 'signal' | 'progress'>,
): Promise<{ verdicts: ReadonlyMap<VerdictRecord, JudgeVerdict>; about: JudgeAbout }> {
  // Whatever ends the run ends the requests under way; a stop that was asked for waits for them.
  const left = new AbortController()
  const onLog = (line: string): void => progress.log(line)
  const endpoint = await openEndpoint(settings, { cache, signal: left.signal, stop: signal, onLog })
  const judge = new LanguageModelJudge(endpoint, protocol)
  progress.start(title, records.length, 'answers')
  let done = 0
  try {
    const verdicts = await Promise.all(
      records.map(async (record) => {
        const { question, reference, said } = record
        const verdict = await judge.judge({ question, reference, answer: said })
        progress.update(++done)
        return [record, verdict] as const
      }),
    )
    throwIfAborted(signal)
    const count = (wanted: string): number => verdicts.filter(([, { verdict }]) => verdict === wanted).length
    const about: JudgeAbout = {
      model: endpoint.settings.model,
      ...judge.serving.about(),
      protocol,
      promptSha256: judge.promptSha256,
      judged: records.length,
      unreadable: count('unreadable'),
      failed: count('failed'),
      cost: endpoint.usage.cost,
    }
    return { verdicts: new Map(verdicts), about }
  } finally {
    await endpoint.settle()
    left.abort()
  }
}
