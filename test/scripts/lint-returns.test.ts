import { describe, expect, it } from 'vitest'
// @ts-expect-error a plain script without types
import { findOffences } from '../../scripts/lint-returns.mjs'
import { folderWith } from '../fakes/world.js'

const begin = 'declare const lock: AsyncDisposable\ndeclare function work(): Promise<number>\n'

/** Lines of the offences in the body of a function. */
async function linesIn(body: string): Promise<number[]> {
  const root = await folderWith({ 'src/a.ts': `${begin}export async function run() {\n${body}\n}\n` })
  return (findOffences(root) as string[]).map((offence) => Number(/^src\/a\.ts:(\d+): /.exec(offence)?.[1]))
}

describe('a promise that is returned', () => {
  it.each([
    ['under a lock', 'await using held = lock\nreturn work()', [5]],
    ['in a block under a lock', 'await using held = lock\nif (held) {\n  return work()\n}\nreturn 1', [6]],
    ['before finally', 'try {\n  return work()\n} finally {\n  console.log(1)\n}', [5]],
    ['past its catch', 'try {\n  return work()\n} catch {\n  return 1\n}', [5]],
    ['in one branch', 'using held = { [Symbol.dispose]() {} }\nreturn held ? 1 : work()', [5]],
  ])('is found: %s', async (_, body, lines) => {
    expect(await linesIn(body)).toEqual(lines)
  })

  it.each([
    ['awaited', 'await using held = lock\nreturn await work()'],
    ['before the lock', 'if (work) return work()\nawait using held = lock\nreturn 1'],
    ['after the block of the lock', '{\n  await using held = lock\n}\nreturn work()'],
    [
      'by a function in it',
      'await using held = lock\nconst later = () => {\n  return work()\n}\nawait later()\nreturn 1',
    ],
    ['from catch', 'try {\n  await work()\n} catch {\n  return work()\n}\nreturn 1'],
  ])('is none: %s', async (_, body) => {
    expect(await linesIn(body)).toEqual([])
  })
})
