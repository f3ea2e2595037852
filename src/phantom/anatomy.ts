/** A normal chest: its proportions vary from study to study, its plan does not. */
import { type Canvas, ellipse, rectangle, type Shape, smoothstep, stroke, within } from './canvas.js'
import type { Rng } from './rng.js'
import type { Side, Zone } from './types.js'

export interface Lung {
  cx: number
  cy: number
  rx: number
  ry: number
  /** Height of the diaphragm's dome under this lung. */
  dome: number
  /** +1 if the outer wall lies toward larger x. */
  outward: 1 | -1
  shape: Shape
}

export interface Anatomy {
  lungs: Record<Side, Lung>
  heart: { cx: number; cy: number; rx: number; ry: number; shape: Shape }
  body: Shape
  /** Vertical shift of the whole chest. */
  dy: number
  dx: number
}

/** Heart half-widths in pixels: the two ranges leave a gap, so that the truth is always decided. */
const NORMAL_HEART = [8.5, 10.5] as const
const ENLARGED_HEART = [15, 18] as const
const USUAL_HEART = 9.5

/** @param size of `Difficulty`. */
export function sampleAnatomy(rng: Rng, enlargedHeart: boolean, size: number): Anatomy {
  const dx = rng.between(-2, 2)
  const dy = rng.between(-2, 2)
  const cx = 48 + dx
  const enlarged = ENLARGED_HEART.map((rx) => USUAL_HEART + (rx - USUAL_HEART) * size)
  const [low, high] = enlargedHeart ? enlarged : NORMAL_HEART
  const rx = rng.between(low, high)
  const heartCx = cx + 2.5 + (enlargedHeart ? 2 : 0)
  const heartCy = 61 + dy
  const heartRy = rng.between(11.5, 13)
  const spread = rng.between(19.5, 21)
  return {
    dx,
    dy,
    // The patient's right lung is at the left of the picture.
    lungs: { right: sampleLung(rng, cx - spread, dy, -1), left: sampleLung(rng, cx + spread, dy, 1) },
    heart: { cx: heartCx, cy: heartCy, rx, ry: heartRy, shape: ellipse(heartCx, heartCy, rx, heartRy, 1.6) },
    body: ellipse(cx, 66 + dy, rng.between(41, 44), 66, 1.5),
  }
}

function sampleLung(rng: Rng, cx: number, dy: number, outward: 1 | -1): Lung {
  const rx = rng.between(14.5, 16)
  const ry = rng.between(31, 33)
  const cy = 44 + dy
  const dome = 70 + dy + rng.between(-1.5, 1.5)
  const outline = ellipse(cx, cy, rx, ry, 1.3)
  const shape = within(outline.box, (x, y) => {
    const u = (x - cx + outward * 2) / rx
    return outline(x, y) * (1 - smoothstep(-1, 1, y - (dome + 4 * u * u - 2)))
  })
  return { cx, cy, rx, ry, dome, outward, shape }
}

/** The band in which a finding's centre must lie to belong to a zone; bands leave gaps between zones. */
export function zoneBand(anatomy: Anatomy, zone: Zone): readonly [number, number] {
  const bands = { upper: [21, 30], middle: [37, 46], lower: [53, 62] } as const
  const [low, high] = bands[zone]
  return [low + anatomy.dy, high + anatomy.dy]
}

export function drawAnatomy(canvas: Canvas, anatomy: Anatomy, rng: Rng): void {
  const { lungs, heart, dx, dy } = anatomy
  canvas.pixels.fill(16)
  canvas.blend(anatomy.body, rng.between(118, 132))
  canvas.add(rectangle(48 + dx, 48, 3.6, 60, 1.5), 30)
  for (const lung of [lungs.right, lungs.left]) canvas.blend(lung.shape, rng.between(42, 50), 0.96)
  drawRibs(canvas, anatomy)
  canvas.blend(ellipse(48 + dx, 38 + dy, 6.5, 26, 2), 140, 0.85)
  canvas.blend(heart.shape, rng.between(152, 164), 0.95)
  for (let k = 0; k < 11; k++) canvas.add(rectangle(48 + dx, 6 + 8.5 * k + dy, 3.2, 0.6, 0.9), -14)
  for (const out of [-1, 1]) {
    const clavicle = stroke(
      [
        [48 + dx + out * 5, 18 + dy],
        [48 + dx + out * 20, 14 + dy],
        [48 + dx + out * 36, 11 + dy],
      ],
      1.3,
    )
    canvas.add(clavicle, 26)
  }
}

function drawRibs(canvas: Canvas, anatomy: Anatomy): void {
  for (const lung of [anatomy.lungs.right, anatomy.lungs.left]) {
    for (let k = 0; k < 6; k++) canvas.add(rib(anatomy, lung, k), 15)
  }
}

/** The k-th rib: an arc that falls from the spine to the outer wall. */
export function rib(anatomy: Anatomy, lung: Lung, k: number): Shape {
  const points: [number, number][] = []
  for (let step = 0; step <= 6; step++) {
    const t = step / 6
    points.push([48 + anatomy.dx + lung.outward * (6 + 30 * t), ribHeight(anatomy, k, t)])
  }
  return stroke(points, 1, 0.9)
}

/** Height of rib k at the share t of its way outward. */
export function ribHeight(anatomy: Anatomy, k: number, t: number): number {
  return 17 + anatomy.dy + 9 * k - 3 * t + 10 * t * t
}
