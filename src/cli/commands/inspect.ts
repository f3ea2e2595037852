import { defineCommand } from '../command.js'
import { describeInspection } from '../inspection.js'

export const inspect = defineCommand({
  usage: 'inspect <files..>',
  summary: 'Show what is in record files: counts, distributions, examples, problems',
  options: (parser) =>
    parser
      .positional('files', {
        type: 'string',
        array: true,
        demandOption: true,
        describe: 'Samples, responses, pairs, metrics.jsonl or a report; splits are compared across files',
      })
      .option('examples', { type: 'number', default: 3, describe: 'How many to show' })
      .option('check-images', { type: 'boolean', default: false, describe: 'Read and hash every image' })
      .option('images', { type: 'string', describe: "What image paths are relative to; default: the file's folder" })
      .option('json', { type: 'boolean', default: false, describe: 'One JSON object a file' }),
  notes: 'Exit code 1 when a file holds an error; warnings do not change it.',
  async run({ files, examples, checkImages, images, json }, { stdout, coloured, progress }) {
    const { inspectFiles } = await import('../../inspect/index.js')
    progress.start('inspect', 0, 'records')
    const onProgress = (records: number): void => progress.update(records)
    const inspections = await inspectFiles(files, { examples, checkImages, images, onProgress })
    progress.update(inspections.reduce((total, { records }) => total + records, 0))
    progress.end()
    const colour = process.stdout.isTTY && !process.env.NO_COLOR
    for (const inspection of inspections) {
      if (json) stdout(`${JSON.stringify(inspection)}\n`)
      else coloured(`${describeInspection(inspection, colour)}\n`)
    }
    return inspections.some(({ problems }) => problems.some(({ severity }) => severity === 'error')) ? 1 : 0
  },
})
