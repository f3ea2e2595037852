import { z } from 'zod'
import { FireError } from '../../errors.js'
import type { PullReport } from '../../hub/index.js'
import { outputPath, text } from '../../settings/common.js'
import { counted } from '../../text/plural.js'
import { defineCommand } from '../command.js'
import { flag } from '../file-settings.js'
import { formatBytes } from '../format.js'
import { catchSignals } from '../signals.js'

const mebibytes = (bytes: number): number => Math.round((bytes / 2 ** 20) * 10) / 10

export const pull = defineCommand({
  name: 'pull',
  summary: 'Download a model folder from the Hugging Face hub',
  settings: z.strictObject({
    repo: text.meta({ description: 'For instance Qwen/Qwen3-VL-4B-Instruct' }),
    revision: text.optional().meta({ description: 'Branch, tag or commit; default: main' }),
    out: text.optional().meta(outputPath('Folder; default: ./<name of the repository>')),
    include: z
      .array(text)
      .optional()
      .meta({ description: 'Glob of files to take instead of those a model folder needs (repeatable)' }),
    // Without a default: what is not said is left to the environment.
    offline: z
      .boolean()
      .optional()
      .meta({ description: 'Only check that the folder is complete (also: HF_HUB_OFFLINE=1)' }),
    verify: flag('Compare the hash of every file, also of those already checked'),
    overwrite: flag('Replace files that differ from the published ones'),
    keyEnv: text.optional().meta({ description: 'Environment variable that holds the token; default: HF_TOKEN' }),
  }),
  positionals: ['repo'],
  examples: [
    ['pull Qwen/Qwen3-VL-4B-Instruct', 'weights, configuration and tokenizer; after a stop the same command continues'],
  ],
  notes: 'HF_ENDPOINT names another hub. fire-train.pull.json in the folder says what it was filled with.',
  async run({ keyEnv, ...settings }, { progress }) {
    const { hubAccess, pull: pullFiles } = await import('../../hub/index.js')
    const access = await hubAccess(keyEnv)
    using stop = catchSignals((name) => progress.log(`${name}: stopping; again to leave at once`))
    let started = false
    try {
      const report = await pullFiles({
        ...settings,
        access,
        signal: stop.signal,
        onLog: (line) => progress.log(line),
        onProgress(done, total) {
          if (!started && total > 0) progress.start('download', mebibytes(total), 'MiB', mebibytes(done))
          started = true
          progress.update(mebibytes(done))
        },
      })
      return { text: describeReport(report), report }
    } catch (error) {
      if (stop.exitCode === undefined || !(error instanceof FireError)) throw error
      const stopped = `stopped: ${[error.message, error.hint].filter(Boolean).join('; ')}`
      return { text: '', report: {}, stopped, exitCode: stop.exitCode }
    }
  },
})

function describeReport({ repo, commit, folder, files, downloaded }: PullReport): string {
  const bytes = files.reduce((sum, { size }) => sum + size, 0)
  const lines = [
    `${repo} at ${commit}`,
    `${counted(files.length, 'file')}, ${formatBytes(bytes)}, ${downloaded} of them downloaded now`,
  ]
  return `${[...lines, `folder: ${folder}`].join('\n')}\n`
}
