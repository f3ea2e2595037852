import { dirname, resolve } from 'node:path'
import { z } from 'zod'
import { ArgumentError, DataError, isAbort } from '../../errors.js'
import { generateSettings } from '../../generate/settings.js'
import { inputPath, outputPath, text } from '../../settings/common.js'
import { counted } from '../../text/plural.js'
import { describeAnswers, withoutAnswer } from '../answers.js'
import { type CommandContext, defineCommand, type Outcome } from '../command.js'
import { flag } from '../file-settings.js'
import { catchSignals, type StopRequest } from '../signals.js'

export const generate = defineCommand({
  name: 'generate',
  summary: 'Answer a question about images, or a file of questions',
  settings: generateSettings,
  flags: z.strictObject({
    prompt: z.string().optional().meta({ description: 'One question; the answer streams to stdout' }),
    image: z.array(text).default([]).meta({ description: 'Image file (repeatable)' }),
    in: text.optional().meta(inputPath('JSON Lines of {id, prompt or question, images}')),
    out: text.optional().meta({ ...outputPath('JSON Lines of responses; default: stdout'), needs: 'in' }),
    overwrite: flag('Replace the file of --out', 'out'),
    strict: flag('Stop at the first question without an answer', 'in'),
  }),
  exclusive: [
    ['prompt', 'in'],
    ['image', 'in'],
  ],
  examples: [['generate --model M --image x.png --prompt "Is there an effusion?"', 'one answer, as it comes']],
  notes:
    'With --out, the same command goes on where it was stopped, and asks again the questions without an answer. Exit code 1: no question has an answer.',
  async run(settings, context, { prompt, image, in: source, out, overwrite, strict }) {
    using stop = catchSignals((name) => context.progress.log(`${name}: saving and stopping; again to leave at once`))
    const work = (): Promise<Outcome> => {
      if (prompt !== undefined) return answerOne(settings, prompt, image, stop, context)
      if (source === undefined) throw new ArgumentError('Give --prompt or --in')
      if (out === undefined) return answerToStdout(settings, source, strict, stop, context)
      return answerFile(settings, source, { out, overwrite, strict }, stop, context)
    }
    try {
      return await work()
    } catch (error) {
      if (!isAbort(error, stop.signal)) throw error
      return { text: '', report: {}, stopped: 'stopped', exitCode: stop.exitCode ?? 1 }
    }
  },
})

type Settings = z.output<typeof generateSettings>

async function answerOne(
  { model, adapter, device, dtype, threads, packWeights, ...decoding }: Settings,
  prompt: string,
  images: string[],
  { signal }: StopRequest,
  { stdout, json }: CommandContext,
): Promise<Outcome> {
  const { openEngine } = await import('../../engine/engine.js')
  const { Chat } = await import('../../text/chat.js')
  const { answer } = await import('../../generate/generate.js')
  const { refuseMerged } = await import('../../data/merged.js')
  if (adapter !== undefined) await refuseMerged(model, adapter)
  await using engine = await openEngine({ model, adapter: adapter ?? null, device, dtype, threads, packWeights })
  const chat = await Chat.load(engine.spec.model, engine.info)
  const onText = json ? undefined : (_question: number, said: string): void => stdout(said)
  const question = { id: 'prompt', prompt, images }
  let report = {}
  for await (const response of answer(engine, chat, [question], { ...decoding, adapter: true }, { onText, signal })) {
    if (response.text.trim() === '') throw new DataError('The answer is empty: the model ended it at once')
    report = response
  }
  return { text: '\n', report }
}

/** The questions of a file, and who answers them. */
async function open(settings: Settings, path: string) {
  const { engineAnswerer } = await import('../../sample/index.js')
  const { countFileQuestions, fileQuestions } = await import('../../sample/question-file.js')
  const total = await countFileQuestions(path)
  const { maxNewTokens, temperature, topP, topK, stop, seed, ...rest } = settings
  const { model, adapter = null, dtype, device, threads, packWeights, batchSize, beyondContext } = rest
  const imageRoot = dirname(resolve(path))
  const answerer = await engineAnswerer(
    { model, adapter, dtype, device, threads, packWeights, batchSize, beyondContext, imageRoot },
    { maxNewTokens, temperature, topP, topK, stop, seed },
  )
  return { total, asked: () => fileQuestions(path, imageRoot, seed), answerer }
}

async function answerToStdout(
  settings: Settings,
  path: string,
  strict: boolean,
  { signal }: StopRequest,
  { stdout, note, json }: CommandContext,
): Promise<Outcome> {
  const { heard, noAnswer } = await import('../../sample/answerer.js')
  const { strictError } = await import('../../sample/sample.js')
  const { total, asked, answerer } = await open(settings, path)
  const responses: object[] = []
  let failed = 0
  for await (const outcome of answerer.answer(asked(), signal)) {
    const result = heard(outcome)
    if ('reason' in result) {
      if (strict) throw strictError(result)
      note(`record ${result.sampleId}: ${result.reason}\n`)
      failed += 1
    } else if (json) responses.push(result)
    else stdout(`${JSON.stringify(result)}\n`)
  }
  const answers = total - failed
  if (answers > 0 && failed > 0) note(`${withoutAnswer(failed)}\n`)
  return { text: '', report: { answers, failed, responses }, problem: answers === 0 ? noAnswer() : undefined }
}

async function answerFile(
  settings: Settings,
  path: string,
  how: { out: string; overwrite: boolean; strict: boolean },
  { signal, exitCode }: StopRequest,
  { progress }: CommandContext,
): Promise<Outcome> {
  const { collectAnswers } = await import('../../sample/sample.js')
  const { namingFirst, noAnswer } = await import('../../sample/answerer.js')
  const { total, asked, answerer } = await open(settings, path)
  const report = await collectAnswers({ asked, total, ...how, from: path }, answerer, {
    signal,
    onStart(done) {
      progress.start('generate', total, 'answers', done)
    },
    onProgress: (done, failed) => progress.update(done, failed > 0 ? `${failed} failed` : undefined),
    onFailure: namingFirst((line) => progress.log(line)),
  })
  if (report.interrupted) {
    const stopped = `stopped; ${counted(report.answers, 'answer')} kept beside ${how.out}; run the same command again to continue`
    return { text: '', report, stopped, exitCode: exitCode ?? 1 }
  }
  const problem = report.answers === 0 ? noAnswer(report.failures) : undefined
  return { text: describeAnswers(report), report, problem }
}
