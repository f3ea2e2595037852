/** The six findings: where each may lie, how it is drawn, and the exact mask of what was drawn. */
import { type Anatomy, type Lung, ribHeight, zoneBand } from './anatomy.js'
import {
  type Canvas,
  ellipse,
  intersect,
  maskOf,
  rectangle,
  type Shape,
  smoothstep,
  stroke,
  unionMasks,
  unite,
  within,
} from './canvas.js'
import type { Rng } from './rng.js'
import {
  type Difficulty,
  type Finding,
  type FindingFacts,
  type FindingType,
  SIDES,
  SIZES,
  type Side,
  type Size,
  ZONES,
  type Zone,
} from './types.js'

/** Chooses what a study contains: each region is normal or carries one finding. */
export function sampleFacts(rng: Rng): FindingFacts[] {
  const facts: FindingFacts[] = []
  const add = (type: FindingType, rest: Partial<FindingFacts>): void => {
    facts.push({ type, side: null, zone: null, size: null, count: 1, ...rest })
  }
  if (rng.chance(0.45)) add('cardiomegaly', {})
  const wet = rng.chance(0.45) ? rng.pick(SIDES) : null
  if (wet) add('effusion', { side: wet, zone: 'lower', size: rng.pick(SIZES) })
  if (rng.chance(0.72)) addLungFinding(rng, wet, add)
  if (rng.chance(0.68)) {
    if (rng.chance(0.5)) add('fracture', { side: rng.pick(SIDES), zone: rng.pick(ZONES) })
    else add('pacemaker', { side: rng.pick(SIDES), zone: 'upper' })
  }
  return facts
}

function addLungFinding(
  rng: Rng,
  wet: Side | null,
  add: (type: FindingType, rest: Partial<FindingFacts>) => void,
): void {
  const side = rng.pick(SIDES)
  // Fluid hides what lies behind it: on that side the lower zone stays free.
  const zone = rng.pick(side === wet ? ZONES.slice(0, 2) : ZONES)
  if (rng.chance(0.4)) {
    add('opacity', { side, zone })
    return
  }
  const count = rng.chance(0.55) ? 1 : 2 + rng.int(2)
  add('nodule', { side, zone: count === 1 ? zone : null, size: rng.pick(SIZES), count })
}

/** Draws the findings in anatomical order and returns them with their masks. */
export function drawFindings(
  canvas: Canvas,
  anatomy: Anatomy,
  facts: readonly FindingFacts[],
  rng: Rng,
  difficulty: Difficulty,
): Finding[] {
  return facts.map((fact) => ({ ...fact, mask: drawFinding(canvas, anatomy, facts, fact, rng, difficulty) }))
}

function drawFinding(
  canvas: Canvas,
  anatomy: Anatomy,
  facts: readonly FindingFacts[],
  fact: FindingFacts,
  rng: Rng,
  difficulty: Difficulty,
): Uint8Array {
  if (fact.type === 'cardiomegaly') return maskOf(anatomy.heart.shape)
  const lung = anatomy.lungs[fact.side as Side]
  switch (fact.type) {
    case 'effusion':
      return drawEffusion(canvas, lung, fact.size as Size, rng, difficulty)
    case 'opacity':
      return drawOpacity(canvas, anatomy, lung, fact.zone as Zone, rng, difficulty)
    case 'nodule':
      return drawNodules(canvas, anatomy, lung, facts, fact, rng, difficulty)
    case 'fracture':
      return drawFracture(canvas, anatomy, lung, fact.zone as Zone, rng, difficulty)
    case 'pacemaker':
      return drawPacemaker(canvas, anatomy, lung, rng)
  }
}

function drawEffusion(canvas: Canvas, lung: Lung, size: Size, rng: Rng, difficulty: Difficulty): Uint8Array {
  const level = lung.dome - (size === 'small' ? rng.between(8, 11) * difficulty.size : rng.between(22, 27))
  const fluid = fluidBelow(lung, level)
  canvas.blend(fluid, rng.between(148, 160), 0.92 * difficulty.contrast)
  return maskOf(fluid)
}

