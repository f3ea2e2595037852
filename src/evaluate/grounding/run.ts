/** Where the models of an evaluation look, on files of questions with boxes. */
import { join } from 'node:path'
import { writeJsonl } from '../../data/jsonl.js'
import { DataError } from '../../errors.js'
import { alone } from '../../ranks/ranks.js'
import { markOf } from '../../sample/engine.js'
import { neighbours, splitWork } from '../../stage/split.js'
import type { StageContext } from '../../stage/stage.js'
import { Chat } from '../../text/chat.js'
import { pathFrom } from '../about.js'
import { evaluationFiles } from '../files.js'
import type { GroundingSummary } from '../finished.js'
import type { Models } from '../models.js'
import type { GroundingMap, GroundingRecord } from '../records.js'
import type { AnsweringModel, AnsweringSystem } from '../systems.js'
import { type GroundingPreset, groundingPresets, measureGrounding, problemOfImage } from './measure.js'
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

/** A question with boxes, to one of the models. */
interface Asked {
  system: AnsweringModel
  /** What the path of its image is relative to. */
  root: string
  question: GroundingQuestion
}

/** What was measured, with the map where there is one to keep. */
interface Grounded {
  record: GroundingRecord
  map: GroundingMap | null
}

/**
 * Measures every model among the systems, and keeps the maps of a few questions, the same of each model.
 * @param baseline what the others are compared with.
 * @returns null where no files are given, and on all ranks but the first.
 */
export async function groundSystems(
  wanted: GroundingFiles | undefined,
  systems: readonly AnsweringSystem[],
  { out, baseline, seed }: { out: string; baseline: string; seed: number },
  models: Models,
  { signal, progress, ranks = alone }: StageContext,
): Promise<GroundingSummary | null> {
  const places = { records: join(out, evaluationFiles.grounding), maps: join(out, evaluationFiles.maps) }
  const records: GroundingRecord[] = []
  const maps: GroundingMap[] = []
  if (!wanted) {
    if (ranks.rank === 0) for (const path of Object.values(places)) await writeJsonl(path, [])
    return null
  }
  const { files, images, preset, boxFormat } = wanted
  const sets = await readGroundingFiles(files, boxFormat, images)
  const all = sets.flatMap(({ questions }) => questions)
  const mapped = chosenForMaps(all, seed)
  const fromOut = pathFrom(out)
  const asked: Asked[] = []
  const marks = new Map<string, string>()
  for (const system of systems) {
    if (system.kind !== 'model') continue
    marks.set(system.name, await markOf(system.model, system.adapter))
    for (const { questions, root } of sets) {
      asked.push(...byImage(questions).map((question) => ({ system, root, question })))
    }
  }
  progress.start('grounding', asked.length, 'questions')
  await splitWork<Asked, Grounded, null>(ranks, {
    ...{ what: 'grounding', output: places.records, signal, lasting: true, items: () => asked },
    keyOf: ({ system, root, question }) => {
      const isMapped = mapped.has(`${question.kind} ${question.id}`)
      return [system.name, marks.get(system.name), models.dtype, preset, fromOut(root), question, isMapped]
    },
    groupOf,
    work: (items, stop) => measureAll(items, mapped, groundingPresets[preset], models, stop),
    // An image that was not there may be by now.
    holds: ({ record }) => record.skipped === null,
    async finish(found) {
      for await (const { record, map } of found) {
        const { root } = asked[records.length]
        records.push(record)
        if (map) maps.push({ ...map, image: { ...map.image, path: fromOut(join(root, map.image.path)) } })
        progress.update(records.length)
      }
      await writeJsonl(places.records, records)
      await writeJsonl(places.maps, maps)
      return null
    },
    onProgress: (done) => progress.update(done),
  })
  if (ranks.rank > 0) return null
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

const groupOf = ({ system, root, question }: Asked): string => [system.name, root, question.image].join('\n')

/** Image by image, as they are measured. */
function byImage(questions: readonly GroundingQuestion[]): GroundingQuestion[] {
  const found = new Map<string, GroundingQuestion[]>()
  for (const question of questions) found.set(question.image, [...(found.get(question.image) ?? []), question])
  return [...found.values()].flat()
}

async function* measureAll(
  items: AsyncIterable<Asked>,
  mapped: ReadonlySet<string>,
  preset: GroundingPreset,
  models: Models,
  signal?: AbortSignal,
): AsyncGenerator<Grounded> {
  let chat: { of: AnsweringModel; chat: Chat } | undefined
  for await (const together of neighbours(items, groupOf)) {
    const [{ system, root }] = together
    const engine = await models.engine(system)
    if (chat?.of !== system) chat = { of: system, chat: await Chat.load(system.model, engine.info) }
    const looking = { engine, chat: chat.chat, imageRoot: root, adapter: system.adapter !== null }
    let map: GroundingMap | null = null
    const keepMap = (measured: GroundingMap, { id, kind }: GroundingQuestion): void => {
      if (mapped.has(`${kind} ${id}`)) map = measured
    }
    const questions = together.map(({ question }) => question)
    for await (const record of measureGrounding(system.name, questions, looking, preset, signal, keepMap)) {
      yield { record, map }
      map = null
    }
  }
}
