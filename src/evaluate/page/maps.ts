/** A few questions with boxes: the image, and where each model looks. */
import { FireError } from '../../errors.js'
import { type Html, html } from '../../page/html.js'
import { said } from '../../page/numbers.js'
import { drawPicture, loadPicture, type Picture } from '../../page/picture.js'
import type { GroundingMap } from '../records.js'
import type { EvaluationFolder } from './folder.js'
import { systemName } from './systems.js'
import { cut } from './words.js'

/** Null where no map was kept. */
export async function drawMaps(folder: EvaluationFolder): Promise<Html | null> {
  const byQuestion = new Map<string, GroundingMap[]>()
  for (const map of folder.grounding.maps) {
    const key = JSON.stringify([map.kind, map.sampleId])
    byQuestion.set(key, [...(byQuestion.get(key) ?? []), map])
  }
  if (byQuestion.size === 0) return null
  const questions = await Promise.all([...byQuestion.values()].map((maps) => drawQuestion(folder, maps)))
  const [{ layers }] = folder.grounding.maps
  return html`<h3 class="part">A few maps</h3>
    <p class="note">Attention of the question over that of the general prompt, mean of layers ${layers[0]} to ${layers[1]}, each over its own mean. Outlined: the
      boxes. The strongest token of a question is drawn fully in all of its maps. Questions were drawn by the seed; they show what a map is like, not how often.</p>
    ${questions}`
}

async function drawQuestion({ results, place }: EvaluationFolder, maps: readonly GroundingMap[]): Promise<Html> {
  const [{ image, boxes, question, kind, sampleId }] = maps
  const outline = boxMask(boxes, image.width, image.height)
  const picture = await loadPicture(image, place, outline).catch((error): null => {
    if (error instanceof FireError) return null
    throw error
  })
  const peak = Math.max(...maps.flatMap(({ values }) => values))
  const figure = ({ system, grid: [rows, columns], values, frame }: GroundingMap) =>
    html`<figure>${
      picture
        ? drawPicture(picture, `where ${system} looks`, { rows, columns, values, frame, peak })
        : html`<div class="no-picture">image not found</div>`
    }<figcaption>${systemName(results, system)}</figcaption></figure>`
  return html`<div class="maps">
    <p class="question">${said(cut(question, 300))} <span class="small">${kind}, <bdi>${sampleId}</bdi></span></p>
    <div class="pictures">${plain(picture)}${maps.map(figure)}</div>
  </div>`
}

const plain = (picture: Picture | null) =>
  picture && html`<figure>${drawPicture(picture, 'image with its boxes')}<figcaption>image</figcaption></figure>`

/** One byte a pixel, 1 inside a box. */
function boxMask(boxes: GroundingMap['boxes'], width: number, height: number): Uint8Array {
  const mask = new Uint8Array(width * height)
  const clip = (value: number, most: number): number => Math.min(most, Math.max(0, Math.round(value)))
  for (const [left, top, right, bottom] of boxes) {
    const [from, to] = [clip(left, width), clip(right, width)]
    for (let y = clip(top, height); y < clip(bottom, height); y++)
      mask.fill(1, y * width + from, y * width + Math.max(from, to))
  }
  return mask
}
