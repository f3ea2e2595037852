/** Going on after a kill, a loss or a service that failed: the same bytes, and nothing is asked twice. */
import { fork } from 'node:child_process'
import { readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Pair } from '../../src/data/records.js'
import { SegmenterError } from '../../src/errors.js'
import { goneOwner } from '../data/owners.js'
import { FakeSegmenter } from './service.js'
import { sha256, World } from './world.js'

const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))

let world: World
beforeEach(async () => {
  world = await World.create()
})

/** Every file of a folder with its content, but for what only saves work. */
async function contents(folder: string): Promise<Record<string, string>> {
  const files: Record<string, string> = {}
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const path = join(entry.parentPath, entry.name)
    files[path.slice(folder.length)] = sha256(await readFile(path))
  }
  return files
}

describe('going on', () => {
  let service: FakeSegmenter
  beforeEach(async () => {
    service = await FakeSegmenter.start()
    const pairs: Pair[] = []
    for (let index = 0; index < 12; index += 1) {
      const image = await world.image(`images/${index}.png`, 64, 48, 10 + index)
      pairs.push(world.pair(`p${index}`, [image], { provenance: { concept: index % 4 ? `mass ${index}` : 'no mass' } }))
    }
    await world.pairs(pairs)
  })
  afterEach(() => service.stop())

  it('after kill -9 ends with the same bytes, and asks the service nothing twice', async () => {
    const whole = { segmenter: service.settings, out: world.path('whole'), sheet: world.path('whole/sheet.html') }
    const first = await world.corrupt(whole)
    expect(first.requests).toBe(12)
    service.asked = []
    const out = world.path('killed')
    const options = { ...whole, out, sheet: join(out, 'sheet.html') }
    const files = ['--pairs', world.path('pairs.jsonl'), '--out', out, '--seed', '0']
    for (const after of [3, 7]) {
      service.fault = (_asked, _response, attempt) => attempt === after && child.kill('SIGKILL')
      const child = fork(main, ['corrupt', ...files, '--segmenter', service.url], { silent: true })
      expect(await new Promise((resolve) => child.on('exit', (_, signal) => resolve(signal)))).toBe('SIGKILL')
    }
    service.fault = () => false
    await world.write(`killed/corrupted/.tmp-left-${goneOwner()}.01234567`, 'half')
    const { reused, pairs } = await world.corrupt(options)
    expect(reused).toBeGreaterThanOrEqual(4)
    expect(pairs).toHaveLength(12)
    expect(await contents(out)).toEqual(await contents(world.path('whole')))
    // Two requests died with their process.
    const prompts = service.asked.map(({ image, prompts: [prompt] }) => `${prompt} ${sha256(Buffer.from(image))}`)
    expect(prompts.length).toBeLessThanOrEqual(new Set(prompts).size + 2)
  })

  it('makes again what was lost or changed, and takes new settings for new', async () => {
    const { pairs } = await world.corrupt({ segmenter: service.settings })
    const before = await contents(world.path('out'))
    const [first, second] = pairs.map(({ corrupted }) => join(world.path('out'), corrupted?.images[0].path ?? ''))
    await rm(first)
    await writeFile(second, 'not a picture')
    const again = await world.corrupt({ segmenter: service.settings })
    expect([again.reused, again.requests]).toEqual([10, 0])
    expect(await contents(world.path('out'))).toEqual(before)
    const other = { segmenter: service.settings, sigma: 30 }
    await expect(world.corrupt(other)).rejects.toThrow(/holds twins that were made with other settings: sigma$/)
    expect(await contents(world.path('out'))).toEqual(before)
    // Three images have noise all over, whose strength is another setting.
    expect(await world.corrupt({ ...other, overwrite: true })).toMatchObject({ reused: 3, requests: 0 })
    expect(await world.corrupt(other)).toMatchObject({ reused: 12, requests: 0 })
    await world.image('images/5.png', 64, 48, 99)
    const { pairs: left, report } = await world.corrupt({ segmenter: service.settings, overwrite: true })
    expect([left.length, report.failed]).toEqual([11, 1])
    expect(report.warnings[0]).toMatch(/^1 pair left out, see failed\.jsonl; first: .*record p5: /)
  })

  it('stops with what it has when the service fails, and the image is not replaced by noise', async () => {
    service.fault = (_, response, attempt) => attempt > 5 && !!response.writeHead(200).end('<html>busy</html>')
    await expect(world.corrupt({ segmenter: service.settings })).rejects.toBeInstanceOf(SegmenterError)
    expect(await readdir(world.path('out/corrupted'))).toHaveLength(5)
    await expect(readFile(world.path('out/pairs.jsonl'))).rejects.toThrow('ENOENT')
    service.fault = () => false
    expect((await world.corrupt({ segmenter: service.settings })).requests).toBe(7)
  })
})
