import type { ImportReport } from '../../import/index.js'
import { importStage } from '../../import/stage.js'
import { counted } from '../../text/plural.js'
import { formatShare, formatTable } from '../format.js'
import { stageCommand } from '../stage-command.js'

export const importCommand = stageCommand(importStage, {
  examples: [['import slake Slake1.0 --language en --out data/slake', 'three splits, with masks and boxes']],
  notes: 'The folder has samples.jsonl, pairs.jsonl, images/, LICENSE.md and import.report.json.',
  describe: (report, { out }) => describeReport(report, out),
})

const columns = ['records', 'closed', 'open', 'images'] as const

function describeReport(report: ImportReport, out: string): string {
  const { kind, layout, counts, closedRule, leakage, leftOut, notes, images, read, samples, pairs } = report
  const rows = Object.entries(counts).map(([split, count]) => [split, ...columns.map((name) => count[name])])
  const fallback =
    closedRule.fallback > 0
      ? `; ${counted(closedRule.fallback, 'record')} without that field by the answer: yes or no is closed (yes_no_exact)`
      : ''
  const lines = [
    `${kind}, layout ${layout}: ${counted(read, 'record')} read, ${counted(samples, 'sample')} and ${counted(pairs, 'pair')} written`,
    formatTable(['split', ...columns], rows),
    `closed by ${closedRule.asked}${fallback}`,
    `images: ${images.stored} stored, ${images.sameContent} with the content of another, ${images.missing} missing or not readable`,
    ...describeLeaks(leakage),
    ...notes.map(({ note, count, first }) => `note: ${note} ${counted(count, 'time')}, first at ${first}`),
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
    return `leakage: ${counted(images, 'image')} of ${second} (${formatShare(share)}), also in ${first}`
  })
}
