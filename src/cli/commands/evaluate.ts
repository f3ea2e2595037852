import { compareSettings, rejudgeSettings } from '../../evaluate/settings.js'
import { evaluateStage, runRejudge } from '../../evaluate/stage.js'
import { defineStage } from '../../stage/index.js'
import { defineCommand } from '../command.js'
import { stageCommand } from '../stage-command.js'

/** The same answers, judged by another rule or judge: nothing is asked of the systems again. */
const rejudge = stageCommand(
  defineStage({
    name: 'rejudge',
    summary: 'Judge the answers of a finished evaluation again, without asking for an answer',
    settings: rejudgeSettings,
    positionals: ['folder'],
    takes: {},
    out: { setting: 'out', name: '' },
    makes: () => ({}),
    leaves: ({ out }) => [out],
    earlier: ['overwrite'],
    run: runRejudge,
  }),
  {
    examples: [['evaluate rejudge eval --judge http://HOST:PORT/v1 --judge-model M --out eval-m', 'another judge']],
  },
)

const compare = defineCommand({
  name: 'compare',
  summary: 'Compare the systems of two finished evaluations of the same questions',
  settings: compareSettings,
  positionals: ['first', 'second'],
  examples: [['evaluate compare eval-a eval-b', 'paired, refused for other questions']],
  async run({ first, second, margin, seed, primary }) {
    const { compareEvaluations } = await import('../../evaluate/compare-folders.js')
    const { describeBetween } = await import('../../evaluate/stage.js')
    const report = await compareEvaluations(first, second, { margin, seed, primary })
    return { text: `${describeBetween(report).join('\n')}\n`, report }
  },
})

export const evaluate = stageCommand(evaluateStage, {
  examples: [
    [
      'evaluate --samples s.jsonl --split test --model M --adapter run/adapter --out eval',
      'the model alone and with its adapter, with intervals',
    ],
    ['evaluate --samples s.jsonl --predictions theirs.jsonl --out eval', 'answers that another program gave'],
    ['evaluate eval.yaml --set out=eval', 'settings from a file, whose keys are those of the section `evaluate`'],
  ],
  notes:
    'The folder has evaluation.json, verdicts.jsonl and report.html. After a stop of any kind, run the same command again: it continues.',
  further: [rejudge, compare],
})
