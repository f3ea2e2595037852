/** What a report reads of a round's folder. */
import { join } from 'node:path'
import { runFiles } from '../train/run-folder.js'

/** The report of its pairs, and the metrics of its training, below the folders of these stages. */
export const roundFiles = (folder: string): [report: string, metrics: string] => [
  join(folder, 'pairs', 'pairs.report.json'),
  join(folder, 'train', runFiles.metrics),
]
