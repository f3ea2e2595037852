/** `report`: one page of everything that the stages before it left. */
import type { z } from 'zod'
import { writeFileAtomic } from '../data/files.js'
import { lockOutput } from '../data/lock.js'
import { checkTree, configError, type Locate } from '../settings/file.js'
import type { Tree } from '../settings/source.js'
import { defineStage } from '../stage/index.js'
import { roundFiles } from './round-files.js'
import { reportSettings } from './settings.js'

type Settings = z.output<typeof reportSettings>

export const reportStage = defineStage({
  name: 'report',
  summary: 'Write one HTML page about a run: accuracy, curves, example pairs',
  settings: reportSettings,
  check,
  takes: { pairs: 'pairs', pairsReport: 'pairsReport', metrics: 'metrics', evaluation: 'evaluation', rounds: 'rounds' },
  // Beside the stages' folders: it is about all of them.
  out: { setting: 'out', name: '../report.html' },
  reads: ({ rounds }) => rounds.map((folder) => ({ input: folder, files: async () => roundFiles(folder) })),
  makes: () => ({}),
  leaves: ({ out }) => [out],
  async run(settings, { finished = [], progress }) {
    progress.start('', 1, 'pages')
    const { collectReport, renderReport } = await import('./index.js')
    const { out, title, notes, ...sources } = settings
    const inputs = [sources.pairs, sources.pairsReport, sources.metrics].filter((path) => path !== undefined)
    await using _lock = await lockOutput(out, 'file', inputs)
    await writeFileAtomic(out, renderReport(await collectReport(sources, { title, notes, stages: finished })))
    progress.update(1)
    return { interrupted: false, summary: out }
  },
})

function check(tree: Tree, locate: Locate): Settings {
  const settings = checkTree(reportSettings, tree, locate)
  const { pairs, pairsReport, metrics, evaluation, rounds } = settings
  if (pairs ?? pairsReport ?? metrics ?? evaluation ?? rounds.at(0)) return settings
  const message = 'There is nothing to show: give pairs, metrics or an evaluation'
  throw configError([{ path: ['pairs'], message }], locate)
}
