import { dirname, resolve } from 'node:path'
import { ArgumentError, DataError, isAbort } from '../../errors.js'
import { generateSettings } from '../../generate/settings.js'
import { checkTree } from '../../settings/file.js'
import { type CommandContext, defineCommand } from '../command.js'
import { addFlags, readFlags } from '../flags.js'
import { catchSignals } from '../signals.js'

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
  notes: 'With --out, the same command goes on where it was stopped. Exit code 1: some question has no answer.',
  async run(options, context) {
    const { tree, locate } = readFlags(generateSettings, options)
    const settings = checkTree(generateSettings, tree, locate)
    if (options.prompt !== undefined) return answerOne(settings, options.prompt, options.image ?? [], context)
    if (options.in === undefined) throw new ArgumentError('Give --prompt or --in')
    return answerFile(settings, options.in, options, context)
  },
})

type Settings = ReturnType<typeof generateSettings.parse>

async function answerOne(
  { model, adapter, device, dtype, threads, ...decoding }: Settings,
  prompt: string,
  images: string[],
  { stdout, progress }: CommandContext,
): Promise<number> {
  using stop = catchSignals((name) => progress.log(`${name}: stopping; again to leave at once`))
  const { openEngine } = await import('../../engine/engine.js')
  const { Chat } = await import('../../text/chat.js')
  const { answer } = await import('../../generate/generate.js')
  await using engine = await openEngine({ model, adapter: adapter ?? null, device, dtype, threads })
  const chat = await Chat.load(engine.spec.model, engine.info)
  const onText = (_question: number, text: string): void => stdout(text)
  const question = { id: 'prompt', prompt, images }
  const told = answer(engine, chat, [question], { ...decoding, adapter: true }, { onText, signal: stop.signal })
  try {
    for await (const { text } of told) {
      stdout('\n')
      if (text.trim() === '') throw new DataError('The answer is empty: the model ended it at once')
    }
    return 0
  } catch (error) {
    if (!isAbort(error, stop.signal)) throw error
    return stop.exitCode ?? 1
  }
}

async function answerFile(
  settings: Settings,
  path: string,
  { out, overwrite }: { out?: string; overwrite?: boolean },
  { stdout, stderr, progress }: CommandContext,
): Promise<number> {
  const { collectAnswers, engineAnswerer } = await import('../../sample/index.js')
  const { countFileQuestions, fileQuestions } = await import('../../sample/question-file.js')
  const { heard, namingFirst } = await import('../../sample/answerer.js')
  const total = await countFileQuestions(path)
  const asked = () => fileQuestions(path, settings.seed)
  const answerer = await engineAnswerer(
    { ...settings, adapter: settings.adapter ?? null, imageRoot: dirname(resolve(path)) },
    settings,
  )
  if (out === undefined) {
    let failed = 0
    for await (const outcome of answerer.answer(asked())) {
      const result = heard(outcome)
      if (!('reason' in result)) stdout(`${JSON.stringify(result)}\n`)
      else stderr(`record ${result.sampleId}: ${result.reason}\n`)
      if ('reason' in result) failed += 1
    }
    if (failed > 0) stderr(`${failed} of ${total} questions have no answer\n`)
    return failed > 0 ? 1 : 0
  }
  using stop = catchSignals((name) => progress.log(`${name}: saving and stopping; again to leave at once`))
  const report = await collectAnswers({ asked, total, out, overwrite, from: path }, answerer, {
    signal: stop.signal,
    onStart(done) {
      progress.start('generate', total, 'answers')
      progress.update(done)
    },
    onProgress: (done, failed) => progress.update(done, failed > 0 ? `${failed} failed` : undefined),
    onFailure: namingFirst((line) => progress.log(line)),
  })
  progress.end(report.interrupted ? 'stopped' : undefined)
  if (report.interrupted) {
    stderr('stopped; run the same command again to continue\n')
    return stop.exitCode ?? 1
  }
  if (report.failed === 0) return 0
  stderr(`${report.failed} of ${total} questions have no answer: ${report.failures}\n`)
  return 1
}
