import { z } from 'zod'
import { text, whole } from '../../settings/common.js'
import { defineCommand } from '../command.js'
import { flag } from '../file-settings.js'
import { describeInspection } from '../inspection.js'

export const inspect = defineCommand({
  name: 'inspect',
  ranks: 'each',
  summary: 'Show what is in record files: counts, distributions, examples, problems',
  settings: z.strictObject({
    files: z.array(text).min(1).meta({
      description: 'Files that a stage wrote, or folders of them; splits are compared across files',
    }),
    examples: whole.default(3).meta({ description: 'How many to show' }),
    checkImages: flag('Read and hash every image'),
    images: text
      .optional()
      .meta({ description: "Folder that image paths are relative to; default: the file's folder" }),
  }),
  positionals: ['files'],
  notes: 'Exit code 1 when a file holds an error; warnings do not change it.',
  async run({ files, examples, checkImages, images }, { progress }) {
    const { inspectFiles } = await import('../../inspect/index.js')
    progress.start('inspect', 0, 'records')
    const onProgress = (records: number): void => progress.update(records)
    const inspections = await inspectFiles(files, { examples, checkImages, images, onProgress })
    progress.update(inspections.reduce((total, { records }) => total + records, 0))
    progress.end()
    const colour = process.stdout.isTTY === true && !process.env.NO_COLOR && process.env.TERM !== 'dumb'
    const isWrong = inspections.some(({ problems }) => problems.some(({ severity }) => severity === 'error'))
    return {
      text: inspections.map((each) => `${describeInspection(each, colour)}\n`).join(''),
      coloured: true,
      report: { files: inspections },
      exitCode: isWrong ? 1 : 0,
    }
  },
})
