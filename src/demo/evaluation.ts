/** Questions to the model, and a round of answers to the held-out ones, judged by rule. */
import { join } from 'node:path'
import { writeJsonl } from '../data/jsonl.js'
import type { Response } from '../data/records.js'
import type { JudgedAnswer, ProbedModel } from '../evaluate/index.js'
import { answer, type GenerateSettings } from '../generate/generate.js'
import { judge } from '../phantom/index.js'
import type { DemoItem } from './dataset.js'
import type { Update } from './stages.js'

/** A model that can be asked about the pictures of a demo. */
export interface DemoModel extends ProbedModel {
  /** What responses and pairs call it. */
  name: string
  signal: AbortSignal | undefined
}

/** One response an item, in their order. */
export async function askAll(
  { engine, chat, imageRoot, name, signal }: DemoModel,
  items: readonly DemoItem[],
  settings: GenerateSettings,
  update: Update,
): Promise<Response[]> {
  const questions = items.map(({ sample }) => ({
    id: sample.id,
    prompt: sample.question,
    images: sample.images.map((image) => join(imageRoot, image.path)),
  }))
  const responses: Response[] = []
  for await (const response of answer(engine, chat, questions, settings, { signal })) {
    responses.push({ ...response, model: name })
    update(responses.length)
  }
  return responses
}

/** Greedy answers to all items, judged; written to `path`, one a line. */
export async function evaluateRound(
  model: DemoModel,
  items: readonly DemoItem[],
  round: { settings: Pick<GenerateSettings, 'maxNewTokens' | 'batchSize' | 'adapter'>; path: string },
  update: Update,
): Promise<JudgedAnswer[]> {
  const greedy = { ...round.settings, temperature: 0, topP: 1, topK: 0, seed: 0 }
  const responses = await askAll(model, items, greedy, update)
  const judged = items.map((item, i) => judgeAnswer(item, responses[i].text))
  await writeJsonl(round.path, judged)
  return judged
}

function judgeAnswer({ study, question }: DemoItem, text: string): JudgedAnswer {
  return {
    questionId: question.id,
    imageId: study.id,
    task: question.task,
    answerType: question.answerType,
    ask: question.truth.ask.intent,
    concept: question.concept,
    text,
    ...judge(study, question, text),
  }
}
