/** What an evaluation left in its folder, as its page needs it. */
import { join, resolve } from 'node:path'
import { type Sample, sample } from '../../data/records.js'
import { evaluationFiles } from '../files.js'
import { type EvaluationResults, readEvaluation, recordsIn } from '../finished.js'
import {
  type ComparedGrounding,
  compareGrounding,
  type GroundingResults,
  groundingResults,
} from '../grounding/summary.js'
import {
  type GroundingMap,
  groundingMap,
  groundingRecord,
  type ReportRecord,
  reportRecord,
  type VerdictRecord,
  verdictRecord,
} from '../records.js'

/** Numbers and the records behind them; lists are empty where a file is not there. */
export interface EvaluationFolder {
  results: EvaluationResults
  verdicts: VerdictRecord[]
  reports: ReportRecord[]
  grounding: { results: GroundingResults[]; comparisons: ComparedGrounding[]; maps: GroundingMap[] }
  /** Absolute or relative to the working directory. */
  place: string
  samples: ReadonlyMap<string, Sample>
  /** What paths of images are relative to. */
  imageRoot: string
}

/** @throws {DataError} for a line that is no record, with file and line. @throws {FileError} when evaluation.json is missing. */
export async function readFolder(folder: string): Promise<EvaluationFolder> {
  const results = await readEvaluation(folder)
  const grounding = await recordsIn(join(folder, evaluationFiles.grounding), groundingRecord)
  const samples = await recordsIn(join(folder, evaluationFiles.samples), sample)
  return {
    results,
    place: folder,
    imageRoot: resolve(folder, results.inputs.imageRoot),
    verdicts: await recordsIn(join(folder, evaluationFiles.verdicts), verdictRecord),
    reports: await recordsIn(join(folder, evaluationFiles.reports), reportRecord),
    grounding: {
      results: groundingResults(grounding, results.seed),
      comparisons: compareGrounding(grounding, results.baseline, results.seed),
      maps: await recordsIn(join(folder, evaluationFiles.maps), groundingMap),
    },
    samples: new Map(samples.map((each) => [each.id, each])),
  }
}
