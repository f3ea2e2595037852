import type { CorruptReport, CorruptResult } from '../../corrupt/index.js'
import { ArgumentError, FireError } from '../../errors.js'
import { type CommandContext, defineCommand } from '../command.js'
import { formatTable } from '../format.js'
import { catchSignals } from '../signals.js'

export const corrupt = defineCommand({
  usage: 'corrupt',
  summary: 'Hide the lesion of every pair: corrupted twins, masks and a contact sheet',
  options: (parser) =>
    parser
      .option('pairs', { type: 'string', demandOption: true, describe: 'JSON Lines of pairs' })
      .option('out', { type: 'string', demandOption: true, describe: 'Folder for pairs.jsonl, corrupted/ and masks/' })
      .option('images', {
        type: 'string',
        describe: 'Folder that image paths are relative to; default: that of --pairs',
      })
      .option('masks', {
        type: 'string',
        describe:
          'Manifest (JSON Lines of {image, concept?, mask}) or folder of masks; SLAKE layouts are found by themselves',
      })
      .option('mask-root', { type: 'string', describe: 'Folder that masks must lie in; default: that of the manifest' })
      .option('segmenter', { type: 'string', describe: 'Address of a segmentation service, for what has no mask' })
      .option('segmenter-threshold', { type: 'number', default: 0.5, describe: 'Least score of a detection' })
      .option('segmenter-nms', { type: 'number', default: 0.5, describe: 'Overlap above which two detections are one' })
      .option('segmenter-timeout', { type: 'number', default: 60, describe: 'Seconds for one answer' })
      .option('segmenter-retries', { type: 'number', default: 4, describe: 'Further attempts when it is out of order' })
      .option('segmenter-token-env', { type: 'string', describe: 'Variable that holds its bearer token' })
      .option('method', {
        choices: ['lesion-noise', 'lesion-blackout', 'image-noise', 'crop', 'blackout'] as const,
        default: 'lesion-noise' as const,
        describe: 'lesion-*: inside the mask only; the others: the whole image, for ablations',
      })
      .option('sigma', { type: 'number', describe: 'Noise in grey levels; default: 45 on a lesion, 12 on an image' })
      .option('fallback', {
        choices: ['image-noise', 'skip', 'error'] as const,
        default: 'image-noise' as const,
        describe: 'For images without a usable mask: published whole-image noise, no twin, or stop',
      })
      .option('fallback-sigma', { type: 'number', default: 12, describe: 'Noise of that fallback' })
      .option('max-coverage', {
        type: 'number',
        default: 0.8,
        describe: 'Larger masks (share of the image) are unusable',
      })
      .option('resize-masks', {
        type: 'boolean',
        default: false,
        describe: 'Fit masks of another size, nearest neighbour',
      })
      .option('nifti-orientation', {
        choices: ['affine', 'voxel', 'numpy'] as const,
        describe: 'For NIfTI masks that do not say (docs/corruption.md)',
      })
      .option('seed', { type: 'number', default: 0, describe: "Seed of the run; each record's follows from its id" })
      .option('sheet', { type: 'string', describe: 'Contact sheet (HTML) of clean image, twin and mask' })
      .option('sheet-rows', { type: 'number', default: 100, describe: 'Pairs on it, evenly spread' })
      .example('$0 corrupt --pairs pairs.jsonl --out corrupted --masks masks.jsonl --sheet sheet.html', '')
      .epilogue(
        'Interrupted, the same command goes on. Look at the sheet: a mask in the wrong place trains the opposite.',
      ),
  async run(options, context) {
    checkNumbers(options)
    const { corruptPairs } = await import('../../corrupt/index.js')
    const { stdout, progress } = context
    using stop = catchSignals((name) => progress.log(`${name}: stopping; again to leave at once`))
    let started = false
    try {
      const { pairs, images, out, masks, maskRoot, method, sigma, fallback, fallbackSigma, maxCoverage, seed, sheet } =
        options
      const { resizeMasks, niftiOrientation, sheetRows } = options
      const result = await corruptPairs({
        ...{ pairs, images, out, masks, maskRoot, method, sigma, fallback, fallbackSigma, maxCoverage, seed, sheet },
        ...{ resizeMasks, niftiOrientation, sheetRows },
        segmenter: options.segmenter === undefined ? undefined : segmenterOptions(options.segmenter, options),
        signal: stop.signal,
        onLog: (line) => progress.log(line),
        onProgress(done, total) {
          if (!started) progress.start('corrupt', total, 'pairs')
          started = true
          progress.update(done)
        },
      })
      progress.end()
      report(result, context)
      stdout(`\n${[`pairs: ${out}/pairs.jsonl`, sheet && `look at: ${sheet}`].filter(Boolean).join('\n')}\n`)
      return 0
    } catch (error) {
      if (stop.exitCode === undefined || !(error instanceof FireError)) throw error
      progress.end('stopped')
      progress.log('Stopped; the same command goes on.')
      return stop.exitCode
    }
  },
})

