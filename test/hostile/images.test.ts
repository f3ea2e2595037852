/** Images and masks of every form, mutated: an image, a mask, or a typed error; soon, and in bounded memory. */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { crc32, deflateSync, gzipSync } from 'node:zlib'
import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import type { Draws } from '../../src/bench/random.js'
import { readMask } from '../../src/corrupt/masks/read.js'
import { checkReferenced, decodeImage } from '../../src/data/images.js'
import { FireError } from '../../src/errors.js'
import { temporaryFolder } from '../fakes/world.js'
import { drawsOf, pick, rounds, timeFor } from './campaign.js'

const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))
const fixtureOf = (path: string) => JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8'))

interface Good {
  name: string
  bytes: Buffer
  /** What a manifest says beside the file's name; only masks. */
  with?: object
}

/** Every kind of picture that is read, large enough to have structure, small enough to be quick. */
async function pictures(): Promise<Good[]> {
  const [width, height] = [48, 40]
  const rgb = Uint8Array.from({ length: width * height * 3 }, (_, at) => (at * 31) % 256)
  const picture = () => sharp(rgb, { raw: { width, height, channels: 3 } })
  const deep = () =>
    sharp(
      Uint16Array.from(rgb, (value) => value * 256),
      { raw: { width, height, channels: 3 } },
    )
  return [
    { name: 'png', bytes: await picture().png().toBuffer() },
    { name: 'png, interlaced', bytes: await picture().png({ progressive: true }).toBuffer() },
    { name: 'png, palette', bytes: await picture().png({ palette: true }).toBuffer() },
    { name: 'png, alpha', bytes: await picture().ensureAlpha(0.5).png().toBuffer() },
    { name: 'png, 16 bits', bytes: await deep().toColourspace('rgb16').png().toBuffer() },
    { name: 'jpeg', bytes: await picture().jpeg().toBuffer() },
    { name: 'jpeg, progressive', bytes: await picture().jpeg({ progressive: true }).toBuffer() },
    { name: 'jpeg, turned', bytes: await picture().withMetadata({ orientation: 6 }).jpeg().toBuffer() },
    { name: 'jpeg, inks', bytes: await picture().toColourspace('cmyk').jpeg().toBuffer() },
    { name: 'webp', bytes: await picture().webp().toBuffer() },
    { name: 'webp, lossless', bytes: await picture().webp({ lossless: true }).toBuffer() },
  ]
}

const dicoms: Good[] = fixtureOf('../data/fixtures/dicom.json').cases.map(
  ({ name, file }: { name: string; file: string }) => ({ name, bytes: Buffer.from(file, 'base64') }),
)

const masks = fixtureOf('../corrupt/fixtures/masks.json')
const maskFiles: Good[] = [masks.pictures, masks.niftis, masks.segmentations.cases].flatMap((cases: object) =>
  Object.entries(cases).map(([name, { file, with: options }]) => ({
    name,
    bytes: Buffer.from(file, 'base64'),
    with: options,
  })),
)
const maskSize = { width: masks.shape[0].length, height: masks.shape.length }

/** Values that headers lie with. */
const lies = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0xffffffff, 0x10000]

type Mutation = (bytes: Buffer, draws: Draws) => Buffer

const placeIn = (bytes: Buffer, draws: Draws, margin = 0): number =>
  draws.integers(1, 0, Math.max(1, bytes.length - margin))[0]

const mutations: Record<string, Mutation> = {
  bits(bytes, draws) {
    const changed = Buffer.from(bytes)
    for (const at of draws.integers(pick(draws, [1, 3, 20]), 0, bytes.length))
      changed[at] ^= 1 << draws.integers(1, 0, 8)[0]
    return changed
  },
  cut: (bytes, draws) => bytes.subarray(0, placeIn(bytes, draws)),
  lie(bytes, draws) {
    const changed = Buffer.from(bytes)
    const at = pick(draws, [placeIn(changed.subarray(0, 64), draws, 4), placeIn(bytes, draws, 4)])
    const value = pick(draws, lies)
    if (draws.uniform(0, 1) < 0.5) changed.writeUInt32BE(value, Math.min(at, bytes.length - 4))
    else changed.writeUInt16LE(value & 0xffff, Math.min(at, bytes.length - 2))
    return changed
  },
  repeat(bytes, draws) {
    const from = placeIn(bytes, draws)
    const part = bytes.subarray(from, from + draws.integers(1, 1, 200)[0])
    return Buffer.concat([
      bytes.subarray(0, from),
      ...Array(draws.integers(1, 1, 50)[0]).fill(part),
      bytes.subarray(from),
    ])
  },
  hole(bytes, draws) {
    const from = placeIn(bytes, draws)
    return Buffer.concat([bytes.subarray(0, from), bytes.subarray(from + draws.integers(1, 1, 100)[0])])
  },
  zeros(bytes, draws) {
    const from = placeIn(bytes, draws)
    return Buffer.from(bytes).fill(0, from, Math.min(bytes.length, from + draws.integers(1, 1, 100)[0]))
  },
}

