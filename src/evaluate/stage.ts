/** `evaluate`: systems answer held-out questions, answers are judged, systems are compared. */
import { basename, dirname, extname, join } from 'node:path'
import type { z } from 'zod'

import { maskFiles } from '../corrupt/manifest.js'
import { writeFileAtomic } from '../data/files.js'
import { imagesNamedIn } from '../data/named.js'
import type { EndpointInput } from '../endpoint/settings.js'
import { refuseUnfit } from '../engine/unfit-adapter.js'
import { alone } from '../ranks/ranks.js'
import { checkTree, configError, type Locate } from '../settings/file.js'
import type { Tree } from '../settings/source.js'
import { defineStage, type StageContext, type StageResult } from '../stage/index.js'
import { announceRanks } from '../stage/split.js'
import { counted } from '../text/plural.js'
import type { SystemComparison } from './compare.js'
import type { BetweenEvaluations } from './compare-folders.js'
import { evaluationFiles, evaluationTraces } from './files.js'
import type { EvaluationResults } from './finished.js'
import { isNoise } from './hiding.js'
import type { Evaluated, JudgingRequest } from './judging.js'
import { servedWords } from './page/words.js'
import type { ComparedScore } from './reports/summary.js'
import type { RewardRequest } from './rewards/run.js'
import { evaluateSettings, type judging, type rejudgeSettings } from './settings.js'
import type { AnsweringSystem } from './systems.js'
import { unansweredIds, unfinishedOf } from './unfinished.js'

type Settings = z.output<typeof evaluateSettings>
type Judging = z.output<z.ZodObject<typeof judging>>

export const evaluateStage = defineStage({
  name: 'evaluate',
  summary: 'Ask systems held-out questions, judge the answers, and compare the systems',
  settings: evaluateSettings,
  check,
  takes: { samples: 'heldOut', adapter: 'adapter', trainedOn: 'trainedOn', masks: 'masks' },
  out: { setting: 'out', name: '' },
  // Not those of questions that nobody answered: they are asked again whatever became of their images.
  reads: ({ samples, images, masks, out }) => [
    { input: samples, files: async () => imagesNamedIn(samples, images, await unansweredIds(out)) },
    ...(masks === undefined ? [] : [{ input: masks, files: () => maskFiles(masks) }]),
  ],
  expects: ({ samples, adapter, ...settings }) => [
    {
      input: samples,
      async check() {
        const { countQuestions } = await import('../sample/questions.js')
        await countQuestions(samples, settings)
      },
    },
    ...adapter.map((path) => ({ input: path, check: () => refuseUnfit(path) })),
  ],
  makes: ({ out }) => ({ evaluation: out }),
  leaves: ({ out }) => [join(out, evaluationFiles.results), join(out, evaluationFiles.verdicts)],
  traces: ({ out }) => evaluationTraces(out),
  unfinished: ({ out }) => unfinishedOf(out),
  ignores: ({ attentionQuestions, hideLesions, rewardPairs }) => [
    ...(attentionQuestions > 0 || hideLesions.length > 0 ? [] : ['masks', 'maskRoot']),
    ...(hideLesions.some(isNoise) ? [] : ['hiddenSigma']),
    ...(rewardPairs.length > 0 ? [] : ['rewardLimit']),
  ],
  earlier: ['overwrite'],
  byRank: true,
  async run(settings, context): Promise<StageResult<EvaluationResults>> {
    const { evaluate } = await import('./evaluation.js')
    const { samples, images, out, model, adapter, attentionQuestions, hideLesions } = settings
    const { device, dtype, threads, packWeights, batchSize, beyondContext } = settings
    const { promptSuffix, split, limit, maxNewTokens, stop, seed, answers, temperature, topP, topK } = settings
    const asked = { promptSuffix, split, limit, maxNewTokens, stop, seed, answers, temperature, topP, topK }
    const imageRoot = images ?? dirname(samples)
    const { featureStore, featureStoreSize } = settings
    const store = { featureStore, featureStoreSize }
    const engine = { device, dtype, threads, packWeights, store, batchSize, beyondContext }
    announceRanks(context)
    const evaluated = await evaluate(
      {
        ...(await judgingOf(settings)),
        systems: [...systemsOf(settings), ...(await checkpointsOf(settings))],
        samples,
        imageRoot,
        out,
        asked,
        engine,
        evidence:
          model !== undefined && adapter.length > 0 && (attentionQuestions > 0 || hideLesions.length > 0)
            ? await evidenceOf(settings, model, adapter[0])
            : undefined,
        grounding: groundingOf(settings),
        priors: settings.priors,
        rewards: await rewardsOf(settings),
        overwrite: context.overwrite && !context.resume,
      },
      context,
    )
    return evaluated ? resultOf(evaluated, out, context) : { interrupted: true, summary: '' }
  },
})

