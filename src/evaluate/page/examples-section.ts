/** Questions on which a system and the baseline differ, with image and texts. */
import { FireError } from '../../errors.js'
import { type Html, html } from '../../page/html.js'
import { said } from '../../page/numbers.js'
import { drawPicture, loadPicture, type Picture } from '../../page/picture.js'
import { spread } from '../../page/spread.js'
import { counted } from '../../settings/plural.js'
import type { VerdictRecord } from '../records.js'
import type { EvaluationFolder } from './folder.js'
import { systemName } from './systems.js'
import { cut } from './words.js'

/** One question under two systems. */
interface Differing {
  was: VerdictRecord
  is: VerdictRecord
}

const shown = 6

/** Gains and losses in the proportion in which they occurred, evenly spaced over the questions. */
function choose({ results: { comparisons }, verdicts }: EvaluationFolder): Differing[] {
  const [primary] = comparisons
  if (!primary) return []
  const firsts = verdicts.filter(({ k }) => k === 0)
  const others = new Map(firsts.flatMap((each) => (each.system === primary.system ? [[each.sampleId, each]] : [])))
  const isRight = ({ verdict }: VerdictRecord): boolean => verdict === 'correct'
  const all = firsts.flatMap((was): Differing[] => {
    const is = was.system === primary.baseline ? others.get(was.sampleId) : undefined
    return is && isRight(was) !== isRight(is) ? [{ was, is }] : []
  })
  const [gains, losses] = [all.filter(({ is }) => isRight(is)), all.filter(({ was }) => isRight(was))]
  const of = Math.round((shown * gains.length) / Math.max(1, all.length))
  return [...spread(gains, of), ...spread(losses, shown - of)]
}

/** Null where no two systems differ. Images that are not there, or are others, are left out and counted. */
export async function examplesSection(folder: EvaluationFolder): Promise<Html | null> {
  const chosen = choose(folder)
  if (chosen.length === 0) return null
  const pictures = await Promise.all(chosen.map(({ was }) => pictureOf(folder, was.sampleId)))
  const missing = pictures.filter((picture) => picture === 'missing').length
  return html`<section>
    <h2>Examples where systems differ</h2>
    <p class="note">Drawn evenly from the questions on which one of the two is right, in the proportion in which they occurred. They show what
    happened, not how often.${missing > 0 && ` ${counted(missing, 'image')} left out: not found below ${folder.results.inputs.imageRoot}, or changed since.`}</p>
    ${chosen.map((each, i) => drawExample(folder, each, pictures[i]))}
  </section>`
}

/** Null where the question has no image. */
async function pictureOf(
  { samples, imageRoot }: EvaluationFolder,
  sampleId: string,
): Promise<Picture | 'missing' | null> {
  const image = samples.get(sampleId)?.images[0]
  if (!image) return null
  return await loadPicture(image, imageRoot, null).catch((error) => {
    if (error instanceof FireError) return 'missing' as const
    throw error
  })
}

function drawExample({ results }: EvaluationFolder, { was, is }: Differing, picture: Picture | 'missing' | null): Html {
  const answer = (record: VerdictRecord) => {
    const isRight = record.verdict === 'correct'
    return html`<div class="answer ${isRight ? 'chosen' : 'rejected'}">
      <span class="role">${systemName(results, record.system)} · <span class="${isRight ? 'gain-text' : 'loss-text'}">${record.verdict}</span>, by ${record.by}</span>
      ${said(cut(record.text ?? '', 1500))}</div>`
  }
  return html`<div class="example">
    <div class="pictures"><figure>${
      picture && picture !== 'missing'
        ? drawPicture(picture, 'image')
        : html`<div class="no-picture">${picture === 'missing' ? 'image not found' : 'no image'}</div>`
    }<figcaption><bdi>${was.sampleId}</bdi></figcaption></figure></div>
    <div><p class="question">${said(was.question)}</p><p class="small">Reference: ${said(cut(was.reference, 600))}</p>
      ${answer(was)}${answer(is)}</div>
  </div>`
}
