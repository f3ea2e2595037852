/** Reports held against their references: by a GREEN model, by word overlap, and by scores of other programs. */

import type { Sample } from '../../data/records.js'
import { EmptyReply, type EndpointInput, openEndpoint, type Reply, RequestError } from '../../endpoint/index.js'
import { type ServedBy, Serving } from '../../endpoint/serving.js'
import { throwIfAborted } from '../../errors.js'
import type { StageContext } from '../../stage/stage.js'
import type { Prediction, ReportRecord } from '../records.js'
import { readGreen } from './green.js'
import { readGreenParity } from './green-parity.js'
import { bleu, reportWords, rougeL } from './ngrams.js'
import { cutReport, type GreenPrompt } from './prompt.js'

/** Which model counts errors; none is asked without it. */
export interface GreenRequest {
  endpoint: EndpointInput
  prompt: GreenPrompt
  /** Folder of paid replies. */
  cache: string
}

/** The model that counted errors. */
export interface GreenAbout extends ServedBy {
  /** As it was asked for; `servedAs` is what the server called itself. */
  model: string
  promptSha256: string
  /** US dollars, replies of earlier runs included. */
  cost: number
  /** Most tokens of prompt and reply together, or else of the reply alone: a reply that is cut there is unreadable. */
  totalTokens: number | null
  replyTokens: number | null
}

/** The report, its reference and word overlap; nothing of GREEN yet. */
export function reportRecord(
  { id, images, answer }: Pick<Sample, 'id' | 'images' | 'answer'>,
  { system, text, failure }: Prediction,
  cider: number,
  imported: Readonly<Record<string, number>> = {},
): ReportRecord {
  const [reference, candidate] = [cutReport(answer), cutReport(text ?? '')]
  const words = { reference: reportWords(answer), candidate: reportWords(text ?? '') }
  const [bleu1, bleu2, bleu3, bleu4] = bleu([words])
  return {
    system,
    sampleId: id,
    imageId: images[0]?.sha256 ?? id,
    words: [reference.words, candidate.words],
    cut: [reference.cut, candidate.cut],
    raw: null,
    servedAs: null,
    date: null,
    failure,
    parity: null,
    strict: null,
    scores: { bleu1, bleu2, bleu3, bleu4, rougeL: rougeL(words), ciderD: cider, ...imported },
  }
}

/** A report, and what it is made of. */
export interface ReportWithTexts {
  record: ReportRecord
  reference: string
  candidate: string
}

/**
 * Has a model count the errors of each report. A request that fails is a failure and no reading; an empty reply is unreadable.
 * @throws {EndpointError} when no request can succeed or the budget is spent; what was paid for is kept.
 */
export async function askGreen(
  reports: readonly ReportWithTexts[],
  { endpoint: settings, prompt, cache }: GreenRequest,
  { signal, progress }: Pick<StageContext, 'signal' | 'progress'>,
): Promise<{ reports: ReportWithTexts[]; about: GreenAbout }> {
  const left = new AbortController()
  const onLog = (line: string): void => progress.log(line)
  const endpoint = await openEndpoint(settings, { cache, signal: left.signal, stop: signal, onLog })
  const serving = new Serving()
  progress.start('GREEN', reports.length, 'reports')
  let done = 0
  const ask = async (report: ReportWithTexts): Promise<ReportWithTexts> => {
    const { record, reference, candidate } = report
    // What was never said cannot be compared; it has a failure already.
    if (record.failure !== null) return report
    const read = await replyTo(prompt.request(cutReport(reference).text, cutReport(candidate).text))
    progress.update(++done)
    return { ...report, record: { ...record, ...read } }
  }
  const replyTo = async (request: Parameters<typeof endpoint.ask>[0]): Promise<ReadReport> => {
    try {
      const reply = await endpoint.ask(request)
      serving.add(reply)
      return reading(reply)
    } catch (error) {
      if (error instanceof EmptyReply) return reading({ content: '', finishReason: null })
      if (error instanceof RequestError) {
        return { raw: null, servedAs: null, date: null, failure: error.message, strict: null, parity: null }
      }
      throw error
    }
  }
  try {
    const asked = await Promise.all(reports.map(ask))
    throwIfAborted(signal)
    const { settings, usage, leftOut } = endpoint
    const about = { model: settings.model, ...serving.about(), promptSha256: prompt.sha256, cost: usage.cost }
    const reply = leftOut.has('totalTokens') || !prompt.totalTokens ? settings.maxTokens : null
    return {
      reports: asked,
      about: { ...about, totalTokens: reply === null ? prompt.totalTokens : null, replyTokens: reply },
    }
  } finally {
    await endpoint.settle()
    left.abort()
  }
}

type ReadReport = Pick<ReportRecord, 'raw' | 'servedAs' | 'date' | 'failure' | 'strict' | 'parity'>

function reading({
  content: raw,
  finishReason,
  model,
  date,
}: Pick<Reply, 'content' | 'finishReason' | 'model' | 'date'>): ReadReport {
  const [strict, parity] = [readGreen(raw, finishReason), readGreenParity(raw)]
  return { raw, servedAs: model ?? null, date: date ?? null, failure: null, strict, parity }
}
