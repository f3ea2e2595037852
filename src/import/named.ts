/** Image files that a finished import took from beside its source. */
import { existsSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { readJsonl } from '../data/jsonl.js'
import { withoutFrame } from '../data/named.js'
import type { Kind } from './source.js'

const named = z.looseObject({ images: z.array(z.looseObject({ name: z.string().optional() })) })

/** Those of a folder are part of the source, and so are those of a named image root; a file's lie beside it, found by name. */
export async function imagesBeside(source: string, kind: Kind, out: string): Promise<string[]> {
  if (!existsSync(source) || !statSync(source).isFile()) return []
  const folders = new Set(kind.layouts.flatMap(({ imageFolders }) => imageFolders))
  const found = new Set<string>()
  for (const records of ['samples.jsonl', 'pairs.jsonl'].map((name) => join(out, name)).filter(existsSync)) {
    for await (const { record } of readJsonl(records, named)) {
      for (const { name } of record.images) {
        if (name === undefined) continue
        const places = [...folders].map((folder) =>
          withoutFrame(join(dirname(source), folder, name.replaceAll('\\', '/'))),
        )
        found.add(places.find(existsSync) ?? places[0])
      }
    }
  }
  return [...found]
}
