import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { decodeImage } from '../../src/data/images.js'
import { readJsonl } from '../../src/data/jsonl.js'
import { loadPairs } from '../../src/data/pairs.js'
import { response, sample } from '../../src/data/records.js'
import type { DemoProgress } from '../../src/demo/index.js'
import { type DemoResult, runDemo } from '../../src/demo/index.js'
import { removeScratch, scratchFolder, type Talker, talker } from './talker.js'

const settings = { trainStudies: 6, testStudies: 12, attentionQuestions: 5, loraRank: 4 }
const silent: DemoProgress = { start() {}, update() {}, end() {}, log() {} }

async function records<T>(path: string): Promise<T[]> {
  return (await readFile(path, 'utf8'))
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as T)
}

afterAll(removeScratch)

describe('runDemo', () => {
  let world: Talker
  let out: string
  let result: DemoResult
  const lines: string[] = []

  beforeAll(async () => {
    world = await talker(3, { train: 6, test: 12 })
    out = join(await scratchFolder(), 'demo')
    const progress = {
      ...silent,
      start: (title: string, total: number, unit = '') => lines.push(`${title}: ${total} ${unit}`),
    }
    result = await runDemo({ out, seed: 3, model: world.model, settings }, { native: world.native, progress })
  })

  it('goes through every stage and says so', () => {
    expect(lines.map((line) => line.split(':')[0])).toEqual([
      'Making radiographs',
      'Answering the held-out questions',
      'Sampling own answers',
      'Building pairs',
      'Training',
      'Answering them again',
      'Probing attention',
    ])
  })

  it('leaves records that the other commands read', async () => {
    const loaded = await loadPairs(join(out, 'pairs.jsonl'), { emptyPhrase: 'error' })
    expect(loaded.counts.read).toBeGreaterThan(10)
    expect(loaded.counts).toMatchObject({
      kept: loaded.counts.read,
      identical: 0,
      withoutCorrupted: 0,
      corruptedSameAsClean: 0,
    })
    let [samples, responses] = [0, 0]
    for await (const _ of readJsonl(join(out, 'samples.jsonl'), sample)) samples++
    for await (const _ of readJsonl(join(out, 'responses.jsonl'), response)) responses++
    expect(samples).toBeGreaterThan(responses)
    expect(await readdir(join(out, 'training'))).toEqual(
      expect.arrayContaining(['adapter', 'config.resolved.yaml', 'metrics.jsonl']),
    )
  })

  it('keeps the model’s own words on one side of every pair and noise under the mask', async () => {
    const { pairs } = await loadPairs(join(out, 'pairs.jsonl'), { emptyPhrase: 'error' })
    const said = new Map(
      (await records<{ sampleId: string; text: string }>(join(out, 'responses.jsonl'))).map((r) => [
        r.sampleId,
        r.text,
      ]),
    )
    for (const pair of pairs) {
      expect(pair[pair.origin === 'repaired' ? 'rejected' : 'chosen']).toBe(said.get(pair.sampleId))
    }
    const [pair] = pairs.filter((candidate) => candidate.corrupted?.masks.length)
    const [clean, noisy, mask] = await Promise.all(
      [pair.images[0].path, pair.corrupted!.images[0].path, pair.corrupted!.masks[0]].map((path) =>
        decodeImage(join(out, path)),
      ),
    )
    const changed = clean.rgb.map((value, i) => (value === noisy.rgb[i] ? 0 : 1))
    expect(changed.some(Boolean)).toBe(true)
    expect(changed.every((change, i) => !change || mask.rgb[i] === 255)).toBe(true)
  })

  it('concludes from the numbers, in results and report alike', async () => {
    const [overall] = result.comparisons
    const before = await records<{ correct: boolean }>(join(out, 'before.jsonl'))
    const after = await records<{ correct: boolean }>(join(out, 'after.jsonl'))
    expect(overall.before.successes).toBe(before.filter((answer) => answer.correct).length)
    expect(overall.after.successes).toBe(after.filter((answer) => answer.correct).length)
    expect(result.conclusion).toBe('A significant gain in accuracy')
    const results = JSON.parse(await readFile(result.results, 'utf8'))
    expect(results).toMatchObject({ seed: 3, objective: 'fire', settings })
    expect(results.accuracy).toEqual(JSON.parse(JSON.stringify(result.comparisons)))
    expect(result.comparisons.slice(0, 3).map((group) => group.name)).toEqual(['overall', 'closed', 'open'])
    const page = (await readFile(result.report, 'utf8')).replace(/base64,[^"]*/g, '')
    expect(page).toContain(result.conclusion)
    expect(page).toContain('Attention over the image')
    expect(page).toContain('name: fire')
    expect(page).not.toMatch(/NaN|undefined</)
  })

  it('is the same again, in its own folder', async () => {
    const pairs = await readFile(join(out, 'pairs.jsonl'), 'utf8')
    const again = await runDemo(
      { out, seed: 3, model: world.model, settings },
      { native: world.native, progress: silent },
    )
    expect(await readFile(join(out, 'pairs.jsonl'), 'utf8')).toBe(pairs)
    expect(again.comparisons).toEqual(result.comparisons)
  })

  it.each(['dpo', 'sft', 'mdpo'] as const)('runs with the objective %s', async (objective) => {
    const folder = join(await scratchFolder(), 'demo')
    const other = await runDemo(
      { out: folder, seed: 3, objective, model: world.model, settings },
      { native: world.native, progress: silent },
    )
    expect(await readFile(other.report, 'utf8')).toContain(`fire-train demo: ${objective}`)
  })
})

describe('a demo that cannot go on', () => {
  it('leaves a folder alone that no demo wrote', async () => {
    const out = await scratchFolder()
    await writeFile(join(out, 'thesis.tex'), 'precious')
    await expect(runDemo({ out }, { progress: silent })).rejects.toMatchObject({
      name: 'FileError',
      hint: expect.stringContaining('--out'),
    })
    expect(await readdir(out)).toEqual(['thesis.tex'])
  })

  it('replaces only its own files', async () => {
    const out = await scratchFolder()
    await writeFile(join(out, 'fire-demo.json'), '{}')
    await writeFile(join(out, 'report.html'), 'old')
    await mkdir(join(out, 'notes'))
    const controller = new AbortController()
    controller.abort()
    await expect(runDemo({ out }, { progress: silent, signal: controller.signal })).rejects.toMatchObject({
      code: 'ERR_FIRE_ABORTED',
    })
    expect(existsSync(join(out, 'report.html'))).toBe(false)
    expect(existsSync(join(out, 'notes'))).toBe(true)
  })

  it('names the stage it was stopped in and leaves whole files', async () => {
    const world = await talker(4, { train: 6, test: 12 })
    const out = join(await scratchFolder(), 'demo')
    const controller = new AbortController()
    world.onGenerate = () => {
      if (existsSync(join(out, 'before.jsonl'))) controller.abort()
    }
    const run = runDemo(
      { out, seed: 4, model: world.model, settings },
      { native: world.native, progress: silent, signal: controller.signal },
    )
    await expect(run).rejects.toMatchObject({
      code: 'ERR_FIRE_ABORTED',
      message: 'Stopped during "Sampling own answers"; finished: Making radiographs, Answering the held-out questions',
    })
    expect(await records(join(out, 'before.jsonl'))).not.toHaveLength(0)
    expect(existsSync(join(out, 'responses.jsonl'))).toBe(false)
  })
})
