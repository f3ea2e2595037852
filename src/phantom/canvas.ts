/** A float picture and soft-edged shapes on it. Only + - * / and the exactly rounded square root are used. */

export const SIZE = 96

/** Coverage of a shape at a pixel centre, 0 to 1; zero outside `box`, which only saves time. */
export interface Shape {
  (x: number, y: number): number
  box: Box
}

/** Pixel columns x0..x1 and rows y0..y1, inclusive. */
export interface Box {
  x0: number
  y0: number
  x1: number
  y1: number
}

/** A shape from its coverage and anything that surely contains it, in picture coordinates. */
export function within(box: Box, coverage: (x: number, y: number) => number): Shape {
  const clip = (v: number): number => Math.min(SIZE - 1, Math.max(0, v))
  const { x0, y0, x1, y1 } = box
  const clipped = {
    x0: clip(Math.floor(x0)),
    y0: clip(Math.floor(y0)),
    x1: clip(Math.ceil(x1)),
    y1: clip(Math.ceil(y1)),
  }
  return Object.assign((x: number, y: number) => coverage(x, y), { box: clipped })
}

/** A film under exposure: brightness per pixel, and the share of it that the soft shapes have left. */
export class Canvas {
  readonly pixels = new Float64Array(SIZE * SIZE)

  /** Moves each covered pixel toward `value`. */
  blend(shape: Shape, value: number, strength = 1): void {
    this.each(shape, (i, alpha) => {
      const held = this.pixels[i] as number
      this.pixels[i] = held + (value - held) * alpha * strength
    })
  }

  /** Brightens (or darkens) by `amount` where covered. */
  add(shape: Shape, amount: number): void {
    this.each(shape, (i, alpha) => {
      this.pixels[i] = (this.pixels[i] as number) + amount * alpha
    })
  }

  private each(shape: Shape, visit: (index: number, alpha: number) => void): void {
    eachPixel(shape, (index, alpha) => {
      if (alpha > 0) visit(index, alpha)
    })
  }
}

function eachPixel(shape: Shape, visit: (index: number, alpha: number) => void): void {
  const { x0, y0, x1, y1 } = shape.box
  for (let y = y0; y <= y1; y++) {
    for (let x = x0; x <= x1; x++) visit(y * SIZE + x, shape(x, y))
  }
}

/** 1 where the coverage reaches `threshold`. */
export function maskOf(shape: Shape, threshold = 0.35): Uint8Array {
  const mask = new Uint8Array(SIZE * SIZE)
  eachPixel(shape, (index, alpha) => {
    if (alpha >= threshold) mask[index] = 1
  })
  return mask
}

export function smoothstep(low: number, high: number, x: number): number {
  const t = (x - low) / (high - low)
  if (t <= 0) return 0
  if (t >= 1) return 1
  return t * t * (3 - 2 * t)
}

/** An axis-aligned ellipse whose edge fades over `soft` pixels on each side. */
export function ellipse(cx: number, cy: number, rx: number, ry: number, soft = 1): Shape {
  const scale = Math.min(rx, ry)
  const reach = 1 + soft / scale
  const box = { x0: cx - rx * reach, y0: cy - ry * reach, x1: cx + rx * reach, y1: cy + ry * reach }
  return within(box, (x, y) => {
    const u = (x - cx) / rx
    const v = (y - cy) / ry
    return smoothstep(-soft, soft, (1 - Math.sqrt(u * u + v * v)) * scale)
  })
}

/** An axis-aligned rectangle with half-widths hx and hy. */
export function rectangle(cx: number, cy: number, hx: number, hy: number, soft = 0.8): Shape {
  const box = { x0: cx - hx - soft, y0: cy - hy - soft, x1: cx + hx + soft, y1: cy + hy + soft }
  return within(box, (x, y) => {
    const dx = hx - Math.abs(x - cx)
    const dy = hy - Math.abs(y - cy)
    return smoothstep(-soft, soft, Math.min(dx, dy))
  })
}

/** A stroke along a polyline. */
export function stroke(points: readonly (readonly [number, number])[], halfWidth: number, soft = 0.7): Shape {
  const reach = halfWidth + soft
  const xs = points.map(([x]) => x)
  const ys = points.map(([, y]) => y)
  const box = {
    x0: Math.min(...xs) - reach,
    y0: Math.min(...ys) - reach,
    x1: Math.max(...xs) + reach,
    y1: Math.max(...ys) + reach,
  }
  return within(box, (x, y) => {
    let best = Number.POSITIVE_INFINITY
    for (let i = 1; i < points.length; i++) {
      const [ax, ay] = points[i - 1] as readonly [number, number]
      const [bx, by] = points[i] as readonly [number, number]
      best = Math.min(best, segmentDistance(x, y, ax, ay, bx, by))
    }
    return smoothstep(-soft, soft, halfWidth - best)
  })
}

export function intersect(a: Shape, b: Shape): Shape {
  const box = {
    x0: Math.max(a.box.x0, b.box.x0),
    y0: Math.max(a.box.y0, b.box.y0),
    x1: Math.min(a.box.x1, b.box.x1),
    y1: Math.min(a.box.y1, b.box.y1),
  }
  return within(box, (x, y) => a(x, y) * b(x, y))
}

export function unite(...shapes: readonly Shape[]): Shape {
  const side = (read: (box: Box) => number): number[] => shapes.map((shape) => read(shape.box))
  const box = {
    x0: Math.min(...side((b) => b.x0)),
    y0: Math.min(...side((b) => b.y0)),
    x1: Math.max(...side((b) => b.x1)),
    y1: Math.max(...side((b) => b.y1)),
  }
  return within(box, (x, y) => {
    let alpha = 0
    for (const shape of shapes) alpha = Math.max(alpha, shape(x, y))
    return alpha
  })
}

export function unionMasks(masks: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(SIZE * SIZE)
  for (const mask of masks) for (let i = 0; i < out.length; i++) if (mask[i]) out[i] = 1
  return out
}

function segmentDistance(x: number, y: number, ax: number, ay: number, bx: number, by: number): number {
  const dx = bx - ax
  const dy = by - ay
  const length = dx * dx + dy * dy
  const t = length === 0 ? 0 : Math.min(1, Math.max(0, ((x - ax) * dx + (y - ay) * dy) / length))
  const ex = x - ax - t * dx
  const ey = y - ay - t * dy
  return Math.sqrt(ex * ex + ey * ey)
}
