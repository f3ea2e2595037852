/** What an evaluation left in its folder, as its page needs it. */
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { z } from 'zod'
import { readJsonl } from '../../data/jsonl.js'
import { type Sample, sample } from '../../data/records.js'
import { evaluationFiles } from '../files.js'
import { type EvaluationResults, readEvaluation } from '../finished.js'
import {
  type ComparedGrounding,
  compareGrounding,
  type GroundingResults,
  groundingResults,
} from '../grounding/summary.js'
import { groundingRecord, type ReportRecord, reportRecord, type VerdictRecord, verdictRecord } from '../records.js'

/** Numbers and the records behind them; lists are empty where a file is not there. */
export interface EvaluationFolder {
  results: EvaluationResults
  verdicts: VerdictRecord[]
  reports: ReportRecord[]
  grounding: { results: GroundingResults[]; comparisons: ComparedGrounding[] }
  samples: ReadonlyMap<string, Sample>
  /** What paths of images are relative to. */
  imageRoot: string
}

/** @throws {DataError} for a line that is no record, with file and line. @throws {FileError} when evaluation.json is missing. */
export async function readFolder(folder: string): Promise<EvaluationFolder> {
  const results = await readEvaluation(folder)
  const grounding = await recordsOf(join(folder, evaluationFiles.grounding), groundingRecord)
  const samples = await recordsOf(join(folder, evaluationFiles.samples), sample)
  return {
    results,
    imageRoot: resolve(folder, results.inputs.imageRoot),
    verdicts: await recordsOf(join(folder, evaluationFiles.verdicts), verdictRecord),
    reports: await recordsOf(join(folder, evaluationFiles.reports), reportRecord),
    grounding: {
      results: groundingResults(grounding, results.seed),
      comparisons: compareGrounding(grounding, results.baseline, results.seed),
    },
    samples: new Map(samples.map((each) => [each.id, each])),
  }
}

async function recordsOf<T>(path: string, schema: z.ZodType<T>): Promise<T[]> {
  const records: T[] = []
  if (existsSync(path)) for await (const { record } of readJsonl(path, schema)) records.push(record)
  return records
}
