import type { ImportOptions, ImportReport } from '../../import/index.js'
import { defineCommand } from '../command.js'
import { catchSignals } from '../signals.js'

const kinds = ['vqa-rad', 'slake', 'iu-xray', 'mmedpo', 'rrpo', 'trl', 'jsonl', 'csv'] as const

export const importCommand = defineCommand({
  usage: 'import <kind> <source>',
  summary: 'Turn a published data set, or one of your own, into sample and pair records',
  options: (parser) =>
    parser
      .positional('kind', { choices: kinds, demandOption: true, describe: 'What SOURCE is' })
      .positional('source', { type: 'string', demandOption: true, describe: 'File or unpacked folder' })
      .option('out', { type: 'string', demandOption: true, describe: 'Folder to make' })
      .option('layout', { type: 'string', describe: 'Only where SOURCE holds several layouts of its kind' })
      .option('images', { type: 'string', describe: 'Root of the image names; default: SOURCE or its folder' })
      .option('allow-missing-images', {
        type: 'boolean',
        describe: 'Keep records whose images are not there; otherwise they are left out and listed',
      })
      .option('language', { choices: ['en', 'zh', 'all'] as const, default: 'all' as const, describe: 'slake' })
      .option('closed-rule', {
        choices: ['answer_type', 'yes_no_exact', 'paper_substring'] as const,
        default: 'answer_type' as const,
        describe: 'What counts as a closed question',
      })
      .option('split-by-image', {
        type: 'string',
        describe: 'New splits that share no image, for instance 80/10/10 (train/validation/test)',
      })
      .option('seed', { type: 'number', default: 42, describe: 'Of --split-by-image' })
      .option('section', {
        choices: ['findings', 'impression', 'both'] as const,
        default: 'findings' as const,
        describe: 'iu-xray: what the answer is',
      })
      .option('question', { type: 'string', describe: 'iu-xray: the instruction of every sample' })
      .option('overwrite', { type: 'boolean', describe: 'Replace an earlier import' })
      .example('$0 import slake Slake1.0 --language en --out data/slake', 'three splits, with masks and boxes')
      .epilogue('The folder has samples.jsonl, pairs.jsonl, images/, LICENSE.md and import.report.json.'),
  async run(options, { stdout, stderr, progress }) {
    const { importData, parseShares } = await import('../../import/index.js')
    const { kind, source, out, layout, images, language, section, question, closedRule } = options
    const { allowMissingImages, overwrite } = options
    const shares = options.splitByImage
    const splitByImage = shares === undefined ? undefined : { parts: parseShares(shares), seed: options.seed }
    using stop = catchSignals((name) => progress.log(`${name}: stopping; again to leave at once`))
    progress.start('import', 0, 'records')
    const wanted: ImportOptions = {
      ...{ kind, source, out, layout, images, language, section, question, closedRule },
      ...{ allowMissingImages, splitByImage },
      ...{ overwrite, signal: stop.signal, onProgress: (read: number) => progress.update(read) },
    }
    try {
      const report = await importData(wanted)
      progress.end()
      stdout(describeReport(report, out))
      const written = report.samples + report.pairs
      if (written === 0) stderr(`error: not one of ${report.read} records could be taken over${adviceFor(report)}\n`)
      return written === 0 ? 1 : 0
    } catch (error) {
      if (stop.exitCode === undefined) throw error
      progress.end('stopped')
      return stop.exitCode
    }
  },
})

function adviceFor({ leftOut }: ImportReport): string {
  const missing = leftOut.missing_image || leftOut.no_image
  return missing ? '. --images names their folder; --allow-missing-images takes the texts alone' : ''
}

const columns = ['records', 'closed', 'open', 'images'] as const

function describeReport(report: ImportReport, out: string): string {
  const { kind, layout, counts, closedRule, leakage, leftOut, notes, images, read, samples, pairs } = report
  const rows = Object.entries(counts).map(([split, count]) => [split, ...columns.map((name) => String(count[name]))])
  const fallback = closedRule.fallback > 0 ? ` (${closedRule.fallback} without it: yes_no_exact)` : ''
  const lines = [
    `${kind}, layout ${layout}: ${read} records read, ${samples} samples and ${pairs} pairs written`,
    ...table([['split', ...columns], ...rows]),
    `closed by ${closedRule.asked}${fallback}`,
    `images: ${images.stored} stored, ${images.sameContent} with the content of another, ${images.missing} missing`,
    ...describeLeaks(leakage),
    ...notes.map(({ note, count, first }) => `note: ${note} ${count} times, first at ${first}`),
    ...Object.entries(leftOut).map(([reason, count]) => `left out: ${count} for ${reason}`),
    `folder: ${out} (import.report.json lists every record that was left out)`,
  ]
  return `${lines.join('\n')}\n`
}

function describeLeaks({ written, source }: ImportReport['leakage']): string[] {
  if (written.length === 0) {
    return [`leakage: no image is in two splits${source.length > 0 ? ', as in the source some are' : ''}`]
  }
  return written.map(({ splits: [first, second], images, share }) => {
    return `leakage: ${images} images of ${second} (${(share * 100).toFixed(1)} %) are also in ${first}`
  })
}

function table(rows: string[][]): string[] {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)))
  return rows.map(
    (row) => `  ${row.map((cell, at) => (at === 0 ? cell.padEnd(widths[at]) : cell.padStart(widths[at]))).join('  ')}`,
  )
}