/** One adapter, and one file of pairs, may be given as a text. */
function check(tree: Tree, locate: Locate): Settings {
  const given = { ...tree }
  for (const key of ['adapter', 'trainedOn']) if (typeof tree[key] === 'string') given[key] = [tree[key]]
  const settings = checkTree(evaluateSettings, given, locate)
  const fail = (key: string, message: string): never => {
    throw configError([{ path: [key], message }], locate)
  }
  const { model, adapter, run, modelAlone, endpoint, predictions, names, answers, temperature, rewardPairs } = settings
  if (rewardPairs.length > 0 && adapter.length === 0 && run === undefined) {
    fail('rewardPairs', 'A reward is how much likelier an adapter makes an answer: give an adapter or a run')
  }
  if (adapter.length > 0 && model === undefined) fail('model', 'Give the model that the adapter belongs to')
  if (run !== undefined && model === undefined) fail('model', 'Give the model that was trained')
  if (model === undefined && !endpoint && predictions.length === 0) {
    fail('model', 'Give a model, a server or predictions to evaluate')
  }
  if (!modelAlone && adapter.length > 0 && (settings.attentionQuestions > 0 || settings.hideLesions.length > 0)) {
    fail('modelAlone', 'What answers rest on is measured against the model alone, which has to be evaluated too')
  }
  if (model === undefined && !endpoint) {
    if (answers > 1)
      fail('answers', 'Files have the answers that they have; only a model or a server can be asked for more')
    if (settings.priors.length > 0) fail('priors', 'Files cannot be asked without the image; give a model or a server')
    if (settings.groundingQuestions.length > 0)
      fail('groundingQuestions', 'Only a model shows where it looks; give one')
  }
  if (answers > 1 && temperature === 0 && (model !== undefined || endpoint)) {
    fail('temperature', `${answers} greedy answers would all be the same; set a temperature, for instance 0.7`)
  }
  const systems = systemNames(settings).length
  if (names.length > systems) fail('names', `there are ${names.length} names for ${systems} systems`)
  return settings
}

/** Whether the model without an adapter is one of the systems. */
const standsAlone = ({ model, adapter, modelAlone }: Settings): boolean =>
  model !== undefined && (modelAlone || adapter.length === 0)

/** The last adapter of a run has the name of the run, its best one `RUN-best`. */
function adapterName(path: string): string {
  const [name, run] = [basename(path), basename(dirname(path))]
  if (name === 'adapter') return run
  return name === 'best' ? `${run}-best` : name
}

/** Names that tell systems apart: as given, else by where they come from. */
function systemNames(settings: Settings): string[] {
  const { adapter, endpoint, predictions, names } = settings
  const own = [
    ...(standsAlone(settings) ? ['base'] : []),
    ...adapter.map(adapterName),
    ...(endpoint ? [endpoint.model] : []),
    ...predictions.map((path) => basename(path, extname(path))),
  ].map((name) => name.replace(/[^\w .+-]+/g, '-').replace(/^[^\w]+/, '') || 'system')
  const taken = new Set<string>()
  return own.map((name, i) => {
    const wanted = names[i] ?? name
    let free = wanted
    for (let n = 2; names[i] === undefined && taken.has(free); n++) free = `${wanted}-${n}`
    taken.add(free)
    return free
  })
}

