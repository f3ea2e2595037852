/** Files that others name, as images and masks do: plain ones, of a bounded size, that stay as they are while they are read. */
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { DataError } from '../errors.js'

/** No image and no mask is larger. */
const largestFile = 2 ** 30

/**
 * The bytes of a plain file. A pipe or device would block or never end, so it is refused without a read.
 * @throws {DataError} when it is no plain file, above 1 GiB, or changed while it was read. @throws the system's errors.
 */
export async function readPlainFile(path: string): Promise<Buffer> {
  // Without it, opening a pipe waits for a writer.
  await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  const before = await file.stat()
  if (!before.isFile() && !before.isDirectory()) {
    throw new DataError(`${path} is a pipe or device, not a plain file`, { detail: { path } })
  }
  if (before.size > largestFile) {
    throw new DataError(`${path} has ${before.size} bytes; at most ${largestFile} are read`, { detail: { path } })
  }
  const bytes = await file.readFile()
  const after = await file.stat()
  if (bytes.length === before.size && after.size === before.size && after.mtimeMs === before.mtimeMs) return bytes
  throw new DataError(`${path} changed while it was read`, {
    detail: { path },
    hint: 'Run again when no other program writes it.',
  })
}
