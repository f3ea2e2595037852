/** What a second judging takes over from the first: replies that were paid for, and where models looked. */
import { existsSync } from 'node:fs'
import { cp } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { z } from 'zod'
import { writeJsonl } from '../data/jsonl.js'
import { asFileError } from '../errors.js'
import type { StageContext } from '../stage/stage.js'
import { evaluationFiles } from './files.js'
import { type EvaluationResults, recordsIn } from './finished.js'
import { probedQuestion } from './grounding.js'
import { hiddenAnswers } from './hidden.js'
import { groundingMap, groundingRecord, rewardRecord } from './records.js'

/** Copies the replies that the first evaluation paid for, so that the same question to the same model is free. */
export async function carryReplies(folder: string, cache: string): Promise<void> {
  const paid = join(folder, evaluationFiles.cache)
  if (!existsSync(paid) || resolve(paid) === resolve(cache)) return
  await cp(paid, cache, { recursive: true, force: false }).catch(asFileError('Copying replies to', cache))
}

/**
 * Copies grounding and rewards, and also attention and hidden lesions, whose questions are chosen and judged by the first judge (`truth` or rules),
 * never by a language model; with the paths of their pictures from the new folder; the pictures stay where they are.
 * @param moved a path of the old folder, from the new one.
 * @param sameFirst the first judge is the same as before; else attention and hidden lesions are left out.
 */
export async function carryOver(
  folder: string,
  out: string,
  before: Pick<EvaluationResults, 'attention' | 'hidden' | 'grounding' | 'rewards'>,
  moved: (place: string) => string,
  sameFirst: boolean,
  { progress }: Pick<StageContext, 'progress'>,
): Promise<Pick<EvaluationResults, 'attention' | 'hidden' | 'grounding' | 'rewards'>> {
  const copy = async <T>(name: string, schema: z.ZodType<T>, move: (record: T) => T, keep = true): Promise<void> => {
    const records = await recordsIn(join(folder, name), schema)
    if (!keep && records.length > 0) progress.log(`${name} is left out: it rests on the verdicts of another judge`)
    await writeJsonl(join(out, name), keep ? records.map(move) : [])
  }
  const place = <T extends { path: string }>(image: T): T => ({ ...image, path: moved(image.path) })
  await copy(evaluationFiles.grounding, groundingRecord, (record) => record)
  const inPairs = <T extends { pairs: string }>(of: T): T => ({ ...of, pairs: moved(of.pairs) })
  await copy(evaluationFiles.rewards, rewardRecord, inPairs)
  await copy(evaluationFiles.maps, groundingMap, (map) => ({ ...map, image: place(map.image) }))
  await copy(
    evaluationFiles.attention,
    probedQuestion,
    (probed) => ({ ...probed, image: place(probed.image), mask: moved(probed.mask) }),
    sameFirst,
  )
  await copy(
    evaluationFiles.hidden,
    hiddenAnswers,
    (answers) => ({ ...answers, image: place(answers.image), twin: place(answers.twin), mask: moved(answers.mask) }),
    sameFirst,
  )
  const { attention, hidden, grounding, rewards } = before
  return {
    attention: sameFirst ? attention : null,
    hidden: sameFirst ? hidden : [],
    grounding,
    rewards: rewards.map(inPairs),
  }
}
