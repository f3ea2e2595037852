/** The folder of the twins: what is other is refused or replaced, and nothing else is deleted. */
import { cp, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeEach, describe, expect, it } from 'vitest'
import { ArgumentError, FileError, SegmenterError } from '../../src/errors.js'
import { FakeSegmenter } from './service.js'
import { box, sha256, World } from './world.js'

const golden = fileURLToPath(new URL('../golden/qwen2_5_vl', import.meta.url))

let world: World
let masks: string
beforeEach(async () => {
  world = await World.create()
  const names = ['a', 'b', 'c']
  const images = await Promise.all(names.map((name, at) => world.image(`${name}.png`, 24, 16, 40 + at)))
  await world.pairs(images.map((image, at) => world.pair(names[at], [image])))
  masks = await world.manifest([{ image: 'a.png', mask: box }])
})

/** Files of `out` with their content. */
async function files(): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  for (const entry of await readdir(world.path('out'), { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const path = join(entry.parentPath, entry.name)
    found[path.slice(world.path('out').length + 1)] = sha256(await readFile(path))
  }
  return found
}

const named = async (folder: string): Promise<string[]> => (await readdir(world.path(`out/${folder}`))).sort()

/** Each twin and mask is one that pairs.jsonl names, and each note is that of a twin. */
async function expectOnlyNamed(pairs: Awaited<ReturnType<World['corrupt']>>['pairs']): Promise<void> {
  const twins = pairs.flatMap(({ corrupted }) => corrupted?.images.map(({ path }) => path) ?? [])
  expect((await named('corrupted')).map((name) => `corrupted/${name}`)).toEqual(twins.sort())
  const shown = new Set(pairs.flatMap(({ corrupted }) => corrupted?.masks ?? []))
  expect((await named('masks').catch(() => [])).map((name) => `masks/${name}`)).toEqual([...shown].sort())
  expect(await named('cache/twins')).toHaveLength(twins.length)
}

describe('other twins', () => {
  it('are refused, of other settings, masks or pairs, and replaced once the new ones are whole', async () => {
    const first = await world.corrupt({ masks })
    const before = await files()
    await world.write('other.jsonl', '{"image": "b.png", "mask": {"boxes": [[1, 1, 4, 4]]}}\n')
    const other = world.path('other.jsonl')
    const few = world.path('few.jsonl')
    await world.write('few.jsonl', `${(await world.read('pairs.jsonl')).toString().split('\n')[1]}\n`)
    for (const [more, key] of [
      [{ masks, sigma: 30 }, 'sigma'],
      [{ masks: other }, 'masks'],
      [{ masks, pairs: few }, 'pairs'],
    ] as const) {
      const refused = world.corrupt(more)
      await expect(refused).rejects.toBeInstanceOf(FileError)
      await expect(refused).rejects.toThrow(new RegExp(`twins that were made with other settings: ${key}$`))
    }
    expect(await files()).toEqual(before)
    await expectOnlyNamed((await world.corrupt({ masks: other, overwrite: true })).pairs)
    await expectOnlyNamed((await world.corrupt({ masks, pairs: few, overwrite: true })).pairs)
    const again = await world.corrupt({ masks, overwrite: true })
    expect(again.pairs).toEqual(first.pairs)
    expect(await files()).toEqual(before)
  })

  it('stay whole when the new ones cannot be made', async () => {
    await world.corrupt({ masks, sheet: world.path('out/sheet.html') })
    const before = await files()
    const gone = world.corrupt({ masks: world.path('nope.jsonl'), overwrite: true })
    await expect(gone).rejects.toThrow('nope.jsonl')
    const service = await FakeSegmenter.start()
    service.fault = (_, response) => !!response.writeHead(200).end('<html>busy</html>')
    const image = JSON.parse((await world.read('pairs.jsonl')).toString().split('\n')[1]).images[0]
    await world.pairs([world.pair('asked', [image], { provenance: { concept: 'mass' } })])
    const failing = world.corrupt({ segmenter: service.settings, sigma: 30, overwrite: true })
    await expect(failing.finally(() => service.stop())).rejects.toBeInstanceOf(SegmenterError)
    expect(await files()).toEqual(before)
  })

  it('are also those of which nothing says what they were made with', async () => {
    await world.corrupt({ masks })
    await rm(world.path('out/twins.json'))
    await expect(world.corrupt({ masks })).rejects.toThrow(/holds twins, and no twins\.json says what/)
    await rm(world.path('out/pairs.jsonl'))
    await expect(world.corrupt({ masks })).rejects.toBeInstanceOf(FileError)
    const { pairs, reused } = await world.corrupt({ masks, sigma: 30, overwrite: true })
    expect([pairs.length, reused]).toEqual([3, 2])
    await expectOnlyNamed(pairs)
  })

  it('are not those for the same model at another place', async () => {
    await cp(golden, world.path('model'), { recursive: true })
    const before = await world.corrupt({ masks, grain: 'model', model: golden })
    const { reused, pairs } = await world.corrupt({ masks, grain: 'model', model: world.path('model') })
    expect([reused, pairs]).toEqual([3, before.pairs])
    await world.write('model/config.json', `${await readFile(join(golden, 'config.json'), 'utf8')}\n`)
    const changed = world.corrupt({ masks, grain: 'model', model: world.path('model') })
    await expect(changed).rejects.toThrow(/other settings: model$/)
  })

  it('are not there after a run that made none', async () => {
    await expect(world.corrupt({ fallback: 'error' })).rejects.toThrow('no source has a mask')
    expect((await world.corrupt({ masks })).pairs).toHaveLength(3)
  })
})

describe('what corrupt did not make', () => {
  it('is kept where twins are replaced', async () => {
    const strange = ['settings.json', 'masks/expert1.nii', 'masks/mine.jsonl', 'corrupted/photo.png', 'cache/notes.txt']
    for (const name of strange) await world.write(`out/${name}`, `{"editor.tabSize": "${name}"}`)
    await world.corrupt({ masks })
    await world.corrupt({ masks, sigma: 30, overwrite: true })
    for (const name of strange) expect((await world.read(`out/${name}`)).toString()).toContain(name)
  })

  it('is refused under the names of its results, whatever is asked', async () => {
    const strange = { 'twins.json': '{"editor.tabSize": 2}', 'report.json': '{"settings": {}}', 'pairs.jsonl': '' }
    for (const [name, text] of Object.entries(strange)) {
      await world.write(`${name}-out/${name}`, text)
      for (const overwrite of [false, true]) {
        const refused = world.corrupt({ masks, out: world.path(`${name}-out`), overwrite })
        await expect(refused).rejects.toThrow(`holds ${name}, which this version of corrupt did not write`)
      }
      expect((await world.read(`${name}-out/${name}`)).toString()).toBe(text)
      expect(await readdir(world.path(`${name}-out`))).toEqual([name])
    }
  })

  it('may not be read from among the twins', async () => {
    const { pairs } = await world.corrupt({ masks })
    const mask = pairs[0].corrupted?.masks[0]
    await world.write('out/masks/mine.jsonl', `{"image": "b.png", "mask": "${mask?.slice('masks/'.length)}"}\n`)
    await world.write('far.jsonl', `{"image": "b.png", "mask": "out/${mask}"}\n`)
    const before = await files()
    for (const name of ['out/masks/mine.jsonl', 'far.jsonl']) {
      const read = world.corrupt({ masks: world.path(name), sigma: 30, overwrite: true })
      await expect(read).rejects.toBeInstanceOf(ArgumentError)
    }
    expect(await files()).toEqual(before)
  })
})
