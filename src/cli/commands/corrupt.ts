import type { CorruptReport, CorruptResult } from '../../corrupt/index.js'
import { corruptStage } from '../../corrupt/stage.js'
import { formatShare, formatTable } from '../format.js'
import { stageCommand } from '../stage-command.js'

export const corrupt = stageCommand(corruptStage, {
  examples: [['corrupt --pairs pairs.jsonl --out corrupted --masks masks.jsonl', 'then look at corrupted/sheet.html']],
  notes:
    'After a stop of any kind, run the same command again: it continues. Look at the sheet: a mask in the wrong place trains the opposite.',
  describe,
})

function describe({ report, reused, requests }: CorruptResult): string {
  const rows: [string, string | number][] = [
    ['pairs', report.pairs],
    ...counts('twins by', report.methods),
    ['files of twins', report.files],
    ...counts('mask from', report.sources),
    ...counts('concept by', report.concepts),
    ...Object.entries(report.missing).map(([reason, { count }]): [string, number] => [`no mask: ${reason}`, count]),
    ['pairs without a twin', report.skipped],
    ['pairs left out', report.failed],
    ['earlier twins replaced', report.replaced],
    ...coverageRows(report.coverage),
    ['twins made before', reused],
    ['requests to the segmenter', requests],
  ]
  return `${formatTable(['what', 'count'], rows)}\n`
}

const counts = (title: string, of: Record<string, number>): [string, number][] =>
  Object.entries(of).map(([name, count]) => [`${title} ${name}`, count])

function coverageRows(coverage: CorruptReport['coverage']): [string, string][] {
  if (!coverage) return []
  const { least, median, most } = coverage
  return [['masks cover (least, median, most)', [least, median, most].map(formatShare).join(', ')]]
}
