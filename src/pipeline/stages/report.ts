/** `report`: one page of everything that the stages before it left. */
import { join } from 'node:path'
import { z } from 'zod'
import { writeFileAtomic } from '../../data/files.js'
import { collectReport, renderReport } from '../../report/index.js'
import { defineStage } from '../stage.js'

const schema = z.strictObject({
  /** Of the page. */
  title: z.string().min(1).default('fire-train'),
  /** Sentences under the headline, for what the numbers do not say. */
  notes: z.array(z.string().min(1)).default([]),
})

export const reportStage = defineStage({
  section: 'report',
  schema,
  paths: [],
  plan({ settings, shared, artifacts, fail }) {
    const { pairs, pairsReport, training, evaluation } = artifacts
    const sources = { pairs, pairsReport, training, evaluation }
    const inputs = Object.values(sources).filter((path) => path !== undefined)
    if (inputs.length === 0) fail([], 'report has nothing to show: no stage makes pairs, trains or evaluates')
    // Beside the stages' folders: it is about all of them.
    const page = join(shared.output, 'report.html')
    return {
      name: 'report',
      inputs,
      settings,
      outputs: [page],
      async run({ finished }) {
        const data = await collectReport(sources, { ...settings, stages: finished })
        await writeFileAtomic(page, renderReport(data))
        return { interrupted: false, summary: page }
      },
    }
  },
})
