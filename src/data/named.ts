/** Image files that records name: their content decides results, and the records' file does not tell when it changed. */
import { existsSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { z } from 'zod'
import { scanJsonl } from './jsonl.js'

const images = z.array(z.looseObject({ path: z.string() }))

const naming = z.looseObject({
  id: z.string(),
  images,
  corrupted: z.looseObject({ images }).optional(),
})

/**
 * The files, each once; lines that are no records are left to whoever reads them in earnest.
 * @param folder that the paths are relative to; default: that of the records
 * @param without ids of records that do not count
 */
export async function imagesNamedIn(
  records: string,
  folder: string = dirname(records),
  without: ReadonlySet<string> = new Set(),
): Promise<string[]> {
  const paths = new Set<string>()
  if (!existsSync(records)) return []
  for await (const { value } of sound(records)) {
    const { data } = naming.safeParse(value)
    if (!data || without.has(data.id)) continue
    for (const { path } of [...data.images, ...(data.corrupted?.images ?? [])])
      paths.add(withoutFrame(resolve(folder, path)))
  }
  return [...paths]
}

async function* sound(path: string): AsyncGenerator<{ value: unknown }> {
  for await (const scanned of scanJsonl(path)) if (scanned.problem === undefined) yield scanned
}

/** `scan.dcm#3` is the third frame of `scan.dcm`, unless a file is called so. */
export function withoutFrame(path: string): string {
  const [, file] = /^(.+)#[1-9]\d*$/.exec(path) ?? []
  return file === undefined || existsSync(path) ? path : file
}
