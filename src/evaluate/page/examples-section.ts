/** Questions on which a system and the baseline differ, with image and texts. */
import { FireError } from '../../errors.js'
import { type Html, html } from '../../page/html.js'
import { said } from '../../page/numbers.js'
import { drawPicture, loadPicture, type Picture } from '../../page/picture.js'
import { spread } from '../../page/spread.js'
import { counted } from '../../text/plural.js'
import type { VerdictRecord } from '../records.js'
import type { EvaluationFolder } from './folder.js'
import { systemName } from './systems.js'
import { cut } from './words.js'

const shown = 6

/**
 * Verdicts of all systems on questions where one of them is right and another is not: those that the baseline had wrong and those that
 * it had right, in the proportion in which they occurred, evenly spaced.
 */
function choose({ results: { baseline }, verdicts }: EvaluationFolder): VerdictRecord[][] {
  const byQuestion = new Map<string, VerdictRecord[]>()
  for (const record of verdicts) {
    if (record.k > 0) continue
    const others = byQuestion.get(record.sampleId)
    if (others) others.push(record)
    else byQuestion.set(record.sampleId, [record])
  }
  const isRight = ({ verdict }: VerdictRecord): boolean => verdict === 'correct'
  const all = [...byQuestion.values()].filter((records) => new Set(records.map(isRight)).size > 1)
  const hadRight = (records: VerdictRecord[]) => records.some((each) => each.system === baseline && isRight(each))
  const wrong = all.filter((records) => !hadRight(records))
  const ofWrong = Math.round((shown * wrong.length) / Math.max(1, all.length))
  return [...spread(wrong, ofWrong), ...spread(all.filter(hadRight), shown - ofWrong)]
}

/** Null where no two systems differ. Images that are not there, or are others, are left out and counted. */
export async function examplesSection(folder: EvaluationFolder): Promise<Html | null> {
  const chosen = choose(folder)
  if (chosen.length === 0) return null
  const pictures = await Promise.all(chosen.map(([{ sampleId }]) => pictureOf(folder, sampleId)))
  const missing = pictures.filter((picture) => picture === 'missing').length
  return html`<section>
    <h2>Examples where systems differ</h2>
    <p class="note">Drawn evenly from the questions on which one system is right and another is not, in the proportion in which they occurred. They show what
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

function drawExample(
  { results }: EvaluationFolder,
  records: readonly VerdictRecord[],
  picture: Picture | 'missing' | null,
): Html {
  const [{ sampleId, question, reference }] = records
  const answer = (record: VerdictRecord) => {
    const isRight = record.verdict === 'correct'
    return html`<div class="answer ${isRight ? 'chosen' : 'rejected'}">
      <span class="role">${systemName(results, record.system)} · <span class="${isRight ? 'gain-text' : 'loss-text'}">${record.verdict}</span>, by ${record.by}${record.by === 'rule' && record.strength === 'weak' && ', weak'}</span>
      ${said(cut(record.text ?? '', 1500))}</div>`
  }
  return html`<div class="example">
    <div class="pictures"><figure>${
      picture && picture !== 'missing'
        ? drawPicture(picture, 'image')
        : html`<div class="no-picture">${picture === 'missing' ? 'image not found' : 'no image'}</div>`
    }<figcaption><bdi>${sampleId}</bdi></figcaption></figure></div>
    <div><p class="question">${said(question)}</p><p class="small">Reference: ${said(cut(reference, 600))}</p>
      ${records.map(answer)}</div>
  </div>`
}
