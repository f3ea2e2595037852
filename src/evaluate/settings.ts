/** What an evaluation can be told. */
import { z } from 'zod'
import { PUBLISHED_NOISE } from '../corrupt/noise.js'
import { endpointSettings } from '../endpoint/settings.js'
import { decoding, model, sampling, sharedByModel } from '../generate/settings.js'
import { asking, serverSettings } from '../sample/settings.js'
import { count, inputPath, outputPath, rootPath, seed, share, text, whole } from '../settings/common.js'
import { groundingPresets } from './grounding/measure.js'
import { boxFormats } from './grounding/questions.js'
import { hidingMethods } from './hiding.js'
import { judgeProtocols } from './judges/protocols.js'
import { judgeOn } from './judges/select.js'
import { priorKinds } from './records.js'

/** How answers are judged and counted; none of it needs an answer again. */
export const judging = {
  truth: z
    .enum(['phantom'])
    .nullable()
    .default(null)
    .meta({ description: 'phantom: judge by the exact truth that `import phantom` writes, instead of by rule' }),
  judge: endpointSettings.optional().describe('A language model that judges where the rules are not sure'),
  judgeOn: z.enum(judgeOn).default('open').meta({
    needs: 'judge',
    description:
      'What the judge looks at. undecided: where the rules decide nothing; weak: also where they are not sure; open: also all open questions; all: everything',
  }),
  judgeProtocol: z.enum(judgeProtocols).default('ours').meta({
    needs: 'judge',
    description: 'How the judge is asked and read; the others read as published scripts do, for comparison',
  }),
  secondJudge: endpointSettings.optional().describe('Another judge, to see how far they agree'),
  judgeSample: count
    .default(200)
    .meta({ description: 'Answers that the second judge looks at', unit: 'answers', needs: 'secondJudge' }),
  green: endpointSettings.optional().describe('A language model that counts the errors of reports (GREEN)'),
  greenTemplate: text.optional().meta({
    ...inputPath(
      'Prompt of GREEN-radllama2-7b, with {reference} and {candidate}; sent to /completions. Default: our own wording, as a chat',
    ),
    needs: 'green',
  }),
  scores: z
    .array(text)
    .default([])
    .meta(inputPath('Scores of other programs, JSON Lines or CSV of sampleId, metric, value (repeatable)')),
  labels: text
    .optional()
    .meta(
      inputPath(
        'What people say of some of the answers, JSON Lines or CSV of system, sampleId, label: is the judge right?',
      ),
    ),
  cache: text.optional().meta({
    ...outputPath('Folder where replies of servers are kept; default: <out>/cache'),
    needs: ['endpoint', 'judge', 'green'],
  }),
  maxUnreadable: share.default(0.05).meta({
    needs: ['judge', 'green'],
    description: 'Share of replies that may be unreadable; above it the evaluation ends with exit code 1',
  }),
  baseline: text.optional().meta({ description: 'System that others are compared with; default: the first' }),
  primary: text.optional().meta({
    description:
      'System whose comparison with the baseline decides, fixed beforehand; the others are exploratory, adjusted by Holm',
  }),
  margin: z.number().min(0).max(1).default(0.03).meta({
    description: 'Difference in accuracy below which systems count as equivalent, as a share',
  }),
  trainedOn: z
    .array(text)
    .default([])
    .meta(
      inputPath('Pairs that a system was trained on, to tell questions about their images from others (repeatable)'),
    ),
  seed: seed.meta({ description: 'Seed of bootstrap draws, samples for the second judge, sampled answers and noise' }),
}