/** A decoder checks sums before it looks at sizes: they are made right again, as those who mean harm do. */
function withRightSums(bytes: Buffer): Buffer {
  if (bytes[0] !== 0x89) return bytes
  const mended = Buffer.from(bytes)
  for (let at = 8; at + 12 <= mended.length; at += 12 + mended.readUInt32BE(at)) {
    const end = at + 8 + mended.readUInt32BE(at)
    if (end + 4 > mended.length) break
    mended.writeUInt32BE(crc32(mended.subarray(at + 4, end)), end)
  }
  return mended
}

function mutated({ bytes }: Good, draws: Draws): Buffer {
  const mutate = pick(draws, Object.values(mutations))
  const changed = mutate(bytes, draws)
  return draws.uniform(0, 1) < 0.5 ? withRightSums(changed) : changed
}

/** Runs `work`, which may fail with a typed error and nothing else. @returns whether it failed. */
async function failsTyped(what: string, work: () => Promise<void>): Promise<boolean> {
  const start = performance.now()
  try {
    await work()
    return false
  } catch (error) {
    if (!(error instanceof FireError)) throw new Error(`${what}: not a typed error: ${error}`, { cause: error })
    expect(error.code, what).not.toBe('ERR_FIRE_INTERNAL')
    return true
  } finally {
    expect(performance.now() - start, `${what}: milliseconds`).toBeLessThan(30_000)
  }
}

const bounded = (): void => expect(process.resourceUsage().maxRSS / 1024, 'MiB').toBeLessThan(3000)

