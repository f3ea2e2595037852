/** Files that a record or manifest names: only those inside its folder, whatever links and dots the name has. */
import { open, realpath } from 'node:fs/promises'
import { isAbsolute, relative, resolve, sep } from 'node:path'
import { DataError, fileError } from '../../errors.js'

/** No mask is larger; also keeps devices and endless files out. */
const largestFile = 2 ** 30

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
    const file = await open(real, 'r')
    try {
      const status = await file.stat()
      if (!status.isFile()) throw new DataError(`${place}: ${path} is not a plain file`)
      if (status.size > largestFile) throw new DataError(`${place}: ${path} has ${status.size} bytes`)
      return await file.readFile()
    } finally {
      await file.close()
    }
  } catch (error) {
    throw error instanceof DataError ? error : fileError(error, `${place}: reading the mask`, path)
  }
}

function isOutside(root: string, path: string): boolean {
  const way = relative(resolve(root), path)
  return way === '..' || way.startsWith(`..${sep}`) || isAbsolute(way)
}
