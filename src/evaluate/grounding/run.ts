/** Where the models of an evaluation look, on files of questions with boxes. */
import { join } from 'node:path'
import { writeJsonl } from '../../data/jsonl.js'
import { DataError } from '../../errors.js'
import type { StageContext } from '../../stage/stage.js'
import { Chat } from '../../text/chat.js'
import { pathFrom } from '../about.js'
import { evaluationFiles } from '../files.js'
import type { GroundingSummary } from '../finished.js'
import type { Models } from '../models.js'
import type { GroundingMap, GroundingRecord } from '../records.js'
import type { AnsweringSystem } from '../systems.js'
import { groundingPresets, measureGrounding, problemOfImage } from './measure.js'
import { type BoxFormat, chosenForMaps, type GroundingQuestion, readGroundingFiles } from './questions.js'
import { compareGrounding, groundingResults } from './summary.js'

/** Questions with boxes, and how they are measured. */
export interface GroundingFiles {
  files: readonly string[]
  /** What paths of their images are relative to; default: the folder of each file. */
  images?: string
  preset: keyof typeof groundingPresets
  boxFormat: BoxFormat
}

/**
 * Reads the files before anything is asked or computed, and says what of them cannot be measured.
 * @throws {DataError} for a bad record, and when none of the images is there.
 */
export async function checkGrounding(
  wanted: GroundingFiles | undefined,
  progress: StageContext['progress'],
): Promise<void> {
  if (!wanted) return
  const { files, images, boxFormat } = wanted
  const sets = await readGroundingFiles(files, boxFormat, images)
  const missing: { image: string; reason: string }[] = []
  const asked = new Set<string>()
  let [count, repeated] = [0, 0]
  for (const { questions, root } of sets) {
    const reasons = new Map<string, string | null>()
    for (const { image, question, boxes, kind } of questions) {
      count += 1
      if (!reasons.has(image)) reasons.set(image, await problemOfImage(image, root))
      const reason = reasons.get(image)
      if (reason) missing.push({ image, reason })
      const key = JSON.stringify([root, image, question, boxes, kind])
      if (asked.has(key)) repeated += 1
      asked.add(key)
    }
  }
  if (repeated > 0) progress.log(`warning: ${repeated} questions with boxes are there twice, and count twice`)
  const [first] = missing
  if (!first) return
  const said = `${missing.length} of ${count} questions with boxes have no image, first ${first.image}: ${first.reason}`
  if (missing.length === count) {
    throw new DataError(said, { hint: 'Name the folder that the images are relative to with groundingImages.' })
  }
  progress.log(`warning: ${said}; they are left out and counted`)
}

/**
 * Measures every model among the systems, and keeps the maps of a few questions, the same of each model.
 * @param baseline what the others are compared with.
 * @returns null where no files are given.
 */
export async function groundSystems(
  wanted: GroundingFiles | undefined,
  systems: readonly AnsweringSystem[],
  { out, baseline, seed }: { out: string; baseline: string; seed: number },
  models: Models,
  { signal, progress }: StageContext,
): Promise<GroundingSummary | null> {
  const places = { records: join(out, evaluationFiles.grounding), maps: join(out, evaluationFiles.maps) }
  if (!wanted) {
    for (const path of Object.values(places)) await writeJsonl(path, [])
    return null
  }
  const { files, images, preset, boxFormat } = wanted
  const sets = await readGroundingFiles(files, boxFormat, images)
  const all = sets.flatMap(({ questions }) => questions)
  const mapped = chosenForMaps(all, seed)
  const fromOut = pathFrom(out)
  const records: GroundingRecord[] = []
  const maps: GroundingMap[] = []
  for (const system of systems) {
    if (system.kind !== 'model') continue
    const { name, model, adapter } = system
    const engine = await models.engine(system)
    const chat = await Chat.load(model, engine.info)
    progress.start(`${name}: grounding`, all.length, 'questions')
    const before = records.length
    for (const { questions, root } of sets) {
      const looking = { engine, chat, imageRoot: root, adapter: adapter !== null }
      const keepMap = (map: GroundingMap, { id, kind }: GroundingQuestion): void => {
        if (!mapped.has(`${kind} ${id}`)) return
        maps.push({ ...map, image: { ...map.image, path: fromOut(join(root, map.image.path)) } })
      }
      for await (const record of measureGrounding(
        name,
        questions,
        looking,
        groundingPresets[preset],
        signal,
        keepMap,
      )) {
        records.push(record)
        progress.update(records.length - before)
      }
    }
  }
  await writeJsonl(places.records, records)
  await writeJsonl(places.maps, maps)
  // The models are shown the same boxes.
  const outside = new Set(records.flatMap(({ outside, sampleId }) => (outside > 0 ? [sampleId] : []))).size
  if (outside > 0.01 * all.length) {
    progress.log(
      `warning: boxes of ${outside} of ${all.length} questions leave their image: is the form of the boxes right?`,
    )
  }
  return {
    preset,
    results: groundingResults(records, seed),
    comparisons: compareGrounding(records, baseline, seed),
  }
}
