import { dirname, resolve } from 'node:path'
import { ConfigError } from '../../errors.js'
import type { Answerer, SampleSettings } from '../../sample/index.js'
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
    const { engineAnswerer, sampleAnswers, sampleSettings, serverAnswerer } = await import('../../sample/index.js')
    const { n: answers, maxNewTokens, temperature, topP, topK, stop, seed, promptSuffix, split, limit } = options
    const given = { answers, maxNewTokens, temperature, topP, topK, stop, seed, promptSuffix, split, limit }
    const parsed = sampleSettings.safeParse(given)
    if (!parsed.success) {
      const reasons = parsed.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`)
      throw new ConfigError(reasons.join('\n'))
    }
    const imageRoot = resolve(options.images ?? dirname(resolve(options.samples)))
    const answerer = (settings: SampleSettings): Answerer => {
      const { model, adapter, endpoint, endpointModel, device, dtype, threads, batchSize, concurrency } = options
      if (endpoint === undefined) {
        const engine = { device, dtype, threads, batchSize, imageRoot }
        const folder = adapter === undefined ? null : resolve(adapter)
        return engineAnswerer({ ...engine, model: resolve(model as string), adapter: folder }, settings)
      }
      const retry = { retries: options.retries, delayMs: 1000 }
      const common = { key: keyOf(options.keyEnv), timeoutMs: options.timeout * 1000, retry, concurrency, imageRoot }
      const onRetry = (message: string): void => progress.log(message)
      return serverAnswerer({ ...common, url: endpoint, model: endpointModel as string, onRetry }, settings)
    }
    using interrupt = catchSignals((name) => progress.log(`${name}: stopping; what is answered is kept`))
    const { strict, overwrite } = options
    const request = { samples: options.samples, out: resolve(options.out), settings: parsed.data, strict, overwrite }
    const report = await sampleAnswers(request, answerer(parsed.data), {
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

function keyOf(name: string | undefined): string | undefined {
  if (name === undefined) return undefined
  const value = process.env[name]?.trim()
  if (value) return value
  throw new ConfigError(`The variable ${name} holds no key`, { hint: `Set ${name}, or leave --key-env out.` })
}
