/** The runs behind the adapter of `lora.init`. */
import { basename, dirname, join } from 'node:path'
import { parse } from 'yaml'
import { z } from 'zod'
import { readTextIfThere } from '../data/files.js'
import { runFiles } from './run-folder.js'

/** The folder of the run that an adapter lies in; undefined where its place says of none. */
export function runOfAdapter(adapter: string): string | undefined {
  const [name, parent] = [basename(adapter), dirname(adapter)]
  const isOfCheckpoint = name === runFiles.adapter && basename(dirname(parent)) === runFiles.checkpoints
  if (isOfCheckpoint) return dirname(dirname(parent))
  return name === runFiles.adapter || name === runFiles.best ? parent : undefined
}

/** What of config.resolved.yaml, also that of an earlier build, says which images were trained on. */
const settingsOfRun = z.looseObject({
  data: z.looseObject({ evalShare: z.number().nullable().default(null) }),
  lora: z.looseObject({ init: z.string().nullable().default(null) }),
})

/** Whether every run behind the adapter held out at least this share of the images; false where that cannot be known. */
export async function heldOutBefore(adapter: string, share: number): Promise<boolean> {
  const seen = new Set<string>()
  for (let init: string | null = adapter; init !== null; ) {
    const run = runOfAdapter(init)
    // Of two runs that began with one another only the later ones are known.
    if (run === undefined || seen.has(run)) return false
    seen.add(run)
    const settings = await readSettings(run)
    if (!settings || (settings.data.evalShare ?? 0) < share) return false
    init = settings.lora.init
  }
  return true
}

async function readSettings(run: string): Promise<z.output<typeof settingsOfRun> | undefined> {
  const text = await readTextIfThere(join(run, runFiles.config))
  try {
    return text === undefined ? undefined : settingsOfRun.parse(parse(text))
  } catch {
    return undefined
  }
}
