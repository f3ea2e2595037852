/** Pairs with images on disk, and masks for them, as the corruption stage meets them. */
import { createHash } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import sharp from 'sharp'
import { type CorruptOptions, type CorruptResult, corruptPairs } from '../../src/corrupt/index.js'
import { decodeImage, describeImage } from '../../src/data/images.js'
import { writeJsonl } from '../../src/data/jsonl.js'
import type { ImageRef, Pair } from '../../src/data/records.js'
import type { ImageInput } from '../../src/engine/engine.js'
import { temporaryFolder } from '../fakes/world.js'

export class World {
  private constructor(readonly root: string) {}

  static async create(): Promise<World> {
    return new World(await temporaryFolder())
  }

  path(name: string): string {
    return join(this.root, name)
  }

  async write(name: string, data: string | Uint8Array): Promise<void> {
    await mkdir(dirname(this.path(name)), { recursive: true })
    await writeFile(this.path(name), data)
  }

  async read(name: string): Promise<Buffer> {
    return await readFile(this.path(name))
  }

  /** A picture of a gradient with a shade of its own, so that no two are alike. */
  async image(name: string, width = 24, height = 16, shade = 40): Promise<ImageRef> {
    const rgb = Uint8Array.from({ length: width * height * 3 }, (_, at) => shade + ((at * 7) % 150))
    const picture = sharp(rgb, { raw: { width, height, channels: 3 } })
    await this.write(name, await (name.endsWith('.jpg') ? picture.jpeg() : picture.png()).toBuffer())
    return await describeImage(name, this.root)
  }

  pair(id: string, images: ImageRef[], more: Partial<Pair> = {}): Pair {
    const edits: Pair['edits'] = [{ chosen: [0, 2], rejected: [0, 3], category: 'presence' }]
    const answers = { chosen: 'No mass.', rejected: 'Yes mass.' }
    const about = { id, sampleId: id, images, prompt: 'Is there a mass?', origin: 'repaired', provenance: {} }
    return { ...about, ...answers, edits, ...more }
  }

  async pairs(pairs: Pair[]): Promise<void> {
    await writeJsonl(this.path('pairs.jsonl'), pairs)
  }

  async manifest(lines: object[]): Promise<string> {
    await writeJsonl(this.path('masks.jsonl'), lines)
    return this.path('masks.jsonl')
  }

  /** The corrupted image of a view, as `out` has it. */
  twinOf({ corrupted }: Pair, view = 0): Promise<ImageInput> {
    return decodeImage(join(this.path('out'), corrupted?.images[view].path ?? ''))
  }

  /** The mask of a view, as a picture. */
  maskOf({ corrupted }: Pair, view = 0): Promise<ImageInput> {
    return decodeImage(join(this.path('out'), corrupted?.masks[view] ?? ''))
  }

  options(more: Partial<CorruptOptions> = {}): CorruptOptions {
    const files = { pairs: this.path('pairs.jsonl'), out: this.path('out') }
    const settings = { method: 'lesion-noise', fallback: 'image-noise', maxCoverage: 0.8, seed: 0 } as const
    return { ...files, ...settings, resizeMasks: false, sheetRows: 100, ...more }
  }

  async corrupt(more: Partial<CorruptOptions> = {}): Promise<CorruptResult & { pairs: Pair[] }> {
    const options = this.options(more)
    const result = await corruptPairs(options)
    const text = await readFile(join(options.out, 'pairs.jsonl'), 'utf8')
    return {
      ...result,
      pairs: text
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as Pair),
    }
  }
}

/** A mask, and whether a pixel is in it. */
export const box = { boxes: [[4, 3, 8, 6]] }
export const inBox = (x: number, y: number): boolean => x >= 4 && x < 12 && y >= 3 && y < 9

export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
