/** Where the models of an evaluation look, on files of questions with boxes. */
import { join } from 'node:path'
import { writeJsonl } from '../../data/jsonl.js'
import type { StageContext } from '../../stage/stage.js'
import { Chat } from '../../text/chat.js'
import { pathFrom } from '../about.js'
import { evaluationFiles } from '../files.js'
import type { GroundingSummary } from '../finished.js'
import type { Models } from '../models.js'
import type { GroundingMap, GroundingRecord } from '../records.js'
import type { AnsweringSystem } from '../systems.js'
import { groundingPresets, measureGrounding } from './measure.js'
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
  const outside = records.filter(({ outside }) => outside > 0).length
  if (outside > 0.01 * records.length) {
    progress.log(
      `warning: boxes of ${outside} of ${records.length} questions leave their image: is the form of the boxes right?`,
    )
  }
  return {
    preset,
    results: groundingResults(records, seed),
    comparisons: compareGrounding(records, baseline, seed),
  }
}
