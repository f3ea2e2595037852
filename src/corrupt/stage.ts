/** `corrupt`: twins of the pairs' images with the lesion hidden. */
import { join } from 'node:path'
import { imagesNamedIn } from '../data/named.js'
import { DataError } from '../errors.js'
import { keyFrom } from '../http/service.js'
import { alone } from '../ranks/ranks.js'
import { counting, defineStage } from '../stage/index.js'
import { announceRanks, saidOnce } from '../stage/split.js'
import { counted } from '../text/plural.js'
import { maskFiles } from './manifest.js'
import { corruptFiles } from './output.js'
import type { CorruptResult } from './run.js'
import { type CorruptSettings, corruptSettings } from './settings.js'

const sheetIn = (out: string): string => join(out, 'sheet.html')

export const corruptStage = defineStage({
  name: 'corrupt',
  summary: 'Make a corrupted twin of every image, with noise on the lesion, and a contact sheet',
  settings: corruptSettings,
  takes: { pairs: 'pairs', masks: 'masks' },
  eachRound: true,
  out: { setting: 'out', name: '' },
  // For the grain of the image the model is only measured with: its twins are the same, and it need not be there.
  ignores: ({ grain }) => (grain === 'image' ? ['model'] : []),
  // Neither pairs nor a manifest tell by their content when an image or a mask that they name was drawn again.
  reads: ({ pairs, images, masks }) => [
    { input: pairs, files: () => imagesNamedIn(pairs, images) },
    ...(masks === undefined ? [] : [{ input: masks, files: () => maskFiles(masks) }]),
  ],
  makes: ({ out }) => ({ pairs: join(out, corruptFiles.pairs) }),
  leaves: ({ out }) => [join(out, corruptFiles.pairs), sheetIn(out)],
  // Twins are named by their content: those that the new pairs have serve again.
  traces: ({ out }) => [...Object.values(corruptFiles).map((name) => join(out, name)), sheetIn(out)],
  earlier: ['overwrite'],
  byRank: true,
  async run({ segmenter, ...settings }, context) {
    const { signal, overwrite, ranks = alone } = context
    const progress = saidOnce(ranks, context.progress)
    announceRanks(context)
    const { corruptPairs } = await import('./run.js')
    const { seenWords, targetedWords } = await import('./report.js')
    const sheet = sheetIn(settings.out)
    const report: CorruptResult = await corruptPairs({
      ...settings,
      sheet,
      overwrite,
      segmenter: segmenter && serviceOf(segmenter),
      signal,
      ranks,
      onLog: (line) => progress.log(line),
      onProgress: counting(progress, 'pairs'),
    })
    const { methods, files, skipped, failed, warnings } = report.report
    for (const line of [...targetedWords(report.report), ...seenWords(report.report)]) progress.log(line)
    for (const warning of warnings) progress.log(`warning: ${warning}`)
    const twins = Object.entries(methods).map(([method, number]) => `${number} by ${method}`)
    if (settings.seedBy === 'image') twins.push(`${counted(files, 'twin file')}`)
    if (skipped > 0) twins.push(`${counted(skipped, 'pair')} without a twin`)
    if (failed > 0) twins.push(`${counted(failed, 'pair')} left out`)
    const none = report.report.pairs === 0
    return {
      interrupted: false,
      summary: `${twins.join(', ') || 'no pairs'}; look at ${sheet}`,
      report,
      problem: none
        ? new DataError(`${settings.pairs} holds no pair`, { hint: 'rejected.jsonl beside it has the reasons.' })
        : undefined,
    }
  },
})

function serviceOf({ keyEnv, timeout, ...rest }: NonNullable<CorruptSettings['segmenter']>) {
  return { ...rest, token: keyFrom(keyEnv), timeoutMs: timeout * 1000, delayMs: 1000 }
}