interface Numbers {
  sigma?: number
  fallbackSigma: number
  maxCoverage: number
  seed: number
  sheetRows: number
  segmenterThreshold: number
  segmenterNms: number
  segmenterTimeout: number
  segmenterRetries: number
  segmenterTokenEnv?: string
}

function checkNumbers(options: Numbers): void {
  const require = (name: string, value: number | undefined, holds: (value: number) => boolean, what: string): void => {
    if (value !== undefined && !holds(value)) throw new ArgumentError(`--${name} is ${value}; expected ${what}`)
  }
  const share = (value: number): boolean => value >= 0 && value <= 1
  const whole = (value: number): boolean => Number.isSafeInteger(value) && value >= 0
  const positive = (value: number): boolean => value > 0 && Number.isFinite(value)
  require('sigma', options.sigma, positive, 'a positive number')
  require('fallback-sigma', options.fallbackSigma, positive, 'a positive number')
  require('max-coverage', options.maxCoverage, (value) => share(value) && value > 0, 'a share above 0, up to 1')
  require('seed', options.seed, whole, 'a whole number')
  require('sheet-rows', options.sheetRows, whole, 'a whole number')
  require('segmenter-threshold', options.segmenterThreshold, share, 'a share from 0 to 1')
  require('segmenter-nms', options.segmenterNms, share, 'a share from 0 to 1')
  require('segmenter-timeout', options.segmenterTimeout, (value) => positive(value) && value < 2e6, 'seconds')
  require('segmenter-retries', options.segmenterRetries, whole, 'a whole number')
}

function segmenterOptions(url: string, options: Numbers) {
  const name = options.segmenterTokenEnv
  const token = name === undefined ? undefined : process.env[name]?.trim()
  if (name !== undefined && !token) throw new ArgumentError(`The variable ${name} holds no token`)
  return {
    url,
    token,
    threshold: options.segmenterThreshold,
    nmsIou: options.segmenterNms,
    timeoutMs: options.segmenterTimeout * 1000,
    retries: options.segmenterRetries,
    delayMs: 1000,
  }
}

function report({ report, reused, requests }: CorruptResult, { stdout, stderr }: CommandContext): void {
  for (const warning of report.warnings) stderr(`warning: ${warning}\n`)
  const percent = (share: number): string => `${(100 * share).toFixed(1)} %`
  const rows: [string, string | number][] = [
    ['pairs', report.pairs],
    ...counts('twins by', report.methods),
    ...counts('mask from', report.sources),
    ...counts('concept by', report.concepts),
    ...Object.entries(report.missing).map(([reason, { count }]): [string, number] => [`no mask: ${reason}`, count]),
    ['pairs without a twin', report.skipped],
    ['earlier twins replaced', report.replaced],
    ...coverageRows(report.coverage, percent),
    ['twins made before', reused],
    ['requests to the segmenter', requests],
  ]
  stdout(`${formatTable(['what', 'count'], rows)}\n`)
}

const counts = (title: string, of: Record<string, number>): [string, number][] =>
  Object.entries(of).map(([name, count]) => [`${title} ${name}`, count])

function coverageRows(coverage: CorruptReport['coverage'], percent: (share: number) => string): [string, string][] {
  if (!coverage) return []
  const { least, median, most } = coverage
  return [['masks cover (least, median, most)', [least, median, most].map(percent).join(', ')]]
}
