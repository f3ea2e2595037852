/** Splitting by image: records that share an image, directly or through a third, stay together. */
import { createHash } from 'node:crypto'
import { expected } from '../errors.js'

/** How samples are divided anew. */
export interface SplitPlan {
  /** Name and weight of each part. */
  parts: [name: string, weight: number][]
  seed: number
}

const names = ['train', 'validation', 'test']

export const someShares = 'shares such as 80/10/10 or 80/20'

const weightsOf = (text: string): number[] =>
  text.split('/').map((part) => (part.trim() === '' ? Number.NaN : Number(part)))

export function isShares(text: string): boolean {
  const weights = weightsOf(text)
  const sound = weights.every((weight) => weight >= 0 && Number.isFinite(weight)) && weights.some((w) => w > 0)
  return sound && (weights.length === 2 || weights.length === 3)
}

/** `80/10/10` as train, validation and test; two numbers are train and test. */
export function parseShares(text: string): SplitPlan['parts'] {
  if (!isShares(text)) throw expected(someShares, 'a new split', text)
  const weights = weightsOf(text)
  const parts = weights.length === 2 ? ['train', 'test'] : names
  return parts.map((name, index) => [name, weights[index]])
}

/** Sets of images joined by records; the smallest key of a set stands for it, so order does not matter. */
export class ImageGroups {
  readonly #parent = new Map<string, string>()

  join(images: readonly string[]): void {
    const roots = images.map((image) => this.root(image))
    const [smallest] = [...roots].sort()
    for (const root of roots) this.#parent.set(root, smallest)
  }

  root(image: string): string {
    let root = image
    for (let next = this.#parent.get(root); next !== undefined && next !== root; next = this.#parent.get(root))
      root = next
    if (image !== root) this.#parent.set(image, root)
    return root
  }
}

/** A number in [0, 1) that follows from seed and group alone, so a part keeps its images when others are added. */
export function assignSplit({ parts, seed }: SplitPlan, group: string): string {
  const hash = createHash('sha256').update(`${seed}\0${group}`).digest()
  const draw = hash.readUIntBE(0, 6) / 2 ** 48
  const total = parts.reduce((sum, [, weight]) => sum + weight, 0)
  let end = 0
  const part = parts.find(([, weight]) => {
    end += weight / total
    return draw < end
  })
  return (part ?? parts.filter(([, weight]) => weight > 0).at(-1) ?? parts[0])[0]
}
