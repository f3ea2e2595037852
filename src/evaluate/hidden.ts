/** Whether answers need the evidence: the questions whose lesion has a mask, asked again with the lesion hidden. */
import { join, relative, resolve, sep } from 'node:path'
import { z } from 'zod'
import { corruptImage, recordSeed } from '../corrupt/index.js'
import { type Mask, maskHash } from '../corrupt/masks/mask.js'
import { moveMask } from '../corrupt/masks/move.js'
import { MaskSources } from '../corrupt/sources.js'
import { sha256, writeFileAtomic } from '../data/files.js'
import { decodeReferenced, encodePng } from '../data/images.js'
import { type ImageRef, imageRef, type Pair, type Sample } from '../data/records.js'
import { isOfRecord, throwIfAborted } from '../errors.js'
import { clusteredMean, countPaired, type Interval, pairedDifference } from '../statistics/index.js'
import { compareRounds, type GroupComparison, type JudgedAnswer } from './accuracy.js'
import { writeMask } from './grounding.js'
import { type HidingMethod, isNoise } from './hiding.js'

/** How lesions are hidden, and where their masks lie. */
export interface HidingRequest {
  /** Each asks all questions again. */
  methods: readonly HidingMethod[]
  /** Of the noise, in grey levels; not read for black. */
  sigma: number
  /** Manifest or folder of masks, as `corrupt` reads them. */
  masks?: string
  maskRoot?: string
  seed: number
}

/** A question about one image that has a mask of its lesion. */
export interface LesionQuestion {
  sample: Sample
  mask: Mask
  /** Where it was written, relative to the folder of the evaluation. */
  maskPath: string
}

const answer = z.strictObject({ text: z.string(), correct: z.boolean(), decided: z.boolean() })

/** One line of hidden.jsonl; paths are relative to its folder. */
export const hiddenAnswers = z.strictObject({
  method: z.string(),
  sampleId: z.string(),
  question: z.string(),
  reference: z.string(),
  image: imageRef,
  twin: imageRef,
  /** PNG of the image's size, white inside. */
  mask: z.string(),
  visible: z.strictObject({ before: answer, after: answer }),
  hidden: z.strictObject({ before: answer, after: answer }),
})

export type HiddenAnswers = z.output<typeof hiddenAnswers>

/** A change with its 95 % interval. */
type Difference = Interval & { value: number }

/** What hiding the lesions does to accuracy. */
export interface HiddenResults {
  method: HidingMethod
  /** 0 for a method without noise. */
  sigma: number
  /** The two rounds on these questions with the lesion in view, and with it hidden. */
  visible: GroupComparison[]
  hidden: GroupComparison[]
  /** How far accuracy falls when the lesion is hidden. A model that answers from it alone falls to chance. */
  fall: { before: Difference; after: Difference; change: Difference }
}

/**
 * The questions about one image whose concept is in it and has a mask; writes the masks into `masks/` of a folder.
 * One whose image or mask cannot be read is left out.
 * @param onFailure is told which, and why.
 */
export async function lesionQuestions(
  samples: readonly Sample[],
  { methods, masks, maskRoot }: HidingRequest,
  { imageRoot, out, signal }: { imageRoot: string; out: string; signal?: AbortSignal },
  onFailure: (reason: string) => void,
): Promise<LesionQuestion[]> {
  const single = samples.filter(({ task, images }) => task === 'vqa' && images.length === 1)
  const images = single.map((sample) => sample.images[0])
  const sources = await MaskSources.open({ masks, maskRoot, resizeMasks: false }, imageRoot, images)
  const written = new Map<string, string>()
  const questions: LesionQuestion[] = []
  for (const sample of single) {
    throwIfAborted(signal)
    const place = `sample ${sample.id}`
    try {
      const found = await sources.find(asPair(sample), 0, place)
      if (typeof found === 'string' || found.absent) continue
      await decodeReferenced(sample.images[0], imageRoot)
      const { mask } = found
      if (methods.includes('lesion-noise-elsewhere') && moveMask(mask, 0) === null) {
        onFailure(`${place}: the image has no other place for its mask`)
        continue
      }
      const maskPath = written.get(maskHash(mask)) ?? (await writeMask(mask, out))
      written.set(maskHash(mask), maskPath)
      questions.push({ sample, mask, maskPath })
    } catch (error) {
      if (!isOfRecord(error)) throw error
      onFailure(error.message.startsWith(place) ? error.message : `${place}: ${error.message}`)
    }
  }
  return questions
}

