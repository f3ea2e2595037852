/** Runs the examples one after the other: `node main.js MODEL FOLDER`. Prints as JSON what they came to. */
import { writeFile } from 'node:fs/promises'
import { Chat, openEngine } from 'fire-train'
import { loadPairs, readJsonl, sample } from 'fire-train/data'
import { importData } from 'fire-train/import'
import { collate } from 'fire-train/train'
import { ask } from './ask.js'
import { compare } from './compare.js'
import { loop } from './loop.js'
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

await using planner = await openEngine({ model, planOnly: true })
const { pairs, imageRoot } = await loadPairs(run[0], { emptyPhrase: 'skip' })
const context = {
  chat: await Chat.load(model, planner.info),
  imageRoot,
  corrupted: false,
  imageTokens: (width: number, height: number) => planner.imageTokens(width, height),
}
const steps = pairs.slice(0, 2).map(async (pair) => {
  const { input, images } = collate(pair, context)
  return { images: await Promise.all(images.map((image) => image.decode())), pairs: [input] }
})
await loop(model, await Promise.all(steps), `${folder}/adapter`, AbortSignal.timeout(60_000))

await writeFile(`${folder}/pipeline.yaml`, pipelineFile(model))
const { stages } = await runMine(`${folder}/pipeline.yaml`)

const training = [stopped, finished].map(({ interrupted, step, resumedFrom }) => ({ interrupted, step, resumedFrom }))
const better = compare([true, false, false, true], [true, true, true, true])
console.log(JSON.stringify({ answers, statistics, flipped, training, stages, better }))
