import { FireError } from '../../errors.js'
import type { PullReport } from '../../hub/index.js'
import { defineCommand } from '../command.js'
import { formatBytes } from '../format.js'
import { catchSignals } from '../signals.js'

const mebibytes = (bytes: number): number => Math.round((bytes / 2 ** 20) * 10) / 10

export const pull = defineCommand({
  usage: 'pull <repo>',
  summary: 'Download a model folder from the Hugging Face hub',
  options: (parser) =>
    parser
      .positional('repo', { type: 'string', demandOption: true, describe: 'For instance Qwen/Qwen3-VL-4B-Instruct' })
      .option('revision', { type: 'string', describe: 'Branch, tag or commit; default: main' })
      .option('out', { type: 'string', describe: 'Folder; default: ./<name of the repository>' })
      .option('include', {
        type: 'string',
        array: true,
        nargs: 1,
        describe: 'Glob of files to take instead of those a model folder needs (repeatable)',
      })
      .option('offline', {
        type: 'boolean',
        describe: 'Only check that the folder is complete (also: HF_HUB_OFFLINE=1)',
      })
      .option('verify', { type: 'boolean', describe: 'Compare the hash of every file, also of those already checked' })
      .option('overwrite', { type: 'boolean', describe: 'Replace files that differ from the published ones' })
      .option('token-env', { type: 'string', describe: 'Variable that holds the token; default: HF_TOKEN' }),
  examples: [
    ['pull Qwen/Qwen3-VL-4B-Instruct', 'weights, configuration and tokenizer; after a stop the same command continues'],
  ],
  notes: 'HF_ENDPOINT names another hub. fire-train.pull.json in the folder says what it was filled with.',
  async run(options, { stdout, progress }) {
    const { hubAccess, pull: pullFiles } = await import('../../hub/index.js')
    const access = await hubAccess(options.tokenEnv)
    using stop = catchSignals((name) => progress.log(`${name}: stopping; again to leave at once`))
    let started = false
    try {
      const { repo, revision, out, include, offline, verify, overwrite } = options
      const report = await pullFiles({
        repo,
        revision,
        out,
        include,
        offline,
        verify,
        overwrite,
        access,
        signal: stop.signal,
        onLog: (line) => progress.log(line),
        onProgress(done, total) {
          if (!started && total > 0) progress.start('download', mebibytes(total), 'MiB')
          started = true
          progress.update(mebibytes(done))
        },
      })
      progress.end()
      stdout(describeReport(report))
      return 0
    } catch (error) {
      if (stop.exitCode === undefined || !(error instanceof FireError)) throw error
      progress.end('stopped')
      progress.log([error.message, error.hint].filter(Boolean).join('\n'))
      return stop.exitCode
    }
  },
})

function describeReport({ repo, commit, folder, files, downloaded }: PullReport): string {
  const bytes = files.reduce((sum, { size }) => sum + size, 0)
  const lines = [
    `${repo} at ${commit}`,
    `${files.length} files, ${formatBytes(bytes)}, ${downloaded} of them downloaded now`,
  ]
  return `${[...lines, `folder: ${folder}`].join('\n')}\n`
}
