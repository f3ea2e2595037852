import { join } from 'node:path'
import { z } from 'zod'
import { ArgumentError } from '../../errors.js'
import { requireSame } from '../../ranks/same.js'
import { compute, count, outputPath, text } from '../../settings/common.js'
import type { Estimate } from '../../study/estimate.js'
import { studyFiles } from '../../study/files.js'
import type { StudyResults } from '../../study/results.js'
import { metrics, studySettings } from '../../study/settings.js'
import { duration } from '../../text/duration.js'
import { counted } from '../../text/plural.js'
import { version } from '../../version.js'
import { defineCommand, type Outcome } from '../command.js'
import { fileSettings, flag } from '../file-settings.js'
import { formatBytes, formatTable } from '../format.js'
import { asRank } from '../ranks.js'

const listed = (form: string, pattern: RegExp) => text.regex(pattern, form).optional()

const report = defineCommand({
  name: 'report',
  summary: 'Write the pages and tables of a study from whatever is finished',
  settings: z.strictObject({ folder: text.meta({ description: 'Folder of the study', path: 'input' }) }),
  positionals: ['folder'],
  examples: [['study report my-study', 'what is missing is named, and not averaged over']],
  async run({ folder }) {
    const { reportStudy } = await import('../../study/study.js')
    return outcomeOf(await reportStudy(folder), folder)
  },
})

export const study = defineCommand({
  name: 'study',
  ranks: 'together',
  summary: 'Compare objectives, corruptions and pairs over several seeds, as the paper does',
  settings: z.strictObject({
    study: text.meta({
      description: 'objectives, kl, visual, corruption, … or all of them; or a file (docs/studies.md)',
    }),
    out: text.meta(outputPath('Folder of the study; the same folder goes on')),
    set: fileSettings.set,
    seeds: listed('whole numbers with commas between, for instance 0,1,2', /^\d+(,\d+)*$/).meta({
      description: 'Seeds of every arm, for instance 0,1,2; default: those of the file',
    }),
    arms: listed('names with commas between', /^[\w.+-]+(,[\w.+-]+)*$/).meta({
      description: 'Only these arms, for instance base,fire',
    }),
    jobs: count.default(1).meta({ description: 'Processes that share the work; changes no result' }),
    threads: compute.threads.meta({ description: 'Compute threads of each process; 0 = all, shared between the jobs' }),
    shard: listed('I/N with 1 <= I <= N', /^[1-9]\d*\/[1-9]\d*$/).meta({
      description: 'Only this part of the arms and seeds, for instance 1/3, for machines without a common folder',
    }),
    dryRun: flag('Say what would run, how long it takes and how much disk it needs, and do nothing'),
    quick: flag('Few arms, one seed, few images: too small to conclude anything'),
  }),
  positionals: ['study'],
  file: studySettings,
  examples: [
    ['study objectives --out my-study --quick', 'three arms in under a minute, then open my-study/report.html'],
    ['study all --out my-study --jobs 2 --dry-run', 'what the whole study would cost'],
    ['study ./mine.yaml --out my-study', 'a study of your own model, samples, pairs and arms'],
  ],
  notes:
    'After a stop of any kind, run the same command again: it continues. Several processes or machines with one folder share the work. ' +
    'Exit code 1 when an arm failed; the others are there.',
  further: [report],
  async run({ study: name, out, set, seeds, arms, jobs, threads, shard, dryRun, quick }, context) {
    const { loadStudy } = await import('../../study/load.js')
    const loaded = await loadStudy(name, {
      ...{ set, quick },
      seeds: seeds?.split(',').map(Number),
      arms: arms?.split(','),
    })
    const { planFor, runStudy } = await import('../../study/study.js')
    const { formatStudy } = await import('../../study/load.js')
    if (dryRun) {
      const plan = await planFor(loaded, out)
      return { text: describeEstimate(plan, jobs), report: plan }
    }
    const { progress } = context
    const options = { progress, threads: threads || undefined, jobs, shard: shardOf(shard) }
    const { result, rank, exitCode } = await asRank(progress, async (ranks, signal) => {
      await requireSame(ranks, 'what they run', { version, study: formatStudy(loaded), out, shard: shard ?? null })
      return await runStudy(loaded, out, { ...options, ranks, signal })
    })
    const { results, interrupted } = result
    const outcome = { ...(await outcomeOf(results, out)), isCopy: rank > 0 }
    if (!interrupted) return outcome
    const stopped = `stopped; what was finished is kept in ${out}; run the same command again to continue`
    return { ...outcome, stopped, exitCode: exitCode ?? 1 }
  },
})

function shardOf(text: string | undefined): { index: number; count: number } | undefined {
  if (text === undefined) return undefined
  const [index, count] = text.split('/').map(Number)
  if (index > count) throw new ArgumentError(`--shard ${text}: there is no part ${index} of ${count}`)
  return { index, count }
}

async function outcomeOf(results: StudyResults, folder: string): Promise<Outcome> {
  const { missingLines, primaryWords, withMean } = await import('../../study/page/words.js')
  const rows = results.arms.map(({ name, means, seeds }) => [
    ...[name, `${seeds.filter(({ state }) => state === 'done').length} of ${seeds.length}`],
    ...metrics.map((metric) => withMean(means[metric])),
  ])
  const verdicts = results.tables.map((table) => {
    const { sentence, detail } = primaryWords(table, results)
    return `${table.title}: ${sentence}. ${detail}`
  })
  const missing = missingLines(results.missing)
  const text = [formatTable(['arm', 'seeds', 'all, %', 'closed, %', 'open, %'], rows), ...verdicts, ...missing]
  const pages = `The pages: ${join(folder, studyFiles.page)}`
  const isFailed = results.missing.some(({ state }) => state === 'failed')
  return { text: `${[...text, pages].join('\n')}\n`, report: results, exitCode: isFailed ? 1 : 0 }
}

/** What `--dry-run` prints. */
function describeEstimate(
  { arms, seeds, shared, stages, seconds, bytes, featureStoreSize, waiting }: Estimate,
  jobs: number,
): string {
  const rows = stages.map(({ stage, done, todo, seconds: each, bytes: size, from }) => [
    ...[stage, done, todo, each === null ? 'unknown' : duration(each), size === null ? 'unknown' : formatBytes(size)],
    from ?? 'none finished yet',
  ])
  const table = formatTable(['steps', 'done', 'to do', 'time each', 'disk each', 'estimate from'], rows)
  const time = seconds === null ? 'Time and disk are known once the first arm is finished.' : undefined
  return `${[
    `${counted(arms.length, 'arm')} with ${counted(seeds.length, 'seed')}: ${arms.join(', ')}`,
    ...shared.map((names) => `one training for ${names.join(', ')}`),
    ...(waiting.length > 0 ? [`a value is chosen first for ${waiting.join(', ')}`] : []),
    table,
    time ??
      `Estimate: ${duration(seconds ?? 0)} of work, ${formatBytes(bytes ?? 0)} of disk${jobs > 1 ? `; ${jobs} jobs share the work, and the cores` : ''}.`,
    `The feature store takes up to ${formatBytes(featureStoreSize * 2 ** 20)} beside that, and may be deleted at any time.`,
  ].join('\n')}\n`
}