describe('hostile images and masks', () => {
  it('mutated images decode, or are refused with a typed error', { timeout: timeFor(60_000) }, async () => {
    const folder = await temporaryFolder()
    const good = [...(await pictures()), ...dicoms]
    const path = join(folder, 'x')
    let refused = 0
    const count = rounds(60, 600)
    for (let round = 0; round < count; round += 1) {
      const draws = drawsOf('images', round)
      const chosen = pick(draws, good)
      await writeFile(path, mutated(chosen, draws))
      const what = `round ${round}, ${chosen.name}`
      const failed = await failsTyped(what, async () => {
        const { width, height, rgb, id } = await decodeImage(path)
        expect(rgb.length, what).toBe(width * height * 3)
        await checkReferenced({ path: 'x', sha256: id, width, height }, folder)
      })
      if (failed) refused += 1
    }
    // Mutations that nothing notices, or that spoil everything, would test nothing.
    expect(refused).toBeGreaterThan(count / 10)
    expect(refused).toBeLessThan(count)
    bounded()
  })

  it('mutated masks are masks, or are refused with a typed error', { timeout: timeFor(60_000) }, async () => {
    const root = await temporaryFolder()
    let refused = 0
    const count = rounds(60, 600)
    for (let round = 0; round < count; round += 1) {
      const draws = drawsOf('masks', round)
      const chosen = pick(draws, maskFiles)
      await writeFile(join(root, 'mask'), mutated(chosen, draws))
      const what = `round ${round}, ${chosen.name}`
      const target = { ...maskSize, sha256: '0'.repeat(64), dicom: async () => undefined }
      const failed = await failsTyped(what, async () => {
        const { mask } = await readMask({ file: 'mask', ...chosen.with }, target, { root }, what)
        expect(mask.inside.length, what).toBe(mask.width * mask.height)
      })
      if (failed) refused += 1
    }
    expect(refused).toBeGreaterThan(count / 10)
    expect(refused).toBeLessThan(count)
    bounded()
  })

  it('drawn masks of absurd numbers are refused soon', { timeout: timeFor(60_000) }, async () => {
    const side = rounds(2048, 8192)
    const target = { width: side, height: side, sha256: '0'.repeat(64), dicom: async () => undefined }
    const zigzag = Array.from({ length: 100_000 }, (_, at) => (at % 2 ? (at % 4 === 1 ? 0 : side) : at % side))
    const specs: object[] = [
      { polygons: [zigzag] },
      { polygons: Array(3000).fill([0, 0, side, 0, side, side, 0, side]) },
      { boxes: Array(20_000).fill([0, 0, side, side]) },
      { size: [2 ** 31, 2 ** 31], counts: [1] },
      { size: [side, side], counts: [side * side, -1, 1] },
      { size: [side, side], counts: 'oooooooooooooooooooooooooooo' },
    ]
    for (const [index, spec] of specs.entries()) {
      await failsTyped(`spec ${index}`, async () => {
        const { mask } = await readMask(spec, target, { root: '.' }, 'x')
        expect(mask.inside.length).toBe(side * side)
      })
    }
    bounded()
  })

  it('bombs are refused before they are large', { timeout: timeFor(60_000) }, async () => {
    const folder = await temporaryFolder()
    const [explicit] = dicoms.filter(({ name }) => name.startsWith('CT window, Explicit'))
    const deflated = dicoms.find(({ name }) => /deflated/i.test(name)) as Good
    const meta = deflated.bytes.subarray(0, 132 + 12 + deflated.bytes.readUInt32LE(140))
    const zeros = deflateSync(Buffer.alloc(rounds(2 ** 25, 2 ** 28))).subarray(2)
    const huge = Buffer.from(explicit.bytes)
    for (const tag of ['28001000', '28001100']) {
      const at = huge.indexOf(Buffer.from(`${tag}5553`, 'hex'))
      huge.writeUInt16LE(0xffff, at + 8)
    }
    for (const [name, bytes] of Object.entries({
      'zeros for attributes': Buffer.concat([meta, zeros]),
      'rows and columns': huge,
      'png of 2^31': withRightSums(sized((await pictures())[0].bytes, 2 ** 31 - 1)),
      'png of 9000': withRightSums(sized((await pictures())[0].bytes, 9000)),
      'gzip of zeros': gzipSync(Buffer.alloc(2 ** 24)),
    })) {
      const path = join(folder, 'bomb')
      await writeFile(path, bytes)
      const what = `bomb: ${name}`
      expect(await failsTyped(what, async () => void (await decodeImage(path))), what).toBe(true)
      const target = { ...maskSize, sha256: '0'.repeat(64), dicom: async () => undefined }
      const asMask = async () => void (await readMask('bomb', target, { root: folder }, what))
      expect(await failsTyped(what, asMask), what).toBe(true)
    }
    bounded()
  })

  it('an import of nothing else ends, with a reason for each', { timeout: timeFor(60_000) }, async () => {
    const folder = await temporaryFolder()
    const good = [...(await pictures()), ...dicoms]
    await mkdir(join(folder, 'images'))
    const lines: string[] = []
    const count = rounds(40, 600)
    for (let round = 0; round < count; round += 1) {
      const draws = drawsOf('import', round)
      await writeFile(join(folder, 'images', `${round}.img`), mutated(pick(draws, good), draws))
      lines.push(JSON.stringify({ id: `q${round}`, question: 'What?', answer: 'This.', image: `images/${round}.img` }))
    }
    await writeFile(join(folder, 'all.jsonl'), `${lines.join('\n')}\n`)
    const out = join(folder, 'out')
    const { code, text } = await run(['import', 'jsonl', join(folder, 'all.jsonl'), '--out', out])
    expect(text).not.toMatch(/ERR_FIRE_INTERNAL|defect|\n {4}at /)
    expect(code, text).toBe(0)
    const report = JSON.parse(await readFile(join(out, 'import.report.json'), 'utf8'))
    expect(report.read).toBe(count)
    expect(report.samples + report.problems.length).toBe(count)
    expect(report.problems.every(({ message }: { message: string }) => message.includes('.img'))).toBe(true)
  })
})

/** A PNG whose header says another size. */
function sized(png: Buffer, side: number): Buffer {
  const changed = Buffer.from(png)
  changed.writeUInt32BE(side, 16)
  changed.writeUInt32BE(side, 20)
  return changed
}

/** The command, ended after ten minutes. */
function run(args: string[]): Promise<{ code: number | null; text: string }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [main, ...args], { timeout: 600_000 })
    const pieces: Buffer[] = []
    child.stdout.on('data', (piece) => pieces.push(piece))
    child.stderr.on('data', (piece) => pieces.push(piece))
    child.on('close', (code) => resolve({ code, text: Buffer.concat(pieces).toString() }))
  })
}
