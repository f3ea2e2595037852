import { existsSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { z } from 'zod'
import { JsonlAppender } from '../../data/files.js'
import { readJsonl } from '../../data/jsonl.js'
import { imageRef } from '../../data/records.js'
import { ArgumentError, FileError } from '../../errors.js'
import type { Question } from '../../generate/generate.js'
import { generateSettings } from '../../generate/settings.js'
import { inputPath, outputPath, text } from '../../settings/common.js'
import { type CommandContext, defineCommand, type Outcome } from '../command.js'
import { flag } from '../file-settings.js'

export const generate = defineCommand({
  name: 'generate',
  summary: 'Answer a question about images, or a file of questions',
  settings: generateSettings,
  flags: z.strictObject({
    prompt: z.string().optional().meta({ description: 'One question; the answer streams to stdout' }),
    image: z.array(text).default([]).meta({ description: 'Image file (repeatable)' }),
    in: text.optional().meta(inputPath('JSON Lines of {id, prompt or question, images}')),
    out: text.optional().meta(outputPath('JSON Lines of responses; default: stdout')),
    overwrite: flag('Replace the file of --out'),
  }),
  exclusive: [
    ['prompt', 'in'],
    ['image', 'in'],
  ],
  examples: [['generate --model M --image x.png --prompt "Is there an effusion?"', 'one answer, as it comes']],
  async run({ model, adapter = null, device, dtype, threads, ...decoding }, context, flags) {
    if (flags.prompt === undefined && flags.in === undefined) throw new ArgumentError('Give --prompt or --in')
    if (flags.out !== undefined && existsSync(flags.out) && !flags.overwrite) {
      throw new FileError(`${flags.out} exists already`, { hint: 'Use --overwrite to replace it.' })
    }
    const { openEngine } = await import('../../engine/engine.js')
    const { Chat } = await import('../../text/chat.js')
    const { answer } = await import('../../generate/generate.js')
    const settings = { ...decoding, adapter: true }
    await using engine = await openEngine({ model, adapter, device, dtype, threads })
    const chat = await Chat.load(engine.spec.model, engine.info)
    const { stdout } = context
    if (flags.prompt !== undefined) {
      const question = { id: 'prompt', prompt: flags.prompt, images: flags.image }
      const onText = context.json ? undefined : (_question: number, text: string): void => stdout(text)
      let report = {}
      for await (const response of answer(engine, chat, [question], settings, { onText })) report = response
      return { text: '\n', report }
    }
    const responses = answer(engine, chat, readQuestions(flags.in as string), settings)
    return await writeResponses(responses, flags.out, context)
  },
})

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
  { stdout, progress, json }: CommandContext,
): Promise<Outcome> {
  const file = out === undefined ? undefined : await JsonlAppender.open(out)
  const kept: object[] = []
  progress.start('generate', 0, 'answers')
  let answers = 0
  try {
    for await (const response of responses) {
      if (file) await file.append(response)
      else if (json) kept.push(response)
      else stdout(`${JSON.stringify(response)}\n`)
      answers += 1
      progress.update(answers)
    }
    await file?.sync()
  } finally {
    await file?.close()
  }
  progress.end()
  return { text: '', report: { answers, ...(file ? { out } : { responses: kept }) } }
}
