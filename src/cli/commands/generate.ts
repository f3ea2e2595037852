import { existsSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { z } from 'zod'
import { JsonlAppender } from '../../data/files.js'
import { readJsonl } from '../../data/jsonl.js'
import { lockOutput } from '../../data/lock.js'
import { imageRef } from '../../data/records.js'
import { ArgumentError, FileError } from '../../errors.js'
import type { Question } from '../../generate/generate.js'
import { generateSettings } from '../../generate/settings.js'
import { checkTree } from '../../settings/file.js'
import { isAbort } from '../../stage/stage.js'
import { type CommandContext, defineCommand } from '../command.js'
import { addFlags, readFlags } from '../flags.js'
import { catchSignals, type StopRequest } from '../signals.js'

export const generate = defineCommand({
  usage: 'generate',
  summary: 'Answer a question about images, or a file of questions',
  options: (parser) =>
    addFlags(parser, generateSettings)
      .option('prompt', { type: 'string', describe: 'One question; the answer streams to stdout' })
      .option('image', { type: 'string', array: true, nargs: 1, describe: 'Image file (repeatable)' })
      .option('in', { type: 'string', describe: 'JSON Lines of {id, prompt or question, images}' })
      .option('out', { type: 'string', describe: 'JSON Lines of responses; default: stdout' })
      .option('overwrite', { type: 'boolean', describe: 'Replace the file of --out' })
      .conflicts('prompt', 'in')
      .conflicts('image', 'in'),
  examples: [['generate --model M --image x.png --prompt "Is there an effusion?"', 'one answer, as it comes']],
  async run(options, context) {
    if (options.prompt === undefined && options.in === undefined) {
      throw new ArgumentError('Give --prompt or --in')
    }
    if (options.out !== undefined && existsSync(options.out) && !options.overwrite) {
      throw new FileError(`${options.out} exists already`, { hint: 'Use --overwrite to replace it.' })
    }
    const { in: source, out } = options
    using stop = catchSignals((name) => context.progress.log(`${name}: stopping; again to leave at once`))
    await using _lock =
      out === undefined ? undefined : await lockOutput(out, 'file', source === undefined ? [] : [source])
    const { openEngine } = await import('../../engine/engine.js')
    const { Chat } = await import('../../text/chat.js')
    const { answer } = await import('../../generate/generate.js')
    const { tree, locate } = readFlags(generateSettings, options)
    const { model, adapter = null, device, dtype, threads, ...decoding } = checkTree(generateSettings, tree, locate)
    const settings = { ...decoding, adapter: true }
    await using engine = await openEngine({ model, adapter, device, dtype, threads })
    const chat = await Chat.load(engine.spec.model, engine.info)
    if (options.prompt !== undefined) {
      const question = { id: 'prompt', prompt: options.prompt, images: options.image ?? [] }
      const onText = (_question: number, text: string): void => context.stdout(text)
      const told = answer(engine, chat, [question], settings, { onText, signal: stop.signal })
      return await untilStopped(stop, async () => {
        for await (const _ of told) context.stdout('\n')
      })
    }
    const questions = readQuestions(options.in as string)
    const answers = answer(engine, chat, questions, settings, { signal: stop.signal })
    return await untilStopped(stop, () => writeResponses(answers, out, context))
  },
})

async function untilStopped(stop: StopRequest, work: () => Promise<void>): Promise<number> {
  try {
    await work()
    return 0
  } catch (error) {
    if (!isAbort(error, stop.signal)) throw error
    return stop.exitCode ?? 1
  }
}

const questionLine = z
  .object({
    id: z.string().min(1),
    prompt: z.string().optional(),
    question: z.string().optional(),
    images: z.array(z.union([z.string().min(1), imageRef])).default([]),
  })
  .refine((line) => line.prompt !== undefined || line.question !== undefined, 'it has neither prompt nor question')

async function* readQuestions(path: string): AsyncGenerator<Question> {
  const root = dirname(resolve(path))
  for await (const { record } of readJsonl(path, questionLine)) {
    const images = record.images.map((image) => resolve(root, typeof image === 'string' ? image : image.path))
    yield { id: record.id, prompt: record.prompt ?? record.question ?? '', images }
  }
}

async function writeResponses(
  responses: AsyncIterable<object>,
  out: string | undefined,
  { stdout, progress }: CommandContext,
): Promise<void> {
  const file = out === undefined ? undefined : await JsonlAppender.open(out)
  progress.start('generate', 0, 'answers')
  let done = 0
  try {
    for await (const response of responses) {
      if (file) await file.append(response)
      else stdout(`${JSON.stringify(response)}\n`)
      done += 1
      progress.update(done)
    }
    await file?.sync()
  } finally {
    await file?.close()
  }
  progress.end()
}
