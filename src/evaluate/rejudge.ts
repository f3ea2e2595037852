/** A finished evaluation judged again. */
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { deleteAll } from '../data/files.js'
import { readJsonl } from '../data/jsonl.js'
import { lockOutput } from '../data/lock.js'
import { type Sample, sample } from '../data/records.js'
import { ArgumentError } from '../errors.js'
import { silent } from '../stage/progress.js'
import { moveSystem, pathFrom } from './about.js'
import { priorAnswerOf } from './blind.js'
import { carryOver, carryReplies } from './carry.js'
import { checkWhole, refuseOther } from './earlier.js'
import { evaluationFiles, evaluationTraces, writeAnswers } from './files.js'
import { readEvaluation, recordsIn } from './finished.js'
import { countWords } from './groups.js'
import {
  checkJudges,
  countAll,
  describePairs,
  type Evaluated,
  type EvaluationContext,
  type JudgingRequest,
  judgeAll,
  rolesOf,
} from './judging.js'
import { labelRecord, type Prediction, prediction, priorRecord, reportRecord, verdictRecord } from './records.js'

/** How answers of a finished evaluation are judged again. Baseline, primary and margin are those of the first where they are not given. */
export interface RejudgeRequest extends Omit<JudgingRequest, 'margin'> {
  margin?: number
  /** Ask for replies that the first evaluation has once more: how far does a judge agree with itself? */
  anew?: boolean
  /** Replace what an earlier run left. */
  overwrite?: boolean
}

/**
 * Judges the answers of a finished evaluation again, by other rules or another judge, without asking for an answer.
 * @param folder of the finished evaluation; `request.out` is another one.
 * @throws {FileError} when the folder holds none, or `request.out` another one. @throws {DataError} when its files were cut.
 * @throws {ArgumentError} when it would be written over.
 */
export async function rejudge(
  folder: string,
  asking: RejudgeRequest,
  { signal, progress = silent }: EvaluationContext = {},
): Promise<Evaluated> {
  const { out, overwrite, anew } = asking
  checkJudges(asking)
  await using _lock = await lockOutput(out, 'folder', [folder])
  const before = await readEvaluation(folder)
  const { baseline = before.baseline, margin = before.margin } = asking
  // The primary comparison is one with the baseline that it was named with.
  const primary = asking.primary ?? (baseline === before.baseline ? (before.primary ?? undefined) : undefined)
  const request = { ...asking, baseline, margin, primary }
  const samples: Sample[] = []
  for await (const { record } of readJsonl(join(folder, evaluationFiles.samples), sample)) samples.push(record)
  const predictions: Prediction[] = []
  for await (const { record } of readJsonl(join(folder, evaluationFiles.predictions), prediction)) {
    predictions.push(record)
  }
  checkWhole(folder, before, samples, predictions)
  const fromOut = pathFrom(out)
  const moved = (place: string): string => fromOut(resolve(folder, place))
  const about = new Map(before.systems.map((system) => [system.name, moveSystem(system.about, moved)]))
  rolesOf([...about.keys()], request)
  const { asked } = before
  // Which images were trained on does not change with the judge.
  const trained = before.inputs.trainedOn.map(({ path }) => resolve(folder, path)).filter((path) => existsSync(path))
  const trainedOn = request.trainedOn?.length ? request.trainedOn : trained
  const inputs = {
    samples: moved(before.inputs.samples),
    samplesSha256: before.inputs.samplesSha256,
    imageRoot: moved(before.inputs.imageRoot),
    ...(await describePairs(trainedOn, fromOut)),
  }
  if (overwrite) await deleteAll(evaluationTraces(out))
  else await refuseOther({ ...request, systems: [...about.keys()], samples: inputs.samples, asked })
  for (const { cache } of [request.judge, request.green].flatMap((each) => each ?? [])) {
    if (!anew) await carryReplies(folder, cache)
    else if (resolve(cache) === resolve(folder, evaluationFiles.cache)) {
      throw new ArgumentError(`The replies in ${cache} are those of the first judging`, {
        hint: 'Give another --cache, or none: then it is below --out.',
      })
    }
  }
  await writeAnswers(out, samples, predictions)
  const context = { signal, progress }
  const known = await recordsIn(join(folder, evaluationFiles.priors), priorRecord)
  const priors = known.map((record) => priorAnswerOf(record, countWords(record.text ?? '')))
  const answered = { samples, predictions, priors, about, inputs, asked }
  const sameFirst = before.judging.first === (request.truth ? 'truth' : 'rules')
  const looked = await carryOver(folder, out, before, moved, sameFirst, context)
  const judging = { ...request, trainedOn }
  const earlier = {
    reports: {
      records: await recordsIn(join(folder, evaluationFiles.reports), reportRecord),
      green: before.reports?.green ?? null,
    },
    labels: await recordsIn(join(folder, evaluationFiles.labels), labelRecord),
    verdicts: await recordsIn(join(folder, evaluationFiles.verdicts), verdictRecord),
    folder: fromOut(folder),
  }
  return await countAll(answered, await judgeAll(answered, judging, context), looked, judging, context, earlier)
}
