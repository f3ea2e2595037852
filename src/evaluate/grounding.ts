/** Whether the decisive words rest on the lesion: attention before and after training, held against masks. */

import { join, relative, resolve, sep } from 'node:path'
import { z } from 'zod'
import { type Mask, maskHash } from '../corrupt/masks/mask.js'
import { maskPng } from '../corrupt/masks/picture.js'
import { type FoundMask, MaskSources } from '../corrupt/sources.js'
import { removeTemporaries, writeFileAtomic } from '../data/files.js'
import { imageRef, type Pair, type Response, type Sample } from '../data/records.js'
import { isOfRecord, throwIfAborted } from '../errors.js'
import { hashNumber } from '../pairs/choice.js'
import { constructPair, type Provider } from '../pairs/index.js'
import { type AttentionMap, attentionRatio, type ProbedModel, probeAttention } from './attention.js'
import type { VerdictRecord } from './records.js'
import { isRight } from './verdicts.js'

/** Which answers are probed for attention, and where their masks lie. */
export interface GroundingRequest {
  /** At most so many are probed. */
  questions: number
  /** Who finds the decisive words: those that it would change to make the answer wrong. */
  provider: Provider
  /** Manifest or folder of masks, as `corrupt` reads them; masks that lie beside the images are found without it. */
  masks?: string
  maskRoot?: string
  seed: number
}

/** Where maps go, and who hears of progress and of questions that cannot be probed. */
export interface ProbeContext {
  out: string
  signal?: AbortSignal
  onProgress: (done: number) => void
  onFailure: (reason: string) => void
}

/** A held-out question with its judged answers, without the adapter and with it. */
export interface AnsweredQuestion {
  sample: Sample
  before: VerdictRecord
  after: VerdictRecord
}

const map = z.strictObject({
  rows: z.number().int().positive(),
  columns: z.number().int().positive(),
  values: z.array(z.number()),
})

/** One line of attention.jsonl; paths are relative to its folder. */
export const probedQuestion = z.strictObject({
  sampleId: z.string(),
  question: z.string(),
  /** What both models read. */
  answer: z.string(),
  /** The decisive words in it; attention is that of the position before their first token. */
  span: z.tuple([z.number().int(), z.number().int()]),
  image: imageRef,
  /** PNG of the image's size, white inside. */
  mask: z.string(),
  before: map,
  after: map,
  /** Attention inside the mask over the mask's share of the image. */
  ratios: z.strictObject({ before: z.number(), after: z.number() }),
  /** The answer was wrong before training. */
  mended: z.boolean(),
})

export type ProbedQuestion = z.output<typeof probedQuestion>

/**
 * Probes questions about one image that the trained model answers rightly and whose lesion has a mask, in an order drawn
 * from the seed. The decisive words and the mask are those of the pair that the answer would become.
 */
export async function probeGrounding(
  model: ProbedModel,
  answered: readonly AnsweredQuestion[],
  { questions, provider, masks, maskRoot, seed }: GroundingRequest,
  { out, signal, onProgress, onFailure }: ProbeContext,
): Promise<ProbedQuestion[]> {
  const { imageRoot } = model
  const candidates = answered
    .filter(({ sample, after }) => isRight(after) && sample.task === 'vqa' && sample.images.length === 1)
    .map((question) => ({ question, rank: hashNumber('attention', String(seed), question.sample.id) }))
    .sort((a, b) => a.rank - b.rank)
  const images = candidates.map(({ question }) => question.sample.images[0])
  await removeTemporaries(join(out, 'masks'))
  const sources = await MaskSources.open({ masks, maskRoot, resizeMasks: false }, imageRoot, images)
  const probed: ProbedQuestion[] = []
  for (const { question } of candidates) {
    if (probed.length === questions) break
    throwIfAborted(signal)
    const place = `sample ${question.sample.id}`
    try {
      const pair = await pairOf(question, provider, seed)
      const found = pair && (await sources.find(pair, 0, place))
      if (!pair || typeof found === 'string' || found === null || found.absent) continue
      probed.push(await probe(model, question, pair, found, out))
    } catch (error) {
      if (!isOfRecord(error)) throw error
      onFailure(error.message.startsWith(place) ? error.message : `${place}: ${error.message}`)
      continue
    }
    onProgress(probed.length)
  }
  return probed
}

async function pairOf({ sample, after }: AnsweredQuestion, provider: Provider, seed: number): Promise<Pair | null> {
  const response: Response = {
    sampleId: sample.id,
    model: '',
    adapter: null,
    prompt: sample.question,
    text: after.text ?? '',
    tokens: [],
    sampling: {},
    seed,
  }
  const context = { provider, blindJudge: null, mode: 'on-policy' as const, seed }
  const { pair } = await constructPair({ id: sample.id, sample, response }, context)
  return pair?.origin === 'counterfactual' ? pair : null
}

async function probe(
  model: ProbedModel,
  { sample, before, after }: AnsweredQuestion,
  pair: Pair,
  { mask }: FoundMask,
  out: string,
): Promise<ProbedQuestion> {
  const [image] = sample.images
  const answer = after.text ?? ''
  const span = pair.edits[0].chosen
  const maps = await probeAttention(model, { question: sample.question, image, answer, span })
  const ratio = (heat: AttentionMap): number => attentionRatio(heat, mask.inside, mask.width, mask.height)
  const path = await writeMask(mask, out)
  return {
    sampleId: sample.id,
    question: sample.question,
    answer,
    span,
    mask: path,
    image: { ...image, path: relative(resolve(out), resolve(model.imageRoot, image.path)).split(sep).join('/') },
    before: { ...maps.before, values: [...maps.before.values] },
    after: { ...maps.after, values: [...maps.after.values] },
    ratios: { before: ratio(maps.before), after: ratio(maps.after) },
    mended: !isRight(before),
  }
}

/** Writes a mask that results name; returns its path in the folder. */
export async function writeMask(mask: Mask, out: string): Promise<string> {
  const path = `masks/${maskHash(mask).slice(0, 24)}.png`
  await writeFileAtomic(join(out, path), await maskPng(mask))
  return path
}

/** Attention ratios (`attentionRatio`) averaged over questions. */
export interface MeanRatios {
  count: number
  before: number
  after: number
  /** Mean of after - before over the questions, and its standard error. */
  change: number
  standardError: number
}

/** Null for no questions. */
export function meanRatios(probed: readonly ProbedQuestion[]): MeanRatios | null {
  const count = probed.length
  if (count === 0) return null
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / count
  const changes = probed.map(({ ratios }) => ratios.after - ratios.before)
  const change = mean(changes)
  const variance = changes.reduce((sum, value) => sum + (value - change) ** 2, 0) / Math.max(1, count - 1)
  return {
    count,
    before: mean(probed.map(({ ratios }) => ratios.before)),
    after: mean(probed.map(({ ratios }) => ratios.after)),
    change,
    standardError: Math.sqrt(variance / count),
  }
}