/** What a mask is chosen by. */
function asPair({ id, images, question, answer, meta }: Sample): Pair {
  const texts = { prompt: question, chosen: answer, rejected: '', edits: [] }
  return { id, sampleId: id, images, ...texts, origin: 'reference', provenance: { concept: meta.concept } }
}

/**
 * Writes the twin of each question's image into `hidden/` of a folder; questions about one lesion share it.
 * @returns the twins in the order of the questions.
 */
export async function writeTwins(
  questions: readonly LesionQuestion[],
  method: HidingMethod,
  { sigma, seed }: HidingRequest,
  { imageRoot, out, signal }: { imageRoot: string; out: string; signal?: AbortSignal },
): Promise<ImageRef[]> {
  const made = new Map<string, ImageRef>()
  const twins: ImageRef[] = []
  for (const { sample, mask } of questions) {
    throwIfAborted(signal)
    const [image] = sample.images
    const lesion = `${image.sha256} ${maskHash(mask)}`
    let twin = made.get(lesion)
    if (!twin) {
      const clean = await decodeReferenced(image, imageRoot)
      const noiseSeed = recordSeed(lesion, seed)
      const changed = method === 'lesion-noise-elsewhere' ? moveMask(mask, noiseSeed) : mask
      const { width, height, rgb } = await corruptImage(clean, method, changed, sigma, noiseSeed)
      const png = await encodePng({ width, height, rgb })
      twin = { path: `hidden/${sha256(png).slice(0, 24)}.png`, sha256: sha256(png), width, height }
      await writeFileAtomic(join(out, twin.path), png)
      made.set(lesion, twin)
    }
    twins.push(twin)
  }
  return twins
}

/** Both rounds of answers to the same questions, without the adapter and with it. */
export interface Rounds {
  before: JudgedAnswer[]
  after: JudgedAnswer[]
}

/** Both rounds twice, about the same questions in the same order: with the lesions in view, and hidden. */
export function hiddenResults(method: HidingMethod, sigma: number, visible: Rounds, hidden: Rounds): HiddenResults {
  return {
    method,
    sigma: isNoise(method) ? sigma : 0,
    visible: compareRounds(visible.before, visible.after),
    hidden: compareRounds(hidden.before, hidden.after),
    fall: {
      before: fallOf(visible.before, hidden.before),
      after: fallOf(visible.after, hidden.after),
      change: changeOfFall(visible, hidden),
    },
  }
}

function fallOf(visible: readonly JudgedAnswer[], hidden: readonly JudgedAnswer[]): Difference {
  const right = (answers: readonly JudgedAnswer[]) => answers.map(({ correct }) => correct)
  return pairedDifference(countPaired(right(hidden), right(visible)))
}

function changeOfFall(visible: Rounds, hidden: Rounds): Difference {
  const fall = (round: keyof Rounds, i: number) => Number(visible[round][i].correct) - Number(hidden[round][i].correct)
  const changes = visible.after.map(({ imageId }, i) => ({
    value: fall('after', i) - fall('before', i),
    cluster: imageId,
  }))
  const { value, low, high } = clusteredMean(changes)
  return { value, low, high }
}

/** Lines of hidden.jsonl. */
export function hiddenLines(
  method: HidingMethod,
  questions: readonly LesionQuestion[],
  twins: readonly ImageRef[],
  { visible, hidden }: { visible: Rounds; hidden: Rounds },
  { imageRoot, out }: { imageRoot: string; out: string },
): HiddenAnswers[] {
  const short = ({ text, correct, decided }: JudgedAnswer) => ({ text, correct, decided })
  const both = ({ before, after }: Rounds, i: number) => ({ before: short(before[i]), after: short(after[i]) })
  return questions.map(({ sample: { id: sampleId, question, answer: reference, images }, maskPath: mask }, i) => {
    const path = relative(resolve(out), resolve(imageRoot, images[0].path)).split(sep).join('/')
    const about = { method, sampleId, question, reference, image: { ...images[0], path }, twin: twins[i], mask }
    return { ...about, visible: both(visible, i), hidden: both(hidden, i) }
  })
}
