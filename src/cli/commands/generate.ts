import { existsSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { z } from 'zod'
import { JsonlAppender } from '../../data/files.js'
import { readJsonl } from '../../data/jsonl.js'
import { imageRef } from '../../data/records.js'
import { ArgumentError, FileError } from '../../errors.js'
import type { GenerateSettings, Question } from '../../generate/generate.js'
import { type CommandContext, defineCommand } from '../command.js'
import { deviceOption } from '../device.js'

export const generate = defineCommand({
  usage: 'generate',
  summary: 'Answer a question about images, or a file of questions',
  options: (parser) =>
    parser
      .option('model', { type: 'string', demandOption: true, describe: 'Model folder' })
      .option('adapter', { type: 'string', describe: 'PEFT adapter folder' })
      .option('prompt', { type: 'string', describe: 'One question; the answer streams to stdout' })
      .option('image', { type: 'string', array: true, nargs: 1, describe: 'Image file (repeatable)' })
      .option('in', { type: 'string', describe: 'JSON Lines of {id, prompt or question, images}' })
      .option('out', { type: 'string', describe: 'JSON Lines of responses; default: stdout' })
      .option('overwrite', { type: 'boolean', describe: 'Replace the file of --out' })
      .option('max-new-tokens', { type: 'number', default: 256, describe: 'Longest answer' })
      .option('temperature', { type: 'number', default: 0, describe: '0 = greedy' })
      .option('top-p', { type: 'number', default: 1, describe: 'Nucleus of the sampler' })
      .option('top-k', { type: 'number', default: 0, describe: '0 = off' })
      .option('stop', {
        type: 'string',
        array: true,
        nargs: 1,
        default: [] as string[],
        describe: "Text that ends an answer, for instance $'\\n\\n' (repeatable)",
      })
      .option('seed', { type: 'number', default: 42, describe: 'Question k is sampled with seed + k' })
      .option('batch-size', {
        type: 'number',
        default: 8,
        describe: 'Questions decoded together; those about one image share it',
      })
      .option('device', deviceOption)
      .option('dtype', { choices: ['f32', 'bf16'] as const, default: 'f32' as const, describe: 'Matrix arithmetic' })
      .option('threads', { type: 'number', default: 0, describe: '0 = all' })
      .conflicts('prompt', 'in')
      .conflicts('image', 'in')
      .example('$0 generate --model M --image x.png --prompt "Is there an effusion?"', ''),
  async run(options, context) {
    if (options.prompt === undefined && options.in === undefined) {
      throw new ArgumentError('Give --prompt or --in')
    }
    if (options.out !== undefined && existsSync(options.out) && !options.overwrite) {
      throw new FileError(`${options.out} exists already`, { hint: 'Use --overwrite to replace it.' })
    }
    const { openEngine } = await import('../../engine/engine.js')
    const { Chat } = await import('../../text/chat.js')
    const { answer } = await import('../../generate/generate.js')
    const { maxNewTokens, temperature, topP, topK, stop, batchSize, seed, device, dtype, threads } = options
    const settings: GenerateSettings = { maxNewTokens, temperature, topP, topK, stop, batchSize, seed, adapter: true }
    await using engine = await openEngine({
      model: resolve(options.model),
      adapter: options.adapter === undefined ? null : resolve(options.adapter),
      device,
      dtype,
      threads,
    })
    const chat = await Chat.load(engine.spec.model, engine.info)
    if (options.prompt !== undefined) {
      const question = { id: 'prompt', prompt: options.prompt, images: options.image ?? [] }
      const onText = (_question: number, text: string): void => context.stdout(text)
      for await (const _ of answer(engine, chat, [question], settings, { onText })) context.stdout('\n')
      return 0
    }
    const questions = readQuestions(options.in as string)
    await writeResponses(answer(engine, chat, questions, settings), options.out, context)
    return 0
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
