/** A call or two of every subpath, for the type checker alone: what they take and give can be named and used. */
import { FireError, type LoadedPairs, loadPairs, type Pair, type TrainConfigInput } from 'fire-train'
import { corruptImage, encodeRle, type Mask, type PixelImage, recordSeed } from 'fire-train/corrupt'
import { describeImage, JsonlAppender, pair, portableImage, readJsonl } from 'fire-train/data'
import { BudgetError, type Endpoint, imagePart, openEndpoint } from 'fire-train/endpoint'
import { defaultLora, ImageCache, loadNative, type ObjectiveSpec, openEngine } from 'fire-train/engine'
import {
  evaluate,
  groundingMetrics,
  type Judge,
  judgeAnswers,
  readGreen,
  type SystemComparison,
} from 'fire-train/evaluate'
import { hubAccess, modelFiles, type PullReport, pull } from 'fire-train/hub'
import { type ImportReport, importData, parseShares } from 'fire-train/import'
import { type Inspection, inspectFiles } from 'fire-train/inspect'
import { constructPair, EndpointProvider, type PairOutcome, type Task } from 'fire-train/pairs'
import { conceptMask, generateStudies, judge, type Study } from 'fire-train/phantom'
import { pipelineSchema, stages } from 'fire-train/pipeline'
import { collectReport, renderReport } from 'fire-train/report'
import { type Answerer, sampleAnswers, sampleSettings, serverAnswerer } from 'fire-train/sample'
import { counting, type Progress, type Stage, silent } from 'fire-train/stage'
import { Chat, phraseMask, type Tokenizer } from 'fire-train/text'
import { collate, learningRateFactor, objectives, resolveTrainConfig, warmupSteps } from 'fire-train/train'

/** A training loop of one's own, until the signal fires. */
export async function loop(input: TrainConfigInput, signal: AbortSignal): Promise<number[]> {
  const { model, schedule, optimizer, imageCache, data } = resolveTrainConfig(input)
  const { pairs, imageRoot }: LoadedPairs = await loadPairs(data.train, { emptyPhrase: 'skip' })
  await using engine = await openEngine({ model, lora: { ...defaultLora, rank: 16 } }, { signal })
  await using images = new ImageCache(engine, imageCache)
  const chat = await Chat.load(model, engine.info)
  const imageTokens = (width: number, height: number): number => engine.imageTokens(width, height)
  const context = { chat, imageRoot, corrupted: objectives.fire.visual !== null, imageTokens }
  const objective: ObjectiveSpec = { name: 'fire', beta: 0.1, alpha: 0, gamma: 0.1, lambda: 0.5, klReduction: 'sum' }
  const losses: number[] = []
  for (const [step, record] of pairs.entries()) {
    const example = collate(record, context)
    await images.hold(example.images, { signal })
    const stats = await engine.accumulate([example.input], objective, { normalizer: 1, layout: 'packed' }, { signal })
    const lr = optimizer.lr * learningRateFactor(schedule, step, pairs.length)
    if (step >= warmupSteps(schedule, pairs.length)) losses.push(stats.pairs[0].loss)
    await engine.update({ ...optimizer, lr })
  }
  return losses
}

/** Masks of a phrase, and the twin of an image under a mask. */
export async function twin(tokenizer: Tokenizer, record: Pair, image: PixelImage, mask: Mask): Promise<PixelImage> {
  const { ids, offsets } = tokenizer.encodeWithOffsets(record.chosen)
  const inside: Uint8Array = phraseMask(
    offsets,
    record.edits.map(({ chosen }) => chosen),
    ids.length + 1,
  )
  if (inside.every((byte) => byte === 0)) throw new Error(`no phrase in ${JSON.stringify(encodeRle(mask))}`)
  return corruptImage(image, 'lesion-noise', mask, 45, recordSeed(record.id, 42))
}

/** A language model that judges, edits and answers. */
export async function ofServer(task: Task, picture: string): Promise<PairOutcome> {
  const endpoint: Endpoint = await openEndpoint({ url: 'http://127.0.0.1:8000/v1', model: 'judge' })
  const ref = await describeImage(picture, '.')
  const content = [imagePart(await portableImage(ref, '.')), { type: 'text', text: 'What is this?' } as const]
  try {
    const { content: said } = await endpoint.ask({ messages: [{ role: 'user', content }] })
    console.log(said, endpoint.usage.cost)
  } catch (error) {
    if (error instanceof BudgetError || (error instanceof FireError && error.code === 'ERR_FIRE_ENDPOINT')) throw error
  }
  const provider = new EndpointProvider(endpoint)
  return constructPair(task, { provider, blindJudge: provider, mode: 'on-policy', seed: 0 })
}

const answersOf = new Map<string, string>()

/** A judge of one's own, over two rounds. */
export async function rounds(samples: string): Promise<SystemComparison[]> {
  const lengths: Judge = {
    about: { kind: 'length', description: 'by length' },
    judge: async (_, text) => ({ correct: text.length < 80, decided: true, reason: `${text.length} characters` }),
  }
  const settings = sampleSettings.parse({ samples, out: 'responses.jsonl' })
  const answerer: Answerer = serverAnswerer(
    { endpoint: { url: 'http://127.0.0.1/v1', model: 'm' }, imageRoot: '.' },
    settings,
  )
  const { interrupted } = await sampleAnswers({ samples, out: 'responses.jsonl', settings }, answerer)
  if (interrupted) return []
  await judgeAnswers([], answersOf, lengths)
  const evaluated = await evaluate({
    systems: [{ name: 'base', kind: 'model', model: 'model', adapter: null }],
    samples,
    imageRoot: '.',
    out: 'evaluation',
    asked: settings,
    engine: { device: 'cpu', dtype: 'f32', threads: 0, batchSize: 8 },
    truth: lengths,
    scores: [],
    margin: 0.03,
    maxUnreadable: 0.05,
    seed: 0,
  })
  const attention = { heads: 1, weights: [0.5, 0.5] }
  if (readGreen('').green === groundingMetrics(attention, attention, [1, 0]).ar) return []
  return evaluated?.results.comparisons ?? []
}

/** Data in, data looked at. */
export async function files(progress: Progress = silent): Promise<[PullReport, ImportReport, Inspection[]]> {
  const access = await hubAccess()
  const pulled = await pull({ repo: 'a/b', access, include: modelFiles, onProgress: counting(progress, 'bytes') })
  const splitByImage = { parts: parseShares('80/20'), seed: 1 }
  const imported = await importData({ kind: 'jsonl', source: 'mine.jsonl', out: 'data', splitByImage })
  const log = await JsonlAppender.open('log.jsonl')
  for await (const { record, line } of readJsonl('pairs.jsonl', pair)) await log.append({ id: record.id, line })
  await log.close()
  return [pulled, imported, await inspectFiles(['pairs.jsonl'], { checkImages: true })]
}

/** A page, a schema, a world. */
export async function rest(): Promise<[string, Study[], Stage[]]> {
  const [study] = generateStudies({ seed: 1, split: 'test', count: 1 })
  const [question] = study.questions
  const { correct } = judge(question.truth, question.answer)
  console.log(correct, conceptMask(study, question).length, loadNative().cpuInfo().cores, pipelineSchema().shape)
  const page = renderReport(await collectReport({ metrics: 'metrics.jsonl' }, { title: 'Mine', notes: [], stages: [] }))
  return [page, [study], [...stages]]
}
