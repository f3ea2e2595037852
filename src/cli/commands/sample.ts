import { sampleStage } from '../../sample/stage.js'
import { counted } from '../../settings/plural.js'
import { stageCommand } from '../stage-command.js'

export const sample = stageCommand(sampleStage, {
  examples: [['sample --samples s.jsonl --model M --out r.jsonl --answers 4 --temperature 0.7', 'four answers each']],
  describe: ({ answers, reused, failed, failures, out }) =>
    `${counted(answers, 'answer')} (${reused} from before): ${out}\n${failures === null ? '' : `${counted(failed, 'question has', 'questions have')} no answer; see ${failures}\n`}`,
})
