/** What a run leaves in its output folder. Rank 0 writes it; every rank has the same adapter. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { hashModel, writeFolderAtomic, writeJson } from '../data/files.js'
import { writeJsonl } from '../data/jsonl.js'
import { readMergedFrom } from '../data/merged.js'
import { problemFile } from '../engine/unfit-adapter.js'
import { version } from '../version.js'
import { fingerprint, saveCheckpoint, type TrainerState } from './checkpoint.js'
import { describeMachine, peakHostBytes } from './machine.js'
import type { EvaluationRow, LogRow, MetricsRow, RankRow } from './metrics.js'
import type { Standing } from './page/run-page.js'
import { clearEarlierRun, type RunFolder, runFiles, writeIdentity } from './run-folder.js'
import { RunLog } from './run-log.js'
import { startsAtReference } from './self-check.js'
import type { TrainConfig } from './settings.js'
import type { Found, Tracking } from './tracking.js'
import type { TrainReport } from './train-report.js'
import type { Prepared } from './types.js'
import { readVerdict } from './verdict.js'

/** Counters of a checkpoint. */
export type Counters = Pick<TrainerState, 'step' | 'numTokens' | 'tracking'>

/** Where a call of `train` has come to. */
export interface Ended {
  step: number
  resumedFrom: number
  complete: boolean
  /** Why a run has come to its end before its last step. */
  stopped: string | null
  tracking: Tracking
  /** Of exactly this step. */
  checkpoint: string | null
  last: MetricsRow | null
  seconds: number
}

export interface RunOutput {
  /** A step, with what each rank says of it, or an evaluation. */
  append(row: LogRow, byRank?: readonly RankRow[]): Promise<void>
  /** @returns the folder of the checkpoint. */
  save(counters: Counters): Promise<string>
  /** The adapter as it is now, as the best so far. */
  saveBest(found: Found | null, row: EvaluationRow): Promise<void>
  /** Waits until every row is on the disk. */
  sync(): Promise<void>
  /** What the run came to, written when it is complete; `null` on ranks that write nothing. */
  finish(ended: Ended): Promise<TrainReport | null>
  /** Says on the page how it stands. */
  show(how: Omit<Standing, 'step' | 'totalSteps'>): Promise<void>
  close(): Promise<void>
}

/** What a rank has that leaves the writing to rank 0. */
export const nothingWritten: RunOutput = {
  append: async () => {},
  save: async () => '',
  saveBest: async () => {},
  sync: async () => {},
  finish: async () => null,
  show: async () => {},
  close: async () => {},
}

export interface RunParts {
  config: TrainConfig
  folder: RunFolder
  prepared: Prepared
  /** How many there are. */
  ranks: number
  /** As `TrainOptions.again`. */
  again?: string
  onLog?: (line: string) => void
}

export class WrittenRun implements RunOutput {
  readonly #parts: RunParts
  readonly #log: RunLog

  private constructor(parts: RunParts, log: RunLog) {
    this.#parts = parts
    this.#log = log
  }

  /** Takes the place of an earlier run that is replaced, or goes on with the files of the checkpoint. */
  static async begin(parts: RunParts): Promise<WrittenRun> {
    const { config, folder, prepared, ranks, again } = parts
    await clearEarlierRun(config, folder)
    await writeIdentity(config, folder)
    const { engine, failures, totalSteps } = prepared
    if (failures.length > 0) await writeJsonl(join(config.output, runFiles.failed), failures)
    const { warnings } = prepared.loaded
    const about = { config, model: engine.info, totalSteps, again, warnings, ranks }
    return new WrittenRun(parts, await RunLog.open(about, folder.checkpoint?.state))
  }

  append(row: LogRow, byRank: readonly RankRow[] = []): Promise<void> {
    return this.#log.append(row, byRank)
  }

