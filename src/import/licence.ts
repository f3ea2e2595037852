/** The terms of a source, kept beside the data made of it. */
import { copyFile, mkdir, readdir, realpath, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Kind } from './source.js'

const noticeNames = /^(licen[cs]e|readme|copying|notice|citation)\b/i
const largestNotice = 2 ** 20

/** `LICENSE.md` says what is known of this kind of data; README and licence files of the source go to `source/`. */
export async function keepLicence(kind: Kind, folder: string, out: string): Promise<void> {
  const copied: string[] = []
  for (const name of (await readdir(folder)).filter((entry) => noticeNames.test(entry)).sort()) {
    const path = join(folder, name)
    const status = await stat(path).catch(() => undefined)
    if (
      !status?.isFile() ||
      status.size > largestNotice ||
      (await realpath(path)) !== join(await realpath(folder), name)
    )
      continue
    await mkdir(join(out, 'source'), { recursive: true })
    await copyFile(path, join(out, 'source', name))
    copied.push(`- source/${name}`)
  }
  const files = copied.length === 0 ? [] : ['', 'Beside the source lay:', '', ...copied]
  await writeFile(
    join(out, 'LICENSE.md'),
    [`# Terms of this data (${kind.name})`, '', kind.licence, ...files, ''].join('\n'),
  )
}
