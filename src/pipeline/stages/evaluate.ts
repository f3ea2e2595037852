/** `evaluate`: greedy answers to held-out questions, without and with the adapter, judged and compared. */
import { rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { evaluateAdapter, evaluationFiles, type GroupAccuracy, phantomJudge, rulesJudge } from '../../evaluate/index.js'
import { PhantomProvider, RulesProvider } from '../../pairs/index.js'
import { sampleSettings } from '../../sample/index.js'
import { defineStage } from '../stage.js'

const schema = sampleSettings
  .pick({ maxNewTokens: true, stop: true, promptSuffix: true, split: true, limit: true })
  .extend({
    /** Sample records that were not trained on; default: those that a stage before held out. */
    samples: z.string().min(1).optional(),
    /** What image paths are relative to; default: the folder of the samples. */
    images: z.string().min(1).optional(),
    /** PEFT folder; default: the one that was trained. */
    adapter: z.string().min(1).optional(),
    /** By the reference and rules, or, for the phantom world, by its exact truth. */
    judge: z.enum(['rules', 'phantom']).default('rules'),
    /** Open answers: equal to the reference, or containing it. */
    openMatch: z.enum(['exact', 'phrase']).default('exact'),
    batchSize: z.number().int().positive().default(8),
    /** Held-out questions whose attention is measured before and after; 0 = none. They need masks. */
    attentionQuestions: z.number().int().nonnegative().default(0),
    /** Manifest or folder of masks; default: that of the import. */
    masks: z.string().min(1).optional(),
    maskRoot: z.string().min(1).optional(),
  })

export const evaluateStage = defineStage({
  section: 'evaluate',
  schema,
  paths: [['samples'], ['images'], ['adapter'], ['masks'], ['maskRoot']],
  plan({ settings, shared, artifacts, folder, fail }) {
    const { samples: given, images, adapter: named, judge, openMatch, batchSize, ...rest } = settings
    const { attentionQuestions, masks = artifacts.masks, maskRoot, ...chosen } = rest
    const samples =
      given ?? artifacts.heldOut ?? fail(['samples'], 'evaluate.samples is missing: no stage holds samples out')
    const adapter = named ?? artifacts.adapter ?? fail(['adapter'], 'evaluate.adapter is missing: no stage trains one')
    const asked = sampleSettings.parse({ ...chosen, seed: shared.seed })
    const grounding = {
      ...{ questions: attentionQuestions, masks, maskRoot, seed: shared.seed },
      provider: judge === 'phantom' ? new PhantomProvider() : new RulesProvider(),
    }
    const isProbed = attentionQuestions > 0
    const trainedOn = artifacts.pairs
    artifacts.evaluation = folder
    return {
      name: 'evaluate',
      inputs: [
        ...[samples, shared.model, adapter],
        ...(trainedOn ? [trainedOn] : []),
        ...(isProbed && masks ? [masks] : []),
      ],
      settings: { asked, judge, openMatch, attentionQuestions, dtype: shared.dtype },
      outputs: Object.values(evaluationFiles).map((file) => join(folder, file)),
      async run({ signal, progress, resume, native }) {
        if (!resume) await rm(folder, { recursive: true, force: true })
        const { model, device, dtype, threads } = shared
        const results = await evaluateAdapter(
          {
            ...{ samples, imageRoot: images ?? dirname(samples), out: folder, asked, batchSize, trainedOn },
            engine: { model, adapter, device, dtype, threads },
            judge: judge === 'phantom' ? phantomJudge : rulesJudge(openMatch),
            grounding: isProbed ? grounding : undefined,
          },
          { signal, progress, native },
        )
        if (!results) return { interrupted: true, summary: '' }
        const share = ({ accuracy }: GroupAccuracy): string => `${(100 * accuracy.value).toFixed(1)} %`
        const [{ pValue, conclusion }] = results.comparison
        const verdict = `${conclusion.replace('_', ' ')}, p = ${pValue.toPrecision(2)}`
        const summary = `${share(results.before[0])} before, ${share(results.after[0])} after (${verdict})`
        return { interrupted: false, summary }
      },
    }
  },
})
