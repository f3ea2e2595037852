/** The adapters that a run had at its end, by content: by it an adapter or an evaluation is known to be of the run. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { hashModel } from '../data/files.js'
import { type RunAdapter, runAdapters, runFiles } from './run-folder.js'
import type { TrainReport } from './train-report.js'

export interface KeptAdapter extends RunAdapter {
  /** Missing for one that is gone and whose hash no report has. */
  sha256?: string
}

/**
 * The best one, the last one, then those of the checkpoints, newest first. Moved or deleted ones too: the report has their hashes.
 * @param report train.json of the run. @throws {CheckpointError} when there is none.
 */
export async function keptAdapters(
  run: string,
  report: Pick<TrainReport, 'best' | 'adapterSha256'>,
): Promise<KeptAdapter[]> {
  const best = report.best ? [{ step: report.best.step, path: join(run, runFiles.best) }] : []
  const said = new Map([
    [join(run, runFiles.best), report.best?.sha256],
    [join(run, runFiles.adapter), report.adapterSha256 ?? undefined],
  ])
  const kept: KeptAdapter[] = []
  for (const each of [...best, ...(await runAdapters(run)).reverse()]) {
    const sha256 = said.get(each.path) ?? (existsSync(each.path) ? await hashModel(each.path) : undefined)
    kept.push({ ...each, sha256 })
  }
  return kept
}
