/** What a report reads of a round's folder. */
import { join } from 'node:path'
import { outputFiles } from '../pairs/files.js'
import { runFiles } from '../train/run-folder.js'

/** The report of its pairs, and the metrics of its training, below the folders of these stages. */
export const roundFiles = (folder: string): [report: string, metrics: string] => [
  outputFiles(join(folder, 'pairs', 'pairs.jsonl')).report,
  join(folder, 'train', runFiles.metrics),
]
