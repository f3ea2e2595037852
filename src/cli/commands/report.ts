import { reportStage } from '../../report/stage.js'
import { stageCommand } from '../stage-command.js'

export const report = stageCommand(reportStage, {
  examples: [
    ['report --metrics run/metrics.jsonl --evaluation eval --out report.html', 'curves, and before and after'],
  ],
  notes: 'A pipeline with a section `report` fills in the paths, and shows how long each stage took.',
})
