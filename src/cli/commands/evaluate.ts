import { evaluateStage } from '../../evaluate/stage.js'
import { stageCommand } from '../stage-command.js'

export const evaluate = stageCommand(evaluateStage, {
  examples: [
    [
      'evaluate --samples s.jsonl --split test --model M --adapter run/adapter --out eval',
      'before and after training, with intervals',
    ],
  ],
  notes: 'The folder has before.jsonl, after.jsonl and results.json.',
})
