/** Runs the examples one after the other: `node main.js MODEL FOLDER`. Prints as JSON what they came to. */
import { writeFile } from 'node:fs/promises'
import { readJsonl, sample } from 'fire-train/data'
import { importData } from 'fire-train/import'
import { ask } from './ask.js'
import { compare } from './compare.js'
import { flipped, makePairs } from './pairs.js'
import { pipelineFile, runMine } from './stage.js'
import { trainFor } from './train.js'

const [model, folder] = process.argv.slice(2)
const data = `${folder}/data`
const samples = `${data}/samples.jsonl`
await importData({ kind: 'phantom', out: data, phantom: { trainStudies: 6, testStudies: 2, seed: 1 } })

const answers: string[] = []
for await (const { record } of readJsonl(samples, sample)) {
  answers.push(await ask(model, `${data}/${record.images[0].path}`, record.question))
  break
}

const { statistics } = await makePairs(model, samples, folder)
const run = [`${folder}/pairs.jsonl`, `${folder}/run`] as const
const stopped = await trainFor(0, model, ...run)
const finished = await trainFor(60_000, model, ...run)

await writeFile(`${folder}/pipeline.yaml`, pipelineFile(model))
const { stages } = await runMine(`${folder}/pipeline.yaml`)

const training = [stopped, finished].map(({ interrupted, step, resumedFrom }) => ({ interrupted, step, resumedFrom }))
const better = compare([true, false, false, true], [true, true, true, true])
console.log(JSON.stringify({ answers, statistics, flipped, training, stages, better }))
