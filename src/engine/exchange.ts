/** Names of files, exchanged by the kernel: Node has no call for it. */
import { NativeBindingError } from '../errors.js'
import { loadNative } from './load.js'

/**
 * Lets two existing files or folders of one file system change names in one step.
 * @returns false where the system, the file system or the addon cannot.
 * @throws {FileError} when it fails otherwise.
 */
export function exchange(first: string, second: string): boolean {
  try {
    return loadNative().exchange(first, second)
  } catch (error) {
    if (error instanceof NativeBindingError) return false
    throw error
  }
}