function systemsOf(settings: Settings): AnsweringSystem[] {
  const { model, adapter, endpoint, predictions, cache, out } = settings
  const systems = [
    ...(standsAlone(settings) ? [{ kind: 'model' as const, model: model as string, adapter: null }] : []),
    ...adapter.map((path) => ({ kind: 'model' as const, model: model as string, adapter: path })),
    ...(endpoint ? [{ kind: 'server' as const, endpoint, cache: cache ?? join(out, evaluationFiles.cache) }] : []),
    ...predictions.map((path) => ({ kind: 'file' as const, path })),
  ]
  const names = systemNames(settings)
  return systems.map((system, i) => ({ name: names[i], ...system }))
}

/** The steps of a training run as systems, after the others. */
async function checkpointsOf({ model, run }: Settings): Promise<AnsweringSystem[]> {
  if (run === undefined || model === undefined) return []
  const { runAdapters } = await import('../train/index.js')
  const adapters = await runAdapters(run)
  return adapters.map(({ step, path }) => ({ name: `step-${step}`, kind: 'model', model, adapter: path, step }))
}

/** How answers are judged, from the settings that `evaluate` and `evaluate rejudge` share; the latter may leave the margin as it was. */
export async function judgingOf<Margin extends number | undefined>(
  settings: Omit<Judging, 'margin'> & { out: string; margin: Margin },
): Promise<Omit<JudgingRequest, 'margin'> & { margin: Margin }> {
  const { phantomJudge } = await import('./phantom.js')
  const { generalPrompt, trainedPrompt } = await import('./reports/prompt.js')
  const { out, truth, judge, judgeOn, judgeProtocol, secondJudge, judgeSample, green, greenTemplate } = settings
  const { scores, labels, maxUnreadable, baseline, primary, margin, trainedOn, seed } = settings
  const cache = settings.cache ?? join(out, evaluationFiles.cache)
  return {
    out,
    truth: truth === 'phantom' ? phantomJudge : null,
    judge: judge && {
      endpoint: judge as EndpointInput,
      on: judgeOn,
      protocol: judgeProtocol,
      second: secondJudge as EndpointInput | undefined,
      secondSample: judgeSample,
      seed,
      cache,
    },
    green: green && {
      endpoint: green as EndpointInput,
      prompt: greenTemplate === undefined ? generalPrompt : await trainedPrompt(greenTemplate),
      cache,
    },
    ...{ scores, labels, maxUnreadable, baseline, primary, margin, trainedOn, seed },
  }
}

async function evidenceOf(settings: Settings, model: string, adapter: string) {
  const { masks, maskRoot, seed, attentionQuestions, hideLesions, hiddenSigma } = settings
  const provider = await providerOf(settings)
  return {
    model,
    adapter,
    grounding: { questions: attentionQuestions, provider, masks, maskRoot, seed },
    hiding: hideLesions.length > 0 ? { methods: hideLesions, sigma: hiddenSigma, masks, maskRoot, seed } : undefined,
  }
}

/** Who knows which words decide an answer, and how it would be wrong. */
async function providerOf({ truth }: Settings) {
  const { PhantomProvider, RulesProvider } = await import('../pairs/index.js')
  return truth === 'phantom' ? new PhantomProvider() : new RulesProvider()
}

async function rewardsOf(settings: Settings): Promise<RewardRequest | undefined> {
  const { rewardPairs: files, rewardLimit: limit } = settings
  return files.length === 0 ? undefined : { files, limit, provider: await providerOf(settings) }
}

function groundingOf({ groundingQuestions, groundingImages, groundingPreset, boxFormat }: Settings) {
  return groundingQuestions.length === 0
    ? undefined
    : { files: groundingQuestions, images: groundingImages, preset: groundingPreset, boxFormat }
}

/** Writes the page and the tables too: they are made of what the evaluation left. */
async function resultOf(
  { results, problem }: Evaluated,
  out: string,
  { ranks = alone }: StageContext,
): Promise<StageResult<EvaluationResults>> {
  if (ranks.rank === 0) {
    const { renderEvaluation, writeTables } = await import('./page/render.js')
    await writeFileAtomic(join(out, evaluationFiles.page), await renderEvaluation(out))
    await writeTables(out)
  }
  return { interrupted: false, summary: summaryOf(results), report: results, problem }
}