export const evaluateSettings = z.strictObject({
  ...asking,
  out: text.meta(outputPath('Folder for answers, verdicts and evaluation.json')),
  model: model.optional().meta(inputPath('Model folder; not needed where only a server or files answer')),
  adapter: z
    .array(text)
    .default([])
    .meta(inputPath('PEFT adapter folder to compare with the model alone (repeatable)')),
  modelAlone: z.boolean().default(true).meta({ description: 'With adapters: evaluate the model without them too' }),
  run: text
    .optional()
    .meta(
      inputPath(
        'Folder of a training run: every checkpoint that it kept is a system, to see what training does step by step',
      ),
    ),
  endpoint: serverSettings.optional().describe('A server that answers too'),
  predictions: z
    .array(text)
    .default([])
    .meta(inputPath('Answers of another program, JSON Lines or CSV of id and text (repeatable)')),
  names: z
    .array(text)
    .default([])
    .meta({ description: 'Names of the systems: model, adapters, server, files, in this order (repeatable)' }),
  answers: count
    .default(1)
    .meta({ description: 'Answers to each question; more than one needs a temperature', unit: 'answers' }),
  ...decoding,
  ...sharedByModel,
  ...sampling,
  ...judging,
  priors: z.array(z.enum(priorKinds)).default([]).meta({
    description: 'Ask without the image too: question: none at all; swapped: another one of the data set (repeatable)',
  }),
  groundingQuestions: z
    .array(text)
    .default([])
    .meta(inputPath('Questions with boxes, as VGMED has them: where does a model look (repeatable)')),
  groundingImages: text.optional().meta({
    ...rootPath('Folder that images of the questions with boxes are relative to; default: that of their file'),
    needs: 'groundingQuestions',
  }),
  groundingPreset: z
    .enum(Object.keys(groundingPresets) as [keyof typeof groundingPresets])
    .default('ours')
    .meta({
      description: 'Prompts and constants of the measure: ours, or those of a published script',
      needs: 'groundingQuestions',
    }),
  boxFormat: z.enum(boxFormats).default('auto').meta({
    needs: 'groundingQuestions',
    description: 'How boxes are written. auto: xywh where the path of the image begins with Slake, else xyxy',
  }),
  rewardPairs: z
    .array(text)
    .default([])
    .meta(
      inputPath(
        'Pair records, held out or trained on: how often the chosen side has the higher reward, for each adapter (repeatable)',
      ),
    ),
  rewardLimit: count
    .optional()
    .meta({ description: 'Pairs of each file whose rewards are measured, evenly spread; default: all', unit: 'pairs' }),
  attentionQuestions: whole.default(0).meta({
    needs: 'adapter',
    description:
      'Measure attention on this many questions that are answered correctly and whose lesion has a mask; 0 = off',
    unit: 'questions',
  }),
  hideLesions: z.array(z.enum(hidingMethods)).default([]).meta({
    description:
      'Ask the questions whose lesion has a mask again, with noise or black on it, or noise elsewhere (repeatable)',
    needs: 'adapter',
  }),
  hiddenSigma: z.number().positive().max(255).default(PUBLISHED_NOISE.sigma).meta({
    description: 'Standard deviation of the noise that hides a lesion',
    unit: 'grey levels of 0 to 255',
    needs: 'hideLesions: lesion-noise',
  }),
  masks: text.optional().meta({
    ...inputPath('Manifest or folder of masks, as for `corrupt`'),
    needs: ['attentionQuestions', 'hideLesions'],
  }),
  maskRoot: text
    .optional()
    .meta({ ...rootPath('Folder that masks must lie in; default: that of the manifest'), needs: 'masks' }),
})

/** Schema of `evaluate rejudge`. */
export const rejudgeSettings = z.strictObject({
  folder: text.meta(inputPath('Folder of a finished evaluation')),
  out: text.meta(outputPath('Folder for the new verdicts and numbers')),
  anew: z
    .boolean()
    .default(false)
    .meta({
      needs: ['judge', 'green'],
      description: 'Ask for replies that the folder has once more: how far does the judge agree with itself?',
    }),
  ...judging,
  baseline: text.optional().meta({ description: 'System that others are compared with; default: as before' }),
  primary: text.optional().meta({
    description: 'System whose comparison with the baseline decides, fixed beforehand; default: as before',
  }),
  margin: share.optional().meta({
    description: 'Difference in accuracy below which systems count as equivalent, as a share; default: as before',
  }),
})

/** Schema of `evaluate compare`. */
export const compareSettings = z.strictObject({
  first: text.meta(inputPath('Folder of a finished evaluation')),
  second: text.meta(inputPath('Folder of another one, of the same questions')),
  primary: judging.primary,
  margin: judging.margin,
  seed: judging.seed,
})
