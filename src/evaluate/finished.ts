/** evaluation.json as a whole, and how it is read again. */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { readJsonl } from '../data/jsonl.js'
import { asFileError, DataError, guarded } from '../errors.js'
import type { SampleSettings } from '../sample/settings.js'
import type { Made } from './about.js'
import type { AlongTraining } from './along.js'
import type { BlindSummary } from './blind.js'
import type { EvidenceResults } from './evidence.js'
import { evaluationFiles } from './files.js'
import type { ComparedGrounding, GroundingResults } from './grounding/summary.js'
import type { LabelResults } from './judges/labels.js'
import type { JudgeAgreement } from './judges/select.js'
import type { GreenAbout } from './reports/score.js'
import type { ComparedScore, ReportResults } from './reports/summary.js'
import type { QuestionResults } from './results.js'
import type { RewardResults } from './rewards/summary.js'

/** Reports of all systems. */
export interface ReportsResults {
  systems: ReportResults[]
  comparisons: { system: string; scores: ComparedScore[] }[]
  /** Null where no model counted errors. */
  green: GreenAbout | null
}

/** Where models look. */
export interface GroundingSummary {
  preset: string
  results: GroundingResults[]
  comparisons: ComparedGrounding[]
}

/** Verdicts held against those of the evaluation that was judged again. */
export interface Retest {
  /** Its folder, from this one. */
  folder: string
  /** Answers that a language model judged in one of them; all where none did. */
  count: number
  /** Answers whose verdict is another one now. */
  changed: number
  /** Over those that both decide; null for none. */
  agreement: JudgeAgreement | null
}

/** What evaluation.json holds. */
export interface EvaluationResults extends QuestionResults, EvidenceResults {
  made: Made
  /** Paths from the folder of the evaluation. */
  inputs: {
    samples: string
    samplesSha256: string
    imageRoot: string
    /** Files of pairs; none where they were not named. */
    trainedOn: { path: string; sha256: string }[]
  }
  asked: SampleSettings
  /** Null where no sample is a report. */
  reports: ReportsResults | null
  /** Null where no question with boxes was asked. */
  grounding: GroundingSummary | null
  /** Systems without the image; null where they were not asked so. */
  blind: BlindSummary | null
  /** Of each adapter on each file of pairs; none where no pairs were given. */
  rewards: RewardResults[]
  /** Null where no training run was given. */
  training: AlongTraining | null
  /** Null where people labelled nothing. */
  labels: LabelResults | null
  /** Null where nothing was judged again. */
  retest: Retest | null
  notes: string[]
}

/** What tells evaluation.json from other JSON, and from that of earlier versions. */
const shape = z.looseObject({
  made: z.looseObject({ at: z.string(), machine: z.string() }),
  baseline: z.string(),
  judging: z.looseObject({ first: z.string(), description: z.string() }),
  systems: z.array(z.looseObject({ name: z.string(), about: z.record(z.string(), z.unknown()) })),
  inputs: z.looseObject({ samples: z.string(), imageRoot: z.string(), trainedOn: z.array(z.unknown()).optional() }),
})

/** Reads evaluation.json of a folder. @throws {FileError} when there is none. @throws {DataError} when it is no evaluation. */
export async function readEvaluation(folder: string): Promise<EvaluationResults> {
  const path = join(folder, evaluationFiles.results)
  const text = await readFile(path, 'utf8').catch(asFileError('Reading', path))
  const value = guarded(
    () => JSON.parse(text) as unknown,
    (reason, cause) => new DataError(`${path} is not JSON: ${reason}`, { cause }),
  )
  // What was not measured then was not there.
  const unknown = { rewards: [], training: null, labels: null, retest: null }
  if (shape.safeParse(value).success) return { ...unknown, ...(value as object) } as unknown as EvaluationResults
  throw new DataError(`${path} is not an evaluation of this version`, {
    detail: { path },
    hint: 'Evaluate again: replies that were paid for are kept in the folder.',
  })
}

/** The records of a file of an evaluation; none where it is not there. */
export async function recordsIn<T>(path: string, schema: z.ZodType<T>): Promise<T[]> {
  const records: T[] = []
  if (existsSync(path)) for await (const { record } of readJsonl(path, schema)) records.push(record)
  return records
}
