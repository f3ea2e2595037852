/** The lint of lengths sees a long file of code or tests, and no data; the project as it is has none. */
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
// @ts-expect-error a plain script without types
import { findOffences, most } from '../../scripts/lint-length.mjs'
import { folderWith } from '../fakes/world.js'

it('finds nothing here', () => {
  expect(findOffences(fileURLToPath(new URL('../..', import.meta.url)))).toEqual([])
})

it('names the file and says how long it is', async () => {
  const root = await folderWith({
    'src/a/long.ts': 'x\n'.repeat(most + 1),
    'src/a/full.ts': 'x\n'.repeat(most),
    'test/long.test.ts': 'x\n'.repeat(most + 20),
    'test/golden/numbers.json': '1\n'.repeat(most + 1),
    'scripts/long.mjs': 'x\n'.repeat(most + 1),
  })
  expect(findOffences(root).map((each: string) => each.replace(/;.*/, ''))).toEqual([
    'scripts/long.mjs:501: 501 lines, 500 at the most',
    'src/a/long.ts:501: 501 lines, 500 at the most',
    'test/long.test.ts:501: 520 lines, 500 at the most',
  ])
})
