/** The lint of lengths sees a long file of code or tests, and no data; the project as it is has none. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
// @ts-expect-error a plain script without types
import { findOffences, most } from '../../scripts/lint-length.mjs'
import { temporaryFolder } from '../fakes/world.js'

it('finds nothing here', () => {
  expect(findOffences(fileURLToPath(new URL('../..', import.meta.url)))).toEqual([])
})

it('names the file and says how long it is', async () => {
  const root = await temporaryFolder()
  for (const [path, count] of [
    ['src/a/long.ts', most + 1],
    ['src/a/full.ts', most],
    ['test/long.test.ts', most + 20],
    ['test/golden/numbers.json', most + 1],
    ['scripts/long.mjs', most + 1],
  ]) {
    await mkdir(join(root, path, '..'), { recursive: true })
    await writeFile(join(root, path), 'x\n'.repeat(count))
  }
  expect(findOffences(root).map((each: string) => each.replace(/;.*/, ''))).toEqual([
    'scripts/long.mjs:501: 501 lines, 500 at the most',
    'src/a/long.ts:501: 501 lines, 500 at the most',
    'test/long.test.ts:501: 520 lines, 500 at the most',
  ])
})