const percent = (value: number): string => `${(100 * value).toFixed(1)} %`
const points = (value: number): string => `${value > 0 ? '+' : ''}${(100 * value).toFixed(1)}`

/** What may be said of each system against its baseline, a line each. */
export function describeComparisons(comparisons: readonly SystemComparison[]): string[] {
  return comparisons.flatMap(({ system, baseline, role, conclusion, doubt, lost, groups: [all] }) => {
    // Free reports have no verdicts.
    if (!all?.count) return []
    const { bootstrap, count } = all.clusters
    const interval = bootstrap
      ? `[${points(bootstrap.low)}, ${points(bootstrap.high)}] by image`
      : `(no interval: only ${counted(count, 'image')})`
    const size = `${points(all.difference.value)} points ${interval}`
    const p = (all.adjusted.holm ?? 1).toPrecision(2)
    const said = `${system} against ${baseline}: ${conclusion.replace('_', ' ')}, ${size}, p = ${p}, n = ${all.count}`
    const silent = [
      ...(lost.baseline > 0 ? [`${lost.baseline} of ${baseline}`] : []),
      ...(lost.system > 0 ? [`${lost.system} of ${system}`] : []),
    ]
    const missing = silent.length > 0 ? `; missing or unreadable: ${silent.join(', ')}` : ''
    const why = doubt
      ? `, since with answers without a verdict it is in [${points(doubt.low)}, ${points(doubt.high)}]`
      : ''
    return `${said}${role === 'exploratory' ? ' (exploratory)' : ''}${missing}${why}`
  })
}

/** What may be said of two evaluations, a line each: questions, then scores of reports, then grounding. */
export function describeBetween({ comparisons, reports, grounding }: BetweenEvaluations): string[] {
  const score = (name: string, { difference, p, both }: Pick<ComparedScore, 'difference' | 'p' | 'both'>): string => {
    const { value, interval } = difference
    if (value === null) return `${name}: nothing has a score in both`
    const size = interval ? ` [${interval.low.toFixed(3)}, ${interval.high.toFixed(3)}]` : ', fewer than 20 images'
    return `${name}: ${value > 0 ? '+' : ''}${value.toFixed(3)}${size}${p === null ? '' : `, p = ${p.toPrecision(2)}`}, n = ${both}`
  }
  return [
    ...describeComparisons(comparisons),
    ...reports.flatMap(({ system, scores }) =>
      scores.map((each) => score(`${system}, ${each.name} of reports (exploratory)`, each)),
    ),
    ...grounding.map((each) => score(`${each.system}, attention ratio, ${each.kind}`, each)),
  ]
}

/** One line: accuracies, what was asked for beside them, and what may be said of their difference. */
export function summaryOf({ questions, systems, comparisons, judging, reports, grounding }: EvaluationResults): string {
  const written = (reports?.systems ?? []).flatMap(({ system, green, scores }) => {
    if (green && green.strict.value !== null) return [`${system} GREEN ${green.strict.value.toFixed(3)}`]
    return questions > 0 ? [] : [`${system} ROUGE-L ${scores.rougeL.value?.toFixed(3) ?? '–'}`]
  })
  const seen = (grounding?.results ?? []).map(({ system, kind, headline: { value } }) => {
    return `${system} attention ratio, ${kind}, ${value?.toFixed(3) ?? '–'}`
  })
  const right = questions > 0 ? systems.map(({ name, groups }) => `${name} ${percent(groups[0].accuracy.value)}`) : []
  const by = judging.judge ? ` (judge ${servedWords(judging.judge)})` : ''
  const [first = '', ...rest] = [right.join(', '), written.join(', '), seen.join(', ')].filter((part) => part !== '')
  return [`${first}${by}`, ...rest, ...describeComparisons(comparisons)].join('; ')
}

/** Judges the answers of a finished evaluation again. */
export async function runRejudge(
  settings: z.output<typeof rejudgeSettings>,
  context: StageContext,
): Promise<StageResult<EvaluationResults>> {
  const { rejudge } = await import('./rejudge.js')
  const { margin, anew } = settings
  const request = { ...(await judgingOf({ ...settings, margin })), anew, overwrite: context.overwrite }
  return resultOf(await rejudge(settings.folder, request, context), settings.out, context)
}
