/** `evaluate`: greedy answers to held-out questions, without and with the adapter, judged and compared. */
import { dirname, join } from 'node:path'
import { sampleTraces } from '../sample/files.js'
import { defineStage } from '../stage/index.js'
import type { GroupAccuracy } from './accuracy.js'
import type { EvaluationResults } from './evaluate.js'
import { evaluationFiles } from './files.js'
import { evaluateSettings } from './settings.js'

const leaves = (out: string): string[] => Object.values(evaluationFiles).map((name) => join(out, name))

const traces = (out: string): string[] => [
  ...leaves(out),
  ...['', 'lesion-noise.', 'lesion-blackout.'].flatMap((series) =>
    ['before', 'after'].flatMap((round) => sampleTraces(join(out, `${series}${round}.responses.jsonl`))),
  ),
]

export const evaluateStage = defineStage({
  name: 'evaluate',
  summary: 'Compare answers to held-out questions, without and with an adapter',
  settings: evaluateSettings,
  takes: { samples: 'heldOut', adapter: 'adapter', trainedOn: 'pairs', masks: 'masks' },
  out: { setting: 'out', name: '' },
  makes: ({ out }) => ({ evaluation: out }),
  leaves: ({ out }) => leaves(out),
  traces: ({ out }) => traces(out),
  ignores: ({ judge, attentionQuestions, hideLesions }) => [
    ...(judge === 'rules' ? [] : ['openMatch']),
    ...(attentionQuestions > 0 || hideLesions.length > 0 ? [] : ['masks', 'maskRoot']),
    ...(hideLesions.includes('lesion-noise') ? [] : ['hiddenSigma']),
  ],
  earlier: ['overwrite'],
  async run(settings, { signal, progress, resume, overwrite, native }) {
    const { evaluateAdapter, phantomJudge, rulesJudge } = await import('./index.js')
    const { PhantomProvider, RulesProvider } = await import('../pairs/index.js')
    const { samples, images, out, trainedOn, judge, openMatch, masks, maskRoot, seed } = settings
    const { attentionQuestions, hideLesions, hiddenSigma } = settings
    const { model, adapter, device, dtype, threads, batchSize, beyondContext } = settings
    const { promptSuffix, split, limit, maxNewTokens, stop } = settings
    const provider = judge === 'phantom' ? new PhantomProvider() : new RulesProvider()
    const results: EvaluationResults | undefined = await evaluateAdapter(
      {
        samples,
        imageRoot: images ?? dirname(samples),
        out,
        trainedOn,
        batchSize,
        beyondContext,
        engine: { model, adapter, device, dtype, threads },
        asked: { promptSuffix, split, limit, maxNewTokens, stop, seed, answers: 1, temperature: 0, topP: 1, topK: 0 },
        judge: judge === 'phantom' ? phantomJudge : rulesJudge(openMatch),
        grounding: { questions: attentionQuestions, provider, masks, maskRoot, seed },
        hiding:
          hideLesions.length > 0 ? { methods: hideLesions, sigma: hiddenSigma, masks, maskRoot, seed } : undefined,
        overwrite: overwrite && !resume,
      },
      { signal, progress, native },
    )
    if (!results) return { interrupted: true, summary: '' }
    const share = ({ accuracy }: GroupAccuracy): string => `${(100 * accuracy.value).toFixed(1)} %`
    const [{ pValue, conclusion, difference }] = results.comparison
    const points = (value: number): string => `${value > 0 ? '+' : ''}${(100 * value).toFixed(1)}`
    const size = `difference ${points(difference.value)} points [${points(difference.low)}, ${points(difference.high)}]`
    const verdict = `${conclusion.replace('_', ' ')}: ${size}, p = ${pValue.toPrecision(2)}`
    const summary = `${share(results.before[0])} before, ${share(results.after[0])} after (${verdict})`
    return { interrupted: false, summary, report: results }
  },
})
