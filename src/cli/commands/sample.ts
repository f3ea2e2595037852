import { dirname, resolve } from 'node:path'
import type { z } from 'zod'
import { ConfigError } from '../../errors.js'
import type { Answerer } from '../../sample/index.js'
import { defineCommand } from '../command.js'
import { deviceOption } from '../device.js'
import { catchSignals } from '../signals.js'

export const sample = defineCommand({
  usage: 'sample',
  summary: 'Ask a model the questions of a sample file: the answers that pairs are made from',
  options: (parser) =>
    parser
      .option('samples', { type: 'string', demandOption: true, describe: 'Sample records, JSON Lines' })
      .option('out', { type: 'string', demandOption: true, describe: 'Response records, JSON Lines' })
      .option('model', { type: 'string', describe: 'Model folder' })
      .option('adapter', { type: 'string', describe: 'PEFT adapter folder' })
      .option('endpoint', { type: 'string', describe: 'Ask an OpenAI-compatible server: http://HOST:PORT/v1' })
      .option('endpoint-model', { type: 'string', describe: "The model's name at the server" })
      .option('key-env', { type: 'string', describe: "Environment variable with the server's key" })
      .option('concurrency', { type: 'number', default: 8, describe: 'Requests at a time' })
      .option('timeout', { type: 'number', default: 300, describe: 'Seconds a request may take' })
      .option('retries', { type: 'number', default: 5, describe: 'Attempts after a failure that may pass' })
      .option('n', { type: 'number', default: 1, describe: 'Answers to each question' })
      .option('max-new-tokens', { type: 'number', default: 256, describe: 'Longest answer' })
      .option('temperature', { type: 'number', default: 0, describe: '0 = greedy' })
      .option('top-p', { type: 'number', default: 1, describe: 'Nucleus of the sampler' })
      .option('top-k', { type: 'number', default: 0, describe: '0 = off' })
      .option('stop', {
        type: 'string',
        array: true,
        nargs: 1,
        default: [] as string[],
        describe: 'Text that ends an answer (repeatable)',
      })
      .option('seed', { type: 'number', default: 42, describe: 'With the id of a sample it decides its answers' })
      .option('prompt-suffix', { type: 'string', default: '', describe: 'Written after every question' })
      .option('split', { type: 'string', describe: 'Only the samples of this split' })
      .option('limit', { type: 'number', describe: 'Only the first so many samples' })
      .option('images', { type: 'string', describe: "What image paths are relative to; default: the samples' folder" })
      .option('batch-size', { type: 'number', default: 8, describe: 'Questions decoded together' })
      .option('strict', { type: 'boolean', default: false, describe: 'Stop at the first question without an answer' })
      .option('overwrite', { type: 'boolean', default: false, describe: 'Replace what other settings left' })
      .option('device', deviceOption)
      .option('dtype', { choices: ['f32', 'bf16'] as const, default: 'f32' as const, describe: 'Matrix arithmetic' })
      .option('threads', { type: 'number', default: 0, describe: '0 = all' })
      .conflicts('endpoint', ['model', 'adapter'])
      .implies('endpoint', 'endpoint-model')
      .check(({ model, endpoint }) => {
        if (model === undefined && endpoint === undefined) throw new Error('Give --model or --endpoint')
        return true
      })
      .example('$0 sample --samples s.jsonl --model M --out r.jsonl --n 4 --temperature 0.7', 'four answers each')
      .epilogue('Run the same command again after a stop of any kind: it goes on where it was.'),
  async run(options, { progress, stdout, stderr }) {
    const sampling = await import('../../sample/index.js')
    const imageRoot = resolve(options.images ?? dirname(resolve(options.samples)))
    const settings = check(sampling.sampleSettings, {
      ...pick(options, [
        'maxNewTokens',
        'temperature',
        'topP',
        'topK',
        'stop',
        'seed',
        'promptSuffix',
        'split',
        'limit',
      ]),
      answers: options.n,
    })
    const answerer = (): Answerer => {
      const { model, adapter, endpoint: url, device, dtype, threads, batchSize } = options
      if (url === undefined) {
        const folder = adapter === undefined ? null : resolve(adapter)
        const engine = { model: resolve(model as string), adapter: folder, device, dtype, threads, batchSize }
        return sampling.engineAnswerer({ ...engine, imageRoot }, settings)
      }
      const given = pick(options, ['keyEnv', 'concurrency', 'timeout', 'retries'])
      const endpoint = check(sampling.serverSettings, { ...given, url, model: options.endpointModel })
      const onLog = (line: string): void => progress.log(line)
      return sampling.serverAnswerer({ endpoint, imageRoot, onLog }, settings)
    }
    using interrupt = catchSignals((name) => progress.log(`${name}: stopping; what is answered is kept`))
    const { strict, overwrite } = options
    const request = { samples: options.samples, out: resolve(options.out), settings, strict, overwrite }
    const report = await sampling.sampleAnswers(request, answerer(), {
      signal: interrupt.signal,
      onStart: (done, total) => {
        progress.start('sample', total, 'answers')
        if (done > 0) progress.update(done)
      },
      onProgress: (done, failed) => progress.update(done, failed > 0 ? `${failed} failed` : undefined),
    })
    progress.end(report.interrupted ? 'stopped' : undefined)
    if (report.interrupted) {
      stderr(`${report.answers + report.failed} of ${report.total} done; the same command goes on from there\n`)
      return interrupt.exitCode ?? 1
    }
    if (report.failures !== null) stderr(`${report.failed} questions have no answer; see ${report.failures}\n`)
    stdout(`${report.answers} answers (${report.reused} from before): ${report.out}\n`)
    return report.answers > 0 ? 0 : 1
  },
})

/** The options of these names that were given. */
function pick<T extends object, K extends keyof T>(options: T, names: readonly K[]): Partial<Pick<T, K>> {
  return Object.fromEntries(
    names.flatMap((name) => (options[name] === undefined ? [] : [[name, options[name]]])),
  ) as Partial<Pick<T, K>>
}

function check<S extends z.ZodType>(schema: S, given: object): z.output<S> {
  const parsed = schema.safeParse(given)
  if (parsed.success) return parsed.data
  throw new ConfigError(parsed.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('\n'))
}
