/** What a second judging takes over from the first: what models looked at does not depend on who judges their answers. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { z } from 'zod'
import { readJsonl, writeJsonl } from '../data/jsonl.js'
import type { StageContext } from '../stage/stage.js'
import { evaluationFiles } from './files.js'
import type { EvaluationResults } from './finished.js'
import { probedQuestion } from './grounding.js'
import { hiddenAnswers } from './hidden.js'
import { groundingMap, groundingRecord } from './records.js'

/** The records of a file of an evaluation; none where it is not there. */
export async function recordsIn<T>(path: string, schema: z.ZodType<T>): Promise<T[]> {
  const records: T[] = []
  if (existsSync(path)) for await (const { record } of readJsonl(path, schema)) records.push(record)
  return records
}

/**
 * Copies grounding, attention and hidden lesions with the paths of their pictures from the new folder; the pictures stay where they are.
 * @param moved a path of the old folder, from the new one.
 */
export async function carryOver(
  folder: string,
  out: string,
  before: Pick<EvaluationResults, 'attention' | 'hidden' | 'grounding'>,
  moved: (place: string) => string,
  { progress }: Pick<StageContext, 'progress'>,
): Promise<Pick<EvaluationResults, 'attention' | 'hidden' | 'grounding'>> {
  const copy = async <T>(name: string, schema: z.ZodType<T>, move: (record: T) => T): Promise<T[]> => {
    const records = (await recordsIn(join(folder, name), schema)).map(move)
    await writeJsonl(join(out, name), records)
    return records
  }
  const place = <T extends { path: string }>(image: T): T => ({ ...image, path: moved(image.path) })
  await copy(evaluationFiles.grounding, groundingRecord, (record) => record)
  await copy(evaluationFiles.maps, groundingMap, (map) => ({ ...map, image: place(map.image) }))
  await copy(evaluationFiles.attention, probedQuestion, (probed) => {
    return { ...probed, image: place(probed.image), mask: moved(probed.mask) }
  })
  const hidden = await copy(evaluationFiles.hidden, hiddenAnswers, (answers) => {
    return { ...answers, image: place(answers.image), twin: place(answers.twin), mask: moved(answers.mask) }
  })
  if (hidden.length > 0) progress.log('answers with the lesion hidden keep their verdicts: they are not judged again')
  const { attention, grounding } = before
  return { attention, hidden: before.hidden, grounding }
}
