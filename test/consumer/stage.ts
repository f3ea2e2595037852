/** A stage of one's own in a pipeline, before the built-in ones. */
import { loadPipeline, type PipelineReport, runPipeline } from 'fire-train'
import { readJsonl, sample, writeJsonl } from 'fire-train/data'
import { stages } from 'fire-train/pipeline'
import { defineStage } from 'fire-train/stage'
import { z } from 'zod'

/** Keeps the questions of one answer type. */
const choose = defineStage({
  name: 'choose',
  summary: 'Keep the questions of one answer type',
  settings: z.strictObject({
    from: z.string().meta({ description: 'Sample records', path: 'input' }),
    type: z.enum(['closed', 'open']).default('closed').meta({ description: 'Which questions are kept' }),
    out: z.string().meta({ description: 'Sample records', path: 'output' }),
  }),
  takes: {},
  out: { setting: 'out', name: 'samples.jsonl' },
  makes: ({ out }) => ({ samples: out }),
  leaves: ({ out }) => [out],
  async run({ from, type, out }) {
    const kept: unknown[] = []
    for await (const { record } of readJsonl(from, sample)) if (record.answerType === type) kept.push(record)
    await writeJsonl(out, kept)
    return { interrupted: false, summary: `${kept.length} ${type} questions` }
  },
})

/** Its section stands beside the built-in ones; `sample` takes what it makes. Paths are relative to the file. */
export const pipelineFile = (model: string): string => `
output: mine
model: ${model}
choose: { from: data/samples.jsonl, type: closed }
sample: { images: data, limit: 3 }
`

export async function runMine(file: string): Promise<PipelineReport> {
  const pipeline = await loadPipeline(file, [], [choose, ...stages])
  return runPipeline(pipeline)
}
