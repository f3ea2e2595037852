/** Which files this process has open, as Linux tells. */
import { readdir, readlink } from 'node:fs/promises'

export const canListOpenFiles = process.platform === 'linux'

/** Their paths, of those below a folder. */
export async function openFilesBelow(folder: string): Promise<string[]> {
  const all = await Promise.all(
    (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => '')),
  )
  return all.filter((path) => path.startsWith(folder)).sort()
}
