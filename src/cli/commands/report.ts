import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { z } from 'zod'
import { writeFileAtomic } from '../../data/files.js'
import { lockOutput } from '../../data/lock.js'
import { ArgumentError, asFileError, ConfigError } from '../../errors.js'
import { reportSettings } from '../../report/settings.js'
import { reportStage } from '../../report/stage.js'
import { inputPath, outputPath, text } from '../../settings/common.js'
import { checkTree, configError, type Locate } from '../../settings/file.js'
import type { Tree } from '../../settings/source.js'
import { checkSettings } from '../../stage/stage.js'
import { counted } from '../../text/plural.js'
import { defineCommand } from '../command.js'
import { executeStage, stageCommand } from '../stage-command.js'

/** Where a comparison goes that is not told where. */
const comparison = 'runs.html'

const settings = z.strictObject({
  runs: z.array(text).default([]).meta(inputPath('Folders of training runs or pipelines to compare, finished or not')),
  ...reportSettings.shape,
  out: text
    .optional()
    .meta(outputPath(`${reportSettings.shape.out.meta()?.description}; with runs: ${comparison} if not given`)),
})

type Settings = z.output<typeof settings>

export const report = defineCommand({
  name: 'report',
  summary: 'Write one HTML page about a run, or one that compares training runs',
  settings,
  positionals: ['runs'],
  fromFile: stageCommand(reportStage).fromFile,
  examples: [
    ['report runs/dpo runs/fire', 'final numbers, settings that differ, curves over each other'],
    ['report --metrics run/metrics.jsonl --evaluation eval --out report.html', 'curves, and before and after'],
  ],
  notes: 'A pipeline with a section `report` fills in the paths, and shows how long each stage took.',
  check,
  async run({ runs, out, title, notes, ...sources }, context) {
    if (runs.length === 0) {
      return await executeStage(reportStage, { ...sources, title, notes, out: out as string }, {}, context, {})
    }
    const { readRuns } = await import('../../report/runs/read.js')
    const { renderRuns } = await import('../../report/runs/page.js')
    const path = out ?? resolve(comparison)
    await using _lock = await lockOutput(path, 'file')
    await refuseOther(path)
    const found = await readRuns(runs)
    const count = counted(found.length, 'run')
    await writeFileAtomic(path, renderRuns(`${title}: ${count}`, notes, found))
    return { text: `${path}: ${count}\n`, report: { out: path, runs } }
  },
})

/** A page is written over an earlier one and over nothing else. */
async function refuseOther(path: string): Promise<void> {
  if (!existsSync(path)) return
  const text = await readFile(path, 'latin1').catch(asFileError('Reading', path))
  if (/^<!doctype html/i.test(text)) return
  throw new ConfigError(`${path} is there and is no page; give --out another name`, { detail: { path } })
}

function check(tree: Tree, locate: Locate): Settings {
  const { runs = [], ...others } = tree
  const sources = ['pairs', 'pairsReport', 'metrics', 'evaluation', 'rounds'] as const
  if ((runs as string[]).length === 0 && sources.every((key) => others[key] === undefined)) {
    throw new ArgumentError(
      'No run is named: give the folders of training runs or pipelines, or with --out what a page of one run is made of: --metrics, --evaluation, --pairs',
    )
  }
  if ((runs as string[]).length === 0) return { runs: [], ...checkSettings(reportStage, others, locate) }
  const given = checkTree(settings, tree, locate)
  for (const key of sources) {
    if (others[key] === undefined) continue
    throw configError([{ path: [key], message: `${key} has no place in a comparison of runs` }], locate)
  }
  return given
}