  async save(counters: Counters): Promise<string> {
    const { config, folder, prepared, ranks } = this.#parts
    await this.#log.sync()
    const state: TrainerState = {
      format: 1,
      version,
      totalSteps: prepared.totalSteps,
      ...this.#log.kept,
      ranks,
      ...counters,
      ...folder.made,
      leftOut: prepared.failures.map(({ id }) => id),
      config: fingerprint(config),
    }
    return saveCheckpoint(config.output, prepared.engine, state, {
      keep: config.checkpoint.keep,
      baseModel: config.model,
    })
  }

  /** A run that is killed before its next checkpoint evaluates the same adapter again, and writes the same folder. */
  async saveBest(found: Found | null, row: EvaluationRow): Promise<void> {
    const { config, prepared } = this.#parts
    await writeFolderAtomic(join(config.output, runFiles.best), async (temporary) => {
      await prepared.engine.saveAdapter(temporary, config.model)
      await writeJson(join(temporary, 'evaluation.json'), { metric: config.checkpoint.best, ...found, row })
    })
  }

  sync(): Promise<void> {
    return this.#log.sync()
  }

  async finish(ended: Ended): Promise<TrainReport> {
    const { config, folder, prepared, ranks, onLog = () => {} } = this.#parts
    const { complete, stopped, tracking, ...reached } = ended
    const { output, objective, lora } = config
    const { engine, loaded, failures, totalSteps, heldOut } = prepared
    const merged = await readMergedFrom(config.model)
    const { problem, concernsBest, warnings } = complete
      ? await readVerdict(join(output, runFiles.metrics), objective.name, startsAtReference(lora))
      : { problem: null, concernsBest: false, warnings: [] }
    for (const warning of warnings) onLog(`warning: ${warning}`)
    const adapter = complete ? await this.#saveAdapter(problem) : null
    const report: TrainReport = {
      version,
      ...reached,
      totalSteps,
      interrupted: !complete,
      stoppedEarly: ended.step < totalSteps ? stopped : null,
      output,
      init: lora.init,
      initMark: folder.made.initMark,
      mergedSha256: merged?.adapterSha256 ?? null,
      reference: lora.init === null ? 'base' : lora.reference,
      adapter,
      adapterSha256: adapter && (await hashModel(adapter)),
      best: await this.#best(tracking, concernsBest ? problem : null),
      heldOut: heldOut?.examples.length ?? 0,
      evaluation: tracking.last,
      pairs: loaded.counts,
      failures: failures.length > 0 ? join(output, runFiles.failed) : null,
      problem,
      warnings: [...loaded.warnings, ...warnings],
      model: engine.info,
      machine: describeMachine(),
      ranks,
      checkpointing: prepared.checkpointing,
      packedBytes: prepared.packedBytes,
      peakHostBytes: peakHostBytes(),
    }
    if (complete) await writeJson(join(output, runFiles.report), report)
    const { stoppedEarly } = report
    await this.#log.show({ state: complete ? 'complete' : 'stopped', problem, stoppedEarly, warnings: report.warnings })
    return report
  }

  show(how: Omit<Standing, 'step' | 'totalSteps'>): Promise<void> {
    return this.#log.show(how)
  }

  close(): Promise<void> {
    return this.#log.close()
  }

  /** Marked with the problem where it concerns the best adapter too. */
  async #best({ best }: Tracking, problem: string | null): Promise<TrainReport['best']> {
    const { output, checkpoint } = this.#parts.config
    const { best: metric } = checkpoint
    if (!metric || !best) return null
    const path = join(output, runFiles.best)
    // A folder that somebody deleted meanwhile must not cost the run its report.
    if (!existsSync(path)) return { path, metric, ...best }
    if (problem !== null) await writeJson(join(path, problemFile), { problem })
    return { path, sha256: await hashModel(path), metric, ...best }
  }

  /** An adapter that is not to be used says so in its folder. */
  async #saveAdapter(problem: string | null): Promise<string> {
    const { config, prepared } = this.#parts
    const path = join(config.output, runFiles.adapter)
    await writeFolderAtomic(path, async (temporary) => {
      await prepared.engine.saveAdapter(temporary, config.model)
      if (problem) await writeJson(join(temporary, problemFile), { problem })
    })
    return path
  }
}
