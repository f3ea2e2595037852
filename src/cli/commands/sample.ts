import { sampleStage } from '../../sample/stage.js'
import { describeAnswers } from '../answers.js'
import { stageCommand } from '../stage-command.js'

export const sample = stageCommand(sampleStage, {
  examples: [['sample --samples s.jsonl --model M --out r.jsonl --answers 4 --temperature 0.7', 'four answers each']],
  notes:
    'After a stop of any kind, run the same command again: it continues. Questions without an answer are asked again. Exit code 1: no question has an answer.',
  describe: describeAnswers,
})
