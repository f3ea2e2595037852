/** Who says whether an answer is right, where it is not the rules. */
import type { Sample, Verdict } from '../data/records.js'

/** Decides whether an answer is right; own judges implement it. */
export interface Judge {
  /** What it is and how it is set, for evaluation.json; `description` says how it judges, as in "judged by rule". */
  readonly about: Readonly<Record<string, unknown>> & { kind: string; description: string }
  /** Throws for a sample that it could not judge any answer to; called before answers are asked for. */
  check?(sample: Sample): void
  /** The verdict on an answer that is not empty. */
  judge(sample: Sample, text: string): Promise<Verdict>
}