/** Fluid up to a meniscus that climbs the outer wall. */
function fluidBelow(lung: Lung, level: number): Shape {
  return within(lung.shape.box, (x, y) => {
    const t = (lung.outward * (x - lung.cx)) / lung.rx
    const climb = t > 0 ? 6 * t * t : 0
    return lung.shape(x, y) * smoothstep(-1.2, 1.2, y - (level - climb))
  })
}

/** A hazy, ragged patch without an edge: several overlapping soft discs. */
function drawOpacity(
  canvas: Canvas,
  anatomy: Anatomy,
  lung: Lung,
  zone: Zone,
  rng: Rng,
  { contrast, size }: Difficulty,
): Uint8Array {
  const [low, high] = zoneBand(anatomy, zone)
  const cx = lung.cx + lung.outward * rng.between(-1, 4)
  const cy = rng.between(low + 1, high - 1)
  const puffs: Shape[] = []
  for (let k = 0; k < 5; k++) {
    puffs.push(
      ellipse(
        cx + rng.between(-5, 5) * size,
        cy + rng.between(-3.5, 3.5) * size,
        rng.between(4, 6.5) * size,
        rng.between(3.5, 5.5) * size,
        3.5,
      ),
    )
  }
  const patch = intersect(lung.shape, unite(...puffs))
  canvas.add(patch, rng.between(52, 66) * contrast)
  return maskOf(patch)
}

function drawNodules(
  canvas: Canvas,
  anatomy: Anatomy,
  lung: Lung,
  facts: readonly FindingFacts[],
  fact: FindingFacts,
  rng: Rng,
  { contrast, size }: Difficulty,
): Uint8Array {
  const radius = () => (fact.size === 'small' ? rng.between(2.3, 2.9) * size : rng.between(4.6, 5.4))
  const wet = facts.some((other) => other.type === 'effusion' && other.side === fact.side)
  const placed: { x: number; y: number; r: number }[] = []
  for (let k = 0; k < fact.count; k++) placed.push(placeNodule(anatomy, lung, fact, wet, placed, radius(), rng))
  const discs = placed.map(({ x, y, r }) => ellipse(x, y, r, r, 0.9))
  for (const disc of discs) canvas.add(disc, rng.between(88, 104) * contrast)
  return unionMasks(discs.map((disc) => maskOf(disc)))
}

/** Rejection sampling: inside the lung, off the heart and the pacemaker's pocket, apart from the others. */
function placeNodule(
  anatomy: Anatomy,
  lung: Lung,
  fact: FindingFacts,
  wet: boolean,
  placed: readonly { x: number; y: number; r: number }[],
  r: number,
  rng: Rng,
): { x: number; y: number; r: number } {
  const [top, bottom] = fact.zone ? zoneBand(anatomy, fact.zone) : [21 + anatomy.dy, (wet ? 40 : 62) + anatomy.dy]
  let best = { x: lung.cx, y: (top + bottom) / 2, r }
  let bestRoom = Number.NEGATIVE_INFINITY
  for (let attempt = 0; attempt < 60; attempt++) {
    const x = lung.cx + rng.between(-0.75, 0.75) * lung.rx
    const y = rng.between(top, bottom)
    const room = roomAt(anatomy, lung, placed, x, y, r)
    if (room > bestRoom) {
      best = { x, y, r }
      bestRoom = room
    }
    if (room >= 1.5) break
  }
  return best
}

