/** The card of a model on a hub, Markdown: what it is, what it was made from and how, what was measured, what it is not. */
import { stringify } from 'yaml'
import { usedCoefficients } from '../engine/objectives.js'
import { conclusionDetail, conclusionWords, groupWords } from '../evaluate/page/words.js'
import { percent, withInterval } from '../page/numbers.js'
import { trainedPairs } from '../report/describe.js'
import { counted } from '../text/plural.js'
import { objectiveName } from '../train/page/objective.js'
import type { Shared } from './folder.js'
import { problemsOf } from './lineage.js'
import type { About, PairsAbout } from './run.js'

/** What its owner says. */
export interface CardSettings {
  /** `owner/name`. */
  repo: string
  /** `owner/name` of the model that was trained. */
  baseModel: string
  license?: string
}

/** The card of an adapter or a merged model. */
export function modelCard({ kind }: Pick<Shared, 'kind'>, about: About, settings: CardSettings): string {
  const sections = [
    frontMatter(kind, about, settings),
    `# ${plain(settings.repo.split('/').at(-1) ?? '')}`,
    introduction(kind, about, settings),
    '**This is not a medical device.** It must not be used to diagnose, to treat, or to decide anything about a patient.',
    section('Data', dataLines(about)),
    section('Training', trainingLines(about)),
    section('Evaluation', evaluationLines(about)),
    section('Limits', limitLines(about)),
    section('Use', useLines(kind, about, settings)),
  ]
  return `${sections.join('\n\n')}\n`
}

const section = (title: string, lines: string[]): string => `## ${title}\n\n${lines.join('\n')}`

function frontMatter(kind: Shared['kind'], { training }: About, { baseModel, license }: CardSettings): string {
  const isAdapter = kind === 'adapter'
  const tags = ['fire-train', 'preference-optimization', training.config.objective.name, 'medical']
  const fields = {
    ...(license !== undefined && { license }),
    base_model: baseModel,
    base_model_relation: isAdapter ? 'adapter' : 'finetune',
    library_name: isAdapter ? 'peft' : 'transformers',
    pipeline_tag: 'image-text-to-text',
    tags: isAdapter ? ['lora', ...tags] : tags,
  }
  return `---\n${stringify(fields)}---`
}

function introduction(kind: Shared['kind'], { training }: About, { baseModel }: CardSettings): string {
  const { objective } = training.config
  const what = kind === 'adapter' ? 'A LoRA adapter for' : 'A LoRA adapter merged into'
  const how = `trained on preference pairs with the objective ${objectiveName(objective.name)}`
  return `${what} \`${baseModel}\`, ${how}, by fire-train ${plain(training.report.version)}.`
}

function dataLines({ pairs, runs, isWhole }: About): string[] {
  const used = runs.map(({ training }) => `${counted(trainedPairs(training), 'pair')} of ${training.report.pairs.read}`)
  const lines = [
    runs.length === 1
      ? `- ${used[0]} were used.`
      : `- Trained in ${runs.length} runs, each from the adapter of the one before: ${runs.map(({ steps }, i) => `${used[i]} in ${counted(steps, 'step')}`).join('; ')}.`,
    ...(isWhole
      ? []
      : [
          '- Training began with another adapter, loaded or merged into the model; what that one was trained on is not known here, and not counted.',
        ]),
  ]
  if (!pairs) return [...lines, '- A file of the pairs was not at hand when this card was written.']
  const list = (counts: Record<string, number>): string =>
    Object.entries(counts)
      .sort((a, b) => b[1] - a[1])
      .map(([name, count]) => `${plain(name)} (${count})`)
      .join('; ')
  const files = pairs.files === 1 ? 'The file of the pairs is' : `The ${pairs.files} files of the pairs are`
  return [
    ...lines,
    `- ${files} about ${counted(pairs.images, 'image')} and ${counted(pairs.questions, 'question')}.`,
    `- Where they come from: ${list(pairs.byOrigin)}.`,
    ...(Object.keys(pairs.byCategory).length > 0
      ? [`- What the two answers differ in: ${list(pairs.byCategory)}.`]
      : []),
    twinLine(pairs, list),
  ]
}

function twinLine({ twins }: PairsAbout, list: (counts: Record<string, number>) => string): string {
  return Object.keys(twins).length > 0
    ? `- Images with the evidence hidden: ${list(twins)}.`
    : '- No pair has an image with the evidence hidden.'
}

const trainingLines = (about: About): string[] => [
  ...trainingTable(about),
  ...problemsOf(about).flatMap((problem) => ['', `**${plain(problem)}**`]),
]

