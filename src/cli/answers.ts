/** What `sample` and `generate` say of a run. */
import type { SampleReport } from '../sample/sample.js'
import { counted } from '../text/plural.js'

/** Of questions that are left out: how many, and how they come to be asked again. */
export function withoutAnswer(failed: number, failures: string | null = null): string {
  const again = failures === null ? '' : `; see ${failures}; the same command asks them again`
  return `${counted(failed, 'question has', 'questions have')} no answer${again}`
}

export function describeAnswers({ answers, reused, failed, failures, out }: SampleReport): string {
  const earlier = reused > 0 ? ` (${reused} from an earlier run)` : ''
  const rest = failed > 0 ? `${withoutAnswer(failed, failures)}\n` : ''
  return `${counted(answers, 'answer')}${earlier}: ${out}\n${rest}`
}
