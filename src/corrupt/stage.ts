/** `corrupt`: twins of the pairs' images with the lesion hidden. */
import { join } from 'node:path'
import { imagesNamedIn } from '../data/named.js'
import { DataError } from '../errors.js'
import { keyFrom } from '../http/service.js'
import { counting, defineStage } from '../stage/index.js'
import { counted } from '../text/plural.js'
import { settingsFile } from './earlier.js'
import { maskFiles } from './manifest.js'
import type { CorruptResult } from './run.js'
import { type CorruptSettings, corruptSettings } from './settings.js'

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
  makes: ({ out }) => ({ pairs: join(out, 'pairs.jsonl') }),
  leaves: ({ out }) => [join(out, 'pairs.jsonl'), join(out, 'sheet.html')],
  // Twins are named by their content and serve again; the note of what they were made with goes with the pairs.
  traces: ({ out }) => ['pairs.jsonl', 'sheet.html', settingsFile].map((name) => join(out, name)),
  earlier: ['overwrite'],
  async run({ segmenter, ...settings }, { signal, progress, overwrite }) {
    const { corruptPairs } = await import('./run.js')
    const { seenWords, targetedWords } = await import('./report.js')
    const sheet = join(settings.out, 'sheet.html')
    const report: CorruptResult = await corruptPairs({
      ...settings,
      sheet,
      overwrite,
      segmenter: segmenter && serviceOf(segmenter),
      signal,
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
