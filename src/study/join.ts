/** Who runs a study in a folder. Several processes may, as long as it is the same study: its results have one name each. */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { heldOutputs, lockOutput } from '../data/lock.js'
import { LockedError } from '../errors.js'
import { studyFiles } from './files.js'

/**
 * Takes part in a study until the result is disposed of.
 * @param id of what is run. `isFirst`: no other process takes part.
 * @throws {LockedError} while another study is run in the folder.
 */
export async function joinStudy(root: string, id: string): Promise<AsyncDisposable & { isFirst: boolean }> {
  const folder = join(root, studyFiles.claims)
  const own = `study-${id}-${randomBytes(4).toString('hex')}`
  const lock = await lockOutput(join(folder, own), 'file')
  try {
    const others = (await heldOutputs(folder)).filter((name) => name.startsWith('study-') && name !== own)
    if (others.some((name) => !name.startsWith(`study-${id}-`))) {
      throw new LockedError(`${root} is being run with other arms, seeds or settings`, {
        detail: { path: root },
        hint: 'Wait until that has ended, stop it, or name another folder.',
      })
    }
    return Object.assign(lock, { isFirst: others.length === 0 })
  } catch (error) {
    await lock[Symbol.asyncDispose]()
    throw error
  }
}