/** The least distance (pixels) between a disc's rim and anything it should not touch. */
function roomAt(
  anatomy: Anatomy,
  lung: Lung,
  placed: readonly { x: number; y: number; r: number }[],
  x: number,
  y: number,
  r: number,
): number {
  const inset = (cx: number, cy: number, rx: number, ry: number): number => {
    const u = (x - cx) / rx
    const v = (y - cy) / ry
    return (1 - Math.sqrt(u * u + v * v)) * Math.min(rx, ry)
  }
  const { heart } = anatomy
  let room = Math.min(
    inset(lung.cx, lung.cy, lung.rx, lung.ry) - r + 1,
    -inset(heart.cx, heart.cy, heart.rx, heart.ry) - r,
  )
  room = Math.min(room, lung.outward * (x - (48 + anatomy.dx)) - 7 - r)
  for (const other of placed) {
    const dx = other.x - x
    const dy = other.y - y
    room = Math.min(room, Math.sqrt(dx * dx + dy * dy) - other.r - r)
  }
  return room
}

/** A dark jagged line across a rib whose ends have slipped and thickened. */
function drawFracture(
  canvas: Canvas,
  anatomy: Anatomy,
  lung: Lung,
  zone: Zone,
  rng: Rng,
  { contrast, size }: Difficulty,
): Uint8Array {
  const [low, high] = zoneBand(anatomy, zone)
  const t = rng.between(0.72, 0.84)
  const x = 48 + anatomy.dx + lung.outward * (6 + 30 * t)
  const y = nearestRib(anatomy, (low + high) / 2, t)
  const callus = ellipse(x, y, 6 * size, 4 * size, 1.5)
  const lean = lung.outward * rng.between(1, 2)
  const line = stroke(
    [
      [x - lean, y - 6 * size],
      [x + 1.2, y - 2 * size],
      [x - 1.2, y + 1.5 * size],
      [x + lean, y + 6 * size],
    ],
    0.9,
  )
  canvas.add(callus, rng.between(58, 70) * contrast)
  canvas.blend(line, 20, 0.95 * contrast)
  return unionMasks([maskOf(callus), maskOf(line)])
}

function nearestRib(anatomy: Anatomy, y: number, t: number): number {
  let best = ribHeight(anatomy, 0, t)
  for (let k = 1; k < 6; k++) {
    const candidate = ribHeight(anatomy, k, t)
    if (Math.abs(candidate - y) < Math.abs(best - y)) best = candidate
  }
  return best
}

/** A metal can under the collar bone and a lead to the heart. */
function drawPacemaker(canvas: Canvas, anatomy: Anatomy, lung: Lung, rng: Rng): Uint8Array {
  const x = lung.cx + lung.outward * rng.between(9, 12)
  const y = 21 + anatomy.dy + rng.between(-2, 2)
  const { heart } = anatomy
  const lead = stroke(
    [
      [x, y],
      [48 + anatomy.dx + lung.outward * 5, y - 4],
      [48 + anatomy.dx + lung.outward * 2, y + 12],
      [heart.cx, heart.cy],
    ],
    0.7,
  )
  const can = rectangle(x, y, 5, 3.8)
  canvas.blend(lead, 225, 0.85)
  canvas.blend(can, 238)
  canvas.blend(rectangle(x, y, 3, 1.8), 205)
  return unionMasks([maskOf(can), maskOf(lead)])
}

/** Where each finding would lie, on both sides; what is corrupted when the question is about something absent. */
export function homeRegions(anatomy: Anatomy): Record<FindingType, Uint8Array> {
  const lungs = [anatomy.lungs.right, anatomy.lungs.left]
  const fields = unionMasks(lungs.map((lung) => maskOf(lung.shape, 0.5)))
  const around = (offset: number, y: number, rx: number, ry: number): Uint8Array =>
    unionMasks(lungs.map((lung) => maskOf(ellipse(lung.cx + lung.outward * offset, y, rx, ry), 0.5)))
  return {
    cardiomegaly: maskOf(ellipse(anatomy.heart.cx, anatomy.heart.cy, 18, 13), 0.5),
    effusion: unionMasks(lungs.map((lung) => maskOf(fluidBelow(lung, lung.dome - 22), 0.5))),
    nodule: fields,
    opacity: fields,
    fracture: around(9, 42 + anatomy.dy, 6, 26),
    pacemaker: around(10, 21 + anatomy.dy, 8, 7),
  }
}
