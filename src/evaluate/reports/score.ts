/** Reports held against their references: by a GREEN model, by word overlap, and by scores of other programs. */

import type { Sample } from '../../data/records.js'
import { EmptyReply, type EndpointInput, openEndpoint, RequestError } from '../../endpoint/index.js'
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

/** The report, its reference and word overlap; nothing of GREEN yet. */
export function reportRecord(
  { id, images, answer }: Pick<Sample, 'id' | 'images' | 'answer'>,
  { system, text, failure }: Prediction,
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
    failure,
    parity: null,
    strict: null,
    scores: { bleu1, bleu2, bleu3, bleu4, rougeL: rougeL(words), ...imported },
  }
}

/**
 * Has a model count the errors of each report. A request that fails is a failure and no reading; an empty reply is unreadable.
 * @param texts reference and candidate of each record, in order.
 * @throws {EndpointError} when no request can succeed or the budget is spent; what was paid for is kept.
 */
export async function askGreen(
  records: readonly ReportRecord[],
  texts: readonly { reference: string; candidate: string }[],
  { endpoint: settings, prompt, cache }: GreenRequest,
  { signal, progress }: Pick<StageContext, 'signal' | 'progress'>,
): Promise<{ records: ReportRecord[]; cost: number }> {
  const left = new AbortController()
  const both = signal ? AbortSignal.any([signal, left.signal]) : left.signal
  const endpoint = await openEndpoint(settings, { cache, signal: both, onLog: (line) => progress.log(line) })
  progress.start('GREEN', records.length, 'reports')
  let done = 0
  const ask = async (record: ReportRecord, { reference, candidate }: (typeof texts)[number]): Promise<ReportRecord> => {
    // What was never said cannot be compared; it has a failure already.
    if (record.failure !== null) return record
    const read = await replyTo(prompt.request(cutReport(reference).text, cutReport(candidate).text))
    progress.update(++done)
    return { ...record, ...read }
  }
  const replyTo = async (
    request: Parameters<typeof endpoint.ask>[0],
  ): Promise<Pick<ReportRecord, 'raw' | 'failure' | 'strict' | 'parity'>> => {
    try {
      const { content, finishReason } = await endpoint.ask(request)
      return reading(content, finishReason)
    } catch (error) {
      if (error instanceof EmptyReply) return reading('', null)
      if (error instanceof RequestError) return { raw: null, failure: error.message, strict: null, parity: null }
      throw error
    }
  }
  try {
    const read = await Promise.all(records.map((record, i) => ask(record, texts[i])))
    signal?.throwIfAborted()
    return { records: read, cost: endpoint.usage.cost }
  } finally {
    left.abort()
  }
}

function reading(raw: string, finish: string | null): Pick<ReportRecord, 'raw' | 'failure' | 'strict' | 'parity'> {
  return { raw, failure: null, strict: readGreen(raw, finish), parity: readGreenParity(raw) }
}
