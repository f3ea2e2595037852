/** Files that a record or manifest names: only those inside its folder, whatever links and dots the name has. */
import { realpath } from 'node:fs/promises'
import { isAbsolute, relative, resolve, sep } from 'node:path'
import { readPlainFile } from '../../data/plain-file.js'
import { atPlace, DataError, fileError } from '../../errors.js'

/**
 * The bytes of a file under `root`.
 * @param name relative to `base`. @param place starts every message.
 * @throws {DataError} when it lies elsewhere, directly or through a link, is no plain file, or is too large.
 * @throws {FileError} when it cannot be read.
 */
export async function readInside(root: string, name: string, place: string, base = root): Promise<Buffer> {
  const path = resolve(base, name)
  const outside = (): DataError =>
    new DataError(`${place}: ${JSON.stringify(name)} is not inside ${root}`, {
      detail: { root, name },
      hint: 'Masks are read from one folder only: move them there, or name a folder around both with --mask-root.',
    })
  if (isOutside(root, path)) throw outside()
  try {
    const real = await realpath(path)
    if (isOutside(await realpath(root), real)) throw outside()
    return await readPlainFile(real).catch(atPlace(place))
  } catch (error) {
    throw error instanceof DataError ? error : fileError(error, `${place}: reading the mask`, path)
  }
}

function isOutside(root: string, path: string): boolean {
  const way = relative(resolve(root), path)
  return way === '..' || way.startsWith(`..${sep}`) || isAbsolute(way)
}
