/** Files of answers held against a baseline, judged by rules and a language model, and judged again. */
import { evaluate, type JudgeRequest, rejudge, renderEvaluation } from 'fire-train/evaluate'
import { sampleSettings } from 'fire-train/sample'

export async function evaluateFiles(samples: string, answers: Record<string, string>, out: string): Promise<string> {
  const judge: JudgeRequest = {
    endpoint: { url: 'http://127.0.0.1:8000/v1', model: 'judge', budget: 2 },
    on: 'open',
    protocol: 'ours',
    secondSample: 0,
    seed: 42,
    cache: `${out}/cache`,
  }
  const judging = { truth: null, scores: [], maxUnreadable: 0.05, seed: 42 }
  const evaluated = await evaluate({
    ...judging,
    systems: Object.entries(answers).map(([name, path]) => ({ name, kind: 'file', path })),
    samples,
    imageRoot: '.',
    out,
    asked: sampleSettings.parse({ samples, out }),
    engine: { device: 'cpu', dtype: 'f32', threads: 0, batchSize: 8 },
    margin: 0.03,
    judge,
  })
  if (!evaluated) return 'stopped: the same call goes on'
  if (evaluated.problem) throw evaluated.problem
  const again = await rejudge(out, { ...judging, out: `${out}-rules` })
  console.log(again.results.judging.description)
  return renderEvaluation(out)
}
