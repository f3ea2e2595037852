/** The folder of a demo: what is in it, and when it may be written to. */
import { mkdir, readdir, rm } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { writeFileAtomic } from '../data/files.js'
import { FileError, fileError } from '../errors.js'

/** Marks a folder as a demo's own, so that it may be replaced by the next one. */
const MARKER = 'fire-demo.json'

export interface DemoFolder {
  root: string
  /** Where the three kinds of pictures lie; records name them relative to `root`. */
  images: 'images'
  corrupted: 'corrupted'
  masks: 'masks'
  samples: string
  responses: string
  pairs: string
  before: string
  after: string
  /** The training run: resolved configuration, metrics, adapter. */
  training: string
  results: string
  report: string
}

const layout = (root: string): DemoFolder => ({
  root,
  images: 'images',
  corrupted: 'corrupted',
  masks: 'masks',
  samples: join(root, 'samples.jsonl'),
  responses: join(root, 'responses.jsonl'),
  pairs: join(root, 'pairs.jsonl'),
  before: join(root, 'before.jsonl'),
  after: join(root, 'after.jsonl'),
  training: join(root, 'training'),
  results: join(root, 'results.json'),
  report: join(root, 'report.html'),
})

/**
 * Makes the folder ready. One that a demo wrote before is emptied of the demo's own files; anything else that is not an
 * empty folder is left alone.
 *
 * @param about written to the marker: what the folder is of.
 * @throws FileError when the folder holds something else.
 */
export async function prepareFolder(out: string, about: Record<string, unknown>): Promise<DemoFolder> {
  const folder = layout(resolve(out))
  try {
    const names = await readdir(folder.root).catch(missingIsEmpty)
    if (names.length > 0 && !names.includes(MARKER)) throw foreign(folder.root)
    for (const path of Object.values(folder)) {
      if (path !== folder.root && names.includes(basename(path)))
        await rm(join(folder.root, basename(path)), { recursive: true })
    }
    for (const name of [folder.images, folder.corrupted, folder.masks]) {
      await mkdir(join(folder.root, name), { recursive: true })
    }
  } catch (error) {
    throw fileError(error, 'Preparing', folder.root)
  }
  await writeFileAtomic(join(folder.root, MARKER), `${JSON.stringify(about, null, 2)}\n`)
  return folder
}

function missingIsEmpty(error: NodeJS.ErrnoException): string[] {
  if (error.code === 'ENOENT') return []
  throw error
}

function foreign(path: string): FileError {
  return new FileError(`${path} holds files that no demo wrote`, {
    detail: { path },
    hint: 'Name a new or empty folder with --out.',
  })
}
