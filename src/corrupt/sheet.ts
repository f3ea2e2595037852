/**
 * The contact sheet: clean image, corrupted twin and mask side by side, so that a person can see where the noise went. Rows
 * are drawn as pairs are made and hold small pictures only, so neither memory nor page grows with the images.
 */
import sharp from 'sharp'
import { decodeReferenced } from '../data/images.js'
import type { ImageRef, Pair, Size } from '../data/records.js'
import { type Html, html } from '../page/html.js'
import { renderPage } from '../page/page.js'
import { drawPicture, maskOutline } from '../page/picture.js'
import { coverage, type Mask } from './masks/mask.js'

export interface SheetImage {
  /** As the record has it. */
  clean: ImageRef
  corrupted: ImageRef | null
  mask: Mask | null
  /** How the twin was made. */
  caption: string
  /** Where the mask is from. */
  source: string | null
  /** Why there is no mask. */
  fallback: string | null
}

/** Longest side of a picture, in pixels, and most bytes of its file: three of them with their outlines make about 60 KB. */
const thumbnail = { side: 256, bytes: 14_000 }

/** Outlines above this many characters are those of specks; the picture of the mask shows them as well. */
const longestOutline = 6_000

/** Characters of a text on the sheet; reports may be pages long. */
const longestText = 600

const sheetStyle = `
.sheet { display: grid; grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); gap: 14px 28px; align-items: start; }
.sheet .pictures { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 10px; margin-bottom: 14px; }
.sheet .pictures figure { width: auto; max-width: none; }
.sheet .pictures:last-child { margin-bottom: 0; }
.sheet figcaption, .sheet h2 { overflow-wrap: anywhere; }
.sheet h2 { font-size: 15px; margin: 0 0 4px; color: var(--soft); font-weight: 600; }
.warning { color: var(--loss); font-weight: 600; grid-column: 1 / -1; margin: 0; }
@media (max-width: 760px) { .sheet { grid-template-columns: minmax(0, 1fr); } .sheet .pictures { gap: 6px; } }
`

/**
 * One HTML file that loads nothing.
 * @param rows of `drawRow`. @param of how many pairs there are. @param lead what holds for all of them, a sentence each.
 */
export function renderSheet(rows: readonly Html[], of: number, lead: readonly string[]): string {
  const part = rows.length < of ? ' They are evenly spread over the file.' : ''
  const content = html`<p class="soft">${rows.length} of ${of} pairs.${part}</p>
<p>The outline is the border of the mask. It should hold what the question is about, and the noise should end at it.
${lead.join(' ')}</p>
${rows}`
  return renderPage('Corrupted twins', content, sheetStyle)
}

/** @param imageRoot folder of the clean images. @param out folder of the twins. */
export async function drawRow(
  pair: Pair,
  images: readonly SheetImage[],
  imageRoot: string,
  out: string,
): Promise<Html> {
  const pictures: Html[] = []
  for (const image of images) pictures.push(await drawImage(image, imageRoot, out))
  const categories = [...new Set(pair.edits.map(({ category }) => category))]
  return html`<section class="sheet">
  <div>${pictures}</div>
  <div>
    <h2>${pair.id}</h2>
    <p class="question">${shortened(pair.prompt)}</p>
    ${drawAnswer(pair, 'chosen')}${drawAnswer(pair, 'rejected')}
    ${[pair.origin, ...categories].map((name) => html`<span class="tag">${name}</span>`)}
  </div>
</section>`
}

/** A side of the pair, its edits marked. */
function drawAnswer(pair: Pair, side: 'chosen' | 'rejected'): Html {
  const text = pair[side]
  const parts: Html[] = []
  let cursor = 0
  for (const edit of pair.edits) {
    const [start, end] = edit[side]
    if (end > longestText) break
    parts.push(html`${text.slice(cursor, start)}<mark class="${side}">${text.slice(start, end)}</mark>`)
    cursor = end
  }
  const rest = shortened(text).slice(cursor)
  return html`<div class="answer ${side}"><span class="role">${side}</span><bdi>${parts}${rest}</bdi></div>`
}

const shortened = (text: string): string => (text.length > longestText ? `${text.slice(0, longestText)} …` : text)

async function drawImage(image: SheetImage, imageRoot: string, out: string): Promise<Html> {
  const { clean, corrupted, mask, caption, source, fallback } = image
  const small = smallSize(clean)
  const inside = mask && shrinkMask(mask, small)
  const outlined = inside && maskOutline(inside, small.width, small.height).length <= longestOutline ? inside : null
  const picture = async (ref: ImageRef, root: string, label: string): Promise<Html> => {
    // Averaging would hide the noise that is to be seen.
    const webp = await encodeSmall((await decodeReferenced(ref, root)).rgb, ref, 3)
    return drawPicture({ ...small, webp, mask: outlined }, label)
  }
  const white =
    inside &&
    (await encodeSmall(
      inside.map((value) => 255 * value),
      small,
      1,
    ))
  return html`<div class="pictures">
    <figure>${await picture(clean, imageRoot, 'clean image')}<figcaption>${clean.name ?? clean.path}</figcaption></figure>
    ${corrupted && html`<figure>${await picture(corrupted, out, 'corrupted image')}<figcaption>${caption}</figcaption></figure>`}
    ${white && html`<figure>${drawPicture({ ...small, webp: white, mask: null }, 'mask')}<figcaption>${percent(mask)} % of the image, ${source}</figcaption></figure>`}
    ${!corrupted && html`<p class="warning">${caption}</p>`}
    ${fallback && html`<p class="warning">${fallback}</p>`}
  </div>`
}

const percent = (mask: Mask): string => (100 * coverage(mask)).toFixed(1)

function smallSize({ width, height }: Size): Size {
  const scale = Math.min(1, thumbnail.side / Math.max(width, height))
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) }
}

/** A pixel of the small mask is inside when any pixel behind it is: the smallest lesion shows. */
function shrinkMask({ width, height, inside }: Mask, small: Size): Uint8Array {
  const shrunk = new Uint8Array(small.width * small.height)
  for (let y = 0; y < height; y += 1) {
    const row = Math.floor((y * small.height) / height) * small.width
    for (let x = 0; x < width; x += 1) {
      if (inside[y * width + x]) shrunk[row + Math.floor((x * small.width) / width)] = 1
    }
  }
  return shrunk
}

/** A WebP file: as good as the bytes allow, the noise that a person has to see costs the most. */
async function encodeSmall(pixels: Uint8Array, { width, height }: Size, channels: 1 | 3): Promise<Buffer> {
  const resized = sharp(pixels, { raw: { width, height, channels } }).resize({
    ...smallSize({ width, height }),
    fit: 'fill',
    kernel: 'nearest',
  })
  const { data, info } = await resized.raw().toBuffer({ resolveWithObject: true })
  const raw = { width: info.width, height: info.height, channels: info.channels }
  let webp = Buffer.alloc(0)
  for (const quality of [85, 70, 50, 25]) {
    webp = await sharp(data, { raw }).webp({ quality }).toBuffer()
    if (webp.length <= thumbnail.bytes) break
  }
  return webp
}
