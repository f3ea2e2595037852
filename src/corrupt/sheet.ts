/** The contact sheet: clean image, corrupted twin and mask side by side, so that a person can see where the noise went. */
import type { ImageRef } from '../data/records.js'
import { type Html, html } from '../page/html.js'
import { renderPage } from '../page/page.js'
import { drawPicture, loadPicture, shrink } from '../page/picture.js'
import { area, type Mask } from './masks/mask.js'

export interface SheetImage {
  /** As the record has it. */
  clean: ImageRef
  corrupted: ImageRef | null
  mask: Mask | null
  caption: string
  source: string | null
  fallback: string | null
}

export interface SheetRow {
  id: string
  prompt: string
  images: SheetImage[]
}

const sheetStyle = `
main { max-width: 1240px; }
.pictures { flex-wrap: wrap; margin-bottom: 14px; }
.pictures figure { width: 260px; }
.pictures figcaption { overflow-wrap: anywhere; }
.warning { color: var(--loss); font-weight: 600; }
`

/**
 * One HTML file that loads nothing, with the outline of the mask over both pictures.
 * @param of how many pairs there are, for the sheet shows a part of them.
 * @param imageRoot folder of the clean images. @param out folder of the twins.
 */
export async function renderSheet(
  rows: readonly SheetRow[],
  of: number,
  imageRoot: string,
  out: string,
): Promise<string> {
  const sections: Html[] = []
  for (const row of rows) sections.push(await drawRow(row, imageRoot, out))
  const content = html`<p class="soft">${rows.length} of ${of} pairs. The outline is the border of the mask: it should hold what the question is
about, and the noise should end at it.</p>
${sections}`
  return renderPage('Corrupted twins', content, sheetStyle)
}

async function drawRow({ id, prompt, images }: SheetRow, imageRoot: string, out: string): Promise<Html> {
  const pictures: Html[] = []
  for (const image of images) pictures.push(await drawImage(image, imageRoot, out))
  return html`<section><h2>${id}</h2><p class="question">${prompt}</p>${pictures}</section>`
}

async function drawImage(image: SheetImage, imageRoot: string, out: string): Promise<Html> {
  const { clean, corrupted, mask, caption, source, fallback } = image
  const { width, height } = clean
  const share = mask ? `${((100 * area(mask)) / (width * height)).toFixed(1)} % of the image` : 'no mask'
  const inside = mask?.inside ?? null
  const twin = corrupted && (await loadPicture(corrupted, out, inside))
  const white = inside?.map((value) => 255 * value)
  const drawn = white && { width, height, webp: await shrink(white, clean, 1), mask: null }
  return html`<div class="pictures">
    <figure>${drawPicture(await loadPicture(clean, imageRoot, inside), 'clean image')}<figcaption>${clean.path}</figcaption></figure>
    ${twin && html`<figure>${drawPicture(twin, 'corrupted image')}<figcaption>${caption}</figcaption></figure>`}
    ${drawn && html`<figure>${drawPicture(drawn, 'mask')}<figcaption>${share}<br>${source}</figcaption></figure>`}
    ${!corrupted && html`<p class="warning">${caption}</p>`}
    ${fallback && html`<p class="warning">${fallback}</p>`}
  </div>`
}
