/** From the model's own answers on the training questions to pairs with corrupted twins. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { addLesionNoise, recordSeed } from '../corrupt/index.js'
import { writeJsonl } from '../data/jsonl.js'
import type { Pair, Response } from '../data/records.js'
import { buildPair, countOutcome, emptyStatistics, type PairStatistics } from '../pairs/index.js'
import { conceptMask, counterfactual, judge, Rng, repair } from '../phantom/index.js'
import { type DemoItem, writeImage } from './dataset.js'
import type { DemoSettings } from './defaults.js'
import type { DemoFolder } from './folder.js'
import type { Update } from './stages.js'

export interface Preferences {
  pairs: Pair[]
  statistics: PairStatistics
}

/** What every pair of a run has in common. */
export interface PreferenceContext {
  folder: DemoFolder
  settings: DemoSettings
  seed: number
}

/** The same question asked several times, each with a seed of its own. */
export function repeatItems(items: readonly DemoItem[], times: number): DemoItem[] {
  return items.flatMap((item) => Array<DemoItem>(times).fill(item))
}

/** Judges, edits and corrupts; writes responses.jsonl, pairs.jsonl and the pictures they name. */
export async function makePreferences(
  items: readonly DemoItem[],
  responses: readonly Response[],
  context: PreferenceContext,
  update: Update,
): Promise<Preferences> {
  const { folder, settings } = context
  await writeJsonl(folder.responses, responses)
  const statistics = emptyStatistics()
  const pairs: Pair[] = []
  const heard = new Set<string>()
  for (const [i, response] of responses.entries()) {
    const said = `${response.sampleId}\n${response.text}`
    if (!heard.has(said)) {
      heard.add(said)
      const outcome = judgeAndEdit(
        `${response.sampleId}#${i % settings.samplesPerQuestion}`,
        items[i],
        response,
        context,
      )
      countOutcome(statistics, outcome)
      if (outcome.pair) pairs.push(await withCorruptedTwin(outcome.pair, items[i], context))
    }
    update(i + 1)
  }
  await writeJsonl(folder.pairs, pairs)
  return { pairs, statistics }
}

function judgeAndEdit(
  id: string,
  { sample, study, question }: DemoItem,
  response: Response,
  context: PreferenceContext,
) {
  const { text } = response
  return buildPair(
    {
      id,
      images: sample.images,
      prompt: sample.question,
      response,
      verdict: judge(study, question, text),
      repair: () => repair(study, question, text),
      counterfactual: () => counterfactual(study, question, text, new Rng('counterfactual', context.seed, id)),
      judge: (edited) => judge(study, question, edited),
    },
    { maxEditedShare: context.settings.maxEditedShare },
  )
}

async function withCorruptedTwin(pair: Pair, item: DemoItem, context: PreferenceContext): Promise<Pair> {
  const { study, question } = item
  const { folder, settings } = context
  const mask = conceptMask(study, question)
  const options = { sigma: settings.noiseSigma, fallbackSigma: settings.fallbackSigma }
  const noisy = addLesionNoise(study, mask, options, recordSeed(pair.id, context.seed))
  const image = await writeImage(folder, `${folder.corrupted}/${fileName(pair.id)}.png`, noisy)
  const masks = noisy.method === 'lesion-noise' ? [await writeMask(mask, item, context)] : []
  const { method, sigma, seed } = noisy
  return { ...pair, corrupted: { images: [image], method, sigma, seed, masks } }
}

/** One file for all questions of a study about one concept; writing it again would write the same bytes. */
async function writeMask(
  mask: Uint8Array,
  { study, question }: DemoItem,
  { folder }: PreferenceContext,
): Promise<string> {
  const path = `${folder.masks}/${fileName(`${study.id}-${question.concept}`)}.png`
  if (existsSync(join(folder.root, path))) return path
  const { width, height } = study
  await writeImage(folder, path, { width, height, rgb: mask.map((inside) => (inside ? 255 : 0)) })
  return path
}

/** Ids hold characters such as `#` that are a nuisance in file names. */
const fileName = (id: string) => id.replace(/[^A-Za-z0-9._-]+/g, '-')