function trainingTable({ training, runs }: About): string[] {
  const { objective, optimizer, schedule, batchSize, seed, dtype } = training.config
  const { report } = training
  const lora = { ...training.config.lora, ...report.model.lora }
  const values = usedCoefficients(objective.name).map((key) => `${key} ${objective[key]}`)
  const rows: [string, string | number][] = [
    ['objective', `${objectiveName(objective.name)}, on the ${objective.scope}`],
    ['coefficients', values.join(', ') || 'none'],
    [
      'LoRA',
      `rank ${lora.rank}, alpha ${lora.alpha}, ${lora.rslora ? 'rank-stabilised, ' : ''}dropout ${float32(lora.dropout)}`,
    ],
    ['adapted layers', lora.targets?.join(', ') ?? ''],
    ['optimizer', `AdamW, learning rate ${optimizer.lr}, weight decay ${optimizer.weightDecay}`],
    ['schedule', schedule.name],
    ['steps', `${runs[runs.length - 1].steps} of ${report.totalSteps}, ${counted(batchSize, 'pair')} each`],
    ['arithmetic', `${dtype}, on ${report.model.device}`],
    ['seed', seed],
    ['fire-train', report.version],
  ]
  if (runs.length > 1) {
    const all = runs.reduce((sum, { steps }) => sum + steps, 0)
    rows.unshift(['run', `the last of ${runs.length}, which took ${counted(all, 'step')} together`])
  }
  return ['| | |', '| --- | --- |', ...rows.map(([name, value]) => `| ${name} | ${plain(String(value))} |`)]
}

/** The engine keeps it in 32 bits, which say 0.05000000074505806. */
const float32 = (value: number): number => Number(value.toPrecision(6))

/** The groups of a card: others are in the evaluation. */
const shownGroups = ['overall', 'answerType']

function evaluationLines({ evaluation }: About): string[] {
  if (!evaluation) return ['No evaluation was given when this card was written: nothing is known of its accuracy.']
  const { systems, comparisons, questions, images, judging, leakage, margin } = evaluation
  if (questions === 0) return ['The evaluation that was given asks no questions with a right answer.']
  const shown = systems[0].groups.filter(({ kind }) => shownGroups.includes(kind))
  const cell = (name: string, system: (typeof systems)[number]): string => {
    const group = system.groups.find((each) => each.name === name && shownGroups.includes(each.kind))
    return group ? `${withInterval(group.accuracy)}, ${group.accuracy.successes}/${group.accuracy.count}` : '–'
  }
  const head = ['correct, % [95 %], n', ...systems.map(({ name }) => plain(name))]
  return [
    `${counted(questions, 'question')} about ${counted(images, 'image')}, judged ${plain(judging.description)}. In brackets: 95 % Wilson intervals.`,
    '',
    `| ${head.join(' | ')} |`,
    `|${' --- |'.repeat(head.length)}`,
    ...shown.map((group) => {
      const cells = systems.map((system) => cell(group.name, system))
      return `| ${plain(groupWords(group))} | ${cells.join(' | ')} |`
    }),
    '',
    ...comparisons
      .filter(({ groups: [all] }) => all?.count)
      .map((each) => `- ${plain(conclusionWords(each, margin))}. ${plain(conclusionDetail(each, evaluation))}`),
    leakage
      ? `- ${leakage.seen} of the questions are about images that were trained on.`
      : '- Whether images of these questions were trained on is not known.',
  ]
}

function limitLines({ evaluation, training }: About): string[] {
  return [
    '- Not a medical device; not tested on patients. Answers may be wrong, also where they sound sure.',
    '- The numbers above hold for the questions and images they were measured on, and for no other hospital, device or language.',
    ...(evaluation && evaluation.questions < 200
      ? [`- ${evaluation.questions} questions can show large effects only.`]
      : []),
    `- Preferences change what a model says. What its vision tower does not see, it cannot learn: the tower was frozen, and ${percent(trainedShare(training), 2)} % of the parameters were trained.`,
    '- The terms of the base model and of the data hold for this model too.',
  ]
}

/** Trained parameters over all. */
function trainedShare({ report }: About['training']): number {
  const { parameters, trainableParameters } = report.model
  return trainableParameters / parameters
}

function useLines(kind: Shared['kind'], { training }: About, { repo, baseModel }: CardSettings): string[] {
  const serve =
    kind === 'adapter'
      ? `vllm serve ${baseModel} --enable-lora --max-lora-rank ${servedRank(training)} --lora-modules tuned=${repo}`
      : `vllm serve ${repo}`
  const load =
    kind === 'adapter'
      ? [
          'from peft import PeftModel',
          'from transformers import AutoModelForImageTextToText, AutoProcessor',
          '',
          `processor = AutoProcessor.from_pretrained("${baseModel}")`,
          `model = AutoModelForImageTextToText.from_pretrained("${baseModel}", dtype="auto")`,
          `model = PeftModel.from_pretrained(model, "${repo}")`,
        ]
      : [
          'from transformers import AutoModelForImageTextToText, AutoProcessor',
          '',
          `processor = AutoProcessor.from_pretrained("${repo}")`,
          `model = AutoModelForImageTextToText.from_pretrained("${repo}", dtype="auto")`,
        ]
  return ['```python', ...load, '```', '', '```sh', serve, '```']
}

/** vLLM takes these values and no others. */
const servedRanks = [1, 8, 16, 32, 64, 128, 256, 320, 512]

function servedRank({ report }: About['training']): number {
  const rank = report.model.lora?.rank ?? 0
  return servedRanks.find((each) => each >= rank) ?? rank
}

/** Texts of files and models as text: nothing of them becomes markup. */
const plain = (text: string): string =>
  text
    .replace(/\s+/g, ' ')
    .replace(/[\\`*_[\]|#~]/g, '\\$&')
    .replace(/&/g, '&amp;')
    .replace(/</g, '&lt;')
    .replace(/>/g, '&gt;')
