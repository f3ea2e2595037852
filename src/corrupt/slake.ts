/**
 * The masks of SLAKE: beside `imgs/xmlabN/source.jpg` lie `mask.png`, whose grey levels are class ids, and
 * `detection.json`, a list of {label: [x, y, width, height]}; `mask.txt` at the top names the ids, a line `id:label` each.
 * Ids are sparse and differ between releases, so without `mask.txt` the boxes are used and no id is guessed.
 */
import { existsSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { z } from 'zod'
import { DataError, guarded } from '../errors.js'
import { readInside } from './masks/paths.js'

export interface SlakeFolder {
  /** Folder that files are read from. */
  root: string
  /** Names relative to `root`; absent where there is no such file. */
  mask?: string
  detection?: string
  names?: string
}

/** The files about an image, or `undefined` when its folder is not one of SLAKE's. @param top folder of another copy. */
export function findSlake(imagePath: string, top?: string): SlakeFolder | undefined {
  const study = basename(dirname(imagePath))
  if (!/^xmlab\d+$/.test(study)) return undefined
  const root = top ?? dirname(dirname(dirname(imagePath)))
  const first = (...names: string[]): string | undefined => names.find((name) => existsSync(join(root, name)))
  const within = (name: string): string[] =>
    ['imgs', basename(dirname(dirname(imagePath))), '.'].map((folder) => join(folder, study, name))
  const mask = first(...within('mask.png'), ...within(`mask_${study}.png`))
  const detection = first(...within('detection.json'))
  if (!mask && !detection) return undefined
  return { root, mask, detection, names: first('mask.txt', join('imgs', 'mask.txt')) }
}

/** Ids by label; a label may have several. @throws {DataError} at a line that is not `id:label`. */
export async function readClassNames(root: string, file: string): Promise<Map<string, number[]>> {
  const ids = new Map<string, number[]>()
  const text = (await readInside(root, file, file)).toString('utf8').replace(/^\ufeff/, '')
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === '') continue
    const [, id, label] = /^\s*(\d+)\s*[:：]\s*(.+?)\s*$/.exec(line) ?? []
    if (id === undefined)
      throw new DataError(`${join(root, file)}:${index + 1}: expected "id:label", not ${JSON.stringify(line)}`)
    ids.set(label, [...(ids.get(label) ?? []), Number(id)])
  }
  return ids
}

const detections = z.array(z.record(z.string(), z.tuple([z.number(), z.number(), z.number(), z.number()])))

/** Boxes [x, y, width, height] by label. @throws {DataError} when the file is not such a list. */
export async function readDetections(root: string, file: string): Promise<Map<string, number[][]>> {
  const path = join(root, file)
  const boxes = new Map<string, number[][]>()
  const bytes = await readInside(root, file, file)
  const parsed = guarded(
    () => detections.parse(JSON.parse(bytes.toString('utf8'))),
    (reason, cause) => new DataError(`${path} is no list of {label: [x, y, width, height]}: ${reason}`, { cause }),
  )
  for (const [label, box] of parsed.flatMap(Object.entries)) boxes.set(label, [...(boxes.get(label) ?? []), box])
  return boxes
}
