/** What a finished evaluation asked for and did not get; the same command asks again. */
import { join } from 'node:path'
import { counted } from '../text/plural.js'
import { evaluationFiles } from './files.js'
import { readEvaluation, recordsIn } from './finished.js'
import { prediction, priorRecord } from './records.js'

/** In words, as in "2 questions have no answer yet"; undefined where nothing is open. Files that other programs answered in are as they are. */
export async function unfinishedOf(out: string): Promise<string | undefined> {
  const { systems, judging, reports } = await readEvaluation(out)
  const asked = new Set(systems.flatMap(({ name, about }) => (about.kind === 'file' ? [] : [name])))
  const answers = [
    ...(await recordsIn(join(out, evaluationFiles.predictions), prediction)),
    ...(await recordsIn(join(out, evaluationFiles.priors), priorRecord)),
  ]
  const unanswered = answers.filter(({ system, text }) => text === null && asked.has(system)).length
  const requests = [
    judging.judge?.failed,
    judging.second?.failed,
    ...(reports?.systems ?? []).map((each) => each.green?.failed),
  ]
  const failed = requests.reduce<number>((sum, each) => sum + (each ?? 0), 0)
  const left = [
    ...(unanswered > 0 ? [`${counted(unanswered, 'question has', 'questions have')} no answer yet`] : []),
    ...(failed > 0 ? [`${counted(failed, 'request')} to judges failed`] : []),
  ]
  return left.length > 0 ? left.join(', ') : undefined
}

/** Questions that nobody answered: whatever becomes of their images, they are asked again. */
export async function unansweredIds(out: string): Promise<Set<string>> {
  const answers = await recordsIn(join(out, evaluationFiles.predictions), prediction)
  const answered = new Set(answers.flatMap(({ sampleId, text }) => (text === null ? [] : [sampleId])))
  return new Set(answers.flatMap(({ sampleId }) => (answered.has(sampleId) ? [] : [sampleId])))
}
