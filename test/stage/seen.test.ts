/** A file that another machine wrote, which a shared folder may show late. */
import { appendFile, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { FileError } from '../../src/errors.js'
import { contentOf, untilSeen } from '../../src/stage/split.js'
import { temporaryFolder } from '../fakes/world.js'

afterEach(() => {
  vi.restoreAllMocks()
})

const pathOf = async (name: string): Promise<string> => join(await temporaryFolder(), name)

/** What was there when the waiting ended, and whether it had ended before the change. */
async function seen(path: string, content: Awaited<ReturnType<typeof contentOf>>, change: () => Promise<void>) {
  let isEarly = true
  const waiting = untilSeen(path, content).then(async () => ({ isEarly, text: await readFile(path, 'utf8') }))
  await sleep(250)
  isEarly = false
  await change()
  return waiting
}

describe('untilSeen', () => {
  it.each(['', 'old', 'of old, and longer'])('waits for what was written over what there was: %j', async (old) => {
    const path = await pathOf('results.json')
    await writeFile(path, 'new')
    const content = await contentOf(path)
    await writeFile(path, old)
    expect(await seen(path, content, () => writeFile(path, 'new'))).toEqual({ isEarly: false, text: 'new' })
  })

  it('waits for an empty file too', async () => {
    const path = await pathOf('pairs.jsonl')
    await writeFile(path, '')
    const content = await contentOf(path)
    await writeFile(path, 'old')
    expect(await seen(path, content, () => writeFile(path, ''))).toEqual({ isEarly: false, text: '' })
  })

  it('takes a file that only grows once it is as long', async () => {
    const path = await pathOf('part')
    await writeFile(path, 'one\n')
    const appended = () => appendFile(path, 'two\n')
    expect(await seen(path, { bytes: 8 }, appended)).toEqual({ isEarly: false, text: 'one\ntwo\n' })
  })

  it.each([
    [undefined, 'is not there here'],
    ['old', 'has other content here'],
    ['older', 'has 5 bytes here'],
  ])('says after a minute what is here instead: %j', async (old, words) => {
    const path = await pathOf('results.json')
    if (old !== undefined) await writeFile(path, old)
    const started = Date.now()
    const now = vi
      .spyOn(Date, 'now')
      .mockReturnValueOnce(started)
      .mockReturnValue(started + 60_001)
    const error = await untilSeen(path, { bytes: 3, sha256: '0'.repeat(64) }).catch((reason) => reason)
    expect(now).toHaveBeenCalled()
    expect(error).toBeInstanceOf(FileError)
    expect(error.message).toBe(`${path} ${words}; where it was written it has 3 bytes`)
  })
})
