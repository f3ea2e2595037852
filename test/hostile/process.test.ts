/** What would end the process from outside: a worker terminated in a call, a weights file cut under an open engine. */
import { execFileSync } from 'node:child_process'
import { cpSync, mkdtempSync, renameSync, statSync, truncateSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { type Engine, openEngine } from '../../src/engine/engine.js'
import { CheckpointError, FireError } from '../../src/errors.js'
import { drawsOf, rounds, timeFor } from './campaign.js'

const phantom = fileURLToPath(new URL('../../models/phantom', import.meta.url))

it('survives workers that are terminated in the middle of calls', { timeout: timeFor(60_000) }, () => {
  const script = fileURLToPath(new URL('terminate.mjs', import.meta.url))
  const count = rounds(12, 400)
  const seed = process.env.FIRE_HOSTILE_SEED ?? '1'
  const said = execFileSync(process.execPath, [script, String(count), seed], { encoding: 'utf8' })
  expect(said).toBe(`${count} terminated\n`)
})

describe('weights that change under an open engine', () => {
  const ids = Int32Array.from({ length: 20 }, (_, index) => 10 + index)
  const copy = (): string => {
    const folder = mkdtempSync(join(process.env.FIRE_TEST_FOLDER ?? tmpdir(), 'weights-'))
    cpSync(phantom, folder, { recursive: true })
    return folder
  }
  const score = (engine: Engine): Promise<Float32Array[]> => engine.logprobs([{ ids, images: [] }])

  it.each([0, 100, 100_000, 4_000_000])('are an error that names the file when cut to %i bytes', async (size) => {
    const model = copy()
    const weights = join(model, 'model.safetensors')
    await using engine = await openEngine({ model, threads: 1 })
    truncateSync(weights, size)
    const error = await score(engine).catch((reason) => reason)
    expect(error).toBeInstanceOf(CheckpointError)
    expect(error.message).toContain(`${weights} was cut from ${statSync(join(phantom, 'model.safetensors')).size}`)
  })

  it('are an error when written to, and none when another file took the name', async () => {
    const model = copy()
    const weights = join(model, 'model.safetensors')
    await using engine = await openEngine({ model, threads: 1 })
    const before = await score(engine)
    const other = copy()
    await using replaced = await openEngine({ model: other, threads: 1 })
    writeFileSync(join(other, 'new'), 'another file')
    renameSync(join(other, 'new'), join(other, 'model.safetensors'))
    expect(await score(replaced)).toEqual(before)
    utimesSync(weights, new Date(), new Date(1e12))
    await expect(score(engine)).rejects.toThrow(/model\.safetensors was written to/)
  })

  it('are an error or unseen when cut at any moment of loading and computing', {
    timeout: timeFor(30_000),
  }, async () => {
    for (let round = 0; round < rounds(15, 300); round += 1) {
      const draws = drawsOf('weights', round)
      const model = copy()
      const cut = (): void => truncateSync(join(model, 'model.safetensors'), draws.integers(1, 0, 4_000_000)[0])
      const later = setTimeout(cut, draws.integers(1, 0, 25)[0])
      const outcome = await openEngine({ model, threads: 2 })
        .then(async (engine) => {
          await using open = engine
          for (let step = 0; step < 8; step += 1) await score(open)
        })
        .catch((error) => error)
      clearTimeout(later)
      if (outcome !== undefined) expect(outcome, `round ${round}`).toBeInstanceOf(FireError)
      if (outcome !== undefined) expect(outcome.code, outcome.message).toMatch(/ERR_FIRE_(IO|CHECKPOINT)/)
    }
  })
})
