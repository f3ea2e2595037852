/** Reads the file of a study and lays over it what the command line says. */
import { dirname, extname, resolve, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { stringify } from 'yaml'
import { ArgumentError } from '../errors.js'
import { nearest } from '../options.js'
import { pipelineSchema } from '../pipeline/index.js'
import { checkTree, configError, type Locate, readSettings } from '../settings/file.js'
import type { Problem } from '../settings/problems.js'
import { pathsOf } from '../settings/setting.js'
import { applied, resolveKeys, unknownKeys } from './changes.js'
import { isMeasure } from './metrics.js'
import { isUntrained, type Measure, type StudyFile, studySettings } from './settings.js'

/** The tables of the paper; the named studies are these. */
const shipped = fileURLToPath(new URL('../../studies/paper.yaml', import.meta.url))

/** What is laid over the file of a study. */
export interface StudyOptions {
  /** `KEY=VALUE` texts. */
  set?: readonly string[]
  seeds?: readonly number[]
  /** Only these arms. */
  arms?: readonly string[]
  quick?: boolean
}

/** A study with everything decided: arms and tables that are not run are no longer in it. */
export interface Study extends Omit<StudyFile, 'quick'> {
  /** Where a value of the file stands, for messages. */
  locate: Locate
}

const pathKeys = pathsOf(pipelineSchema())

/**
 * @param name of a study that comes with the package, `all` for all of them, or the path of a file.
 * @throws {ArgumentError} for an unknown name. @throws {ConfigError} listing every mistake of the file.
 */
export async function loadStudy(name: string, options: StudyOptions = {}): Promise<Study> {
  const isPath = name.includes('/') || name.includes(sep) || extname(name) !== ''
  const path = isPath ? name : shipped
  const inBase = pathKeys.map((keys) => ['base', ...keys])
  const { tree, locate } = await readSettings(path, options.set ?? [], inBase)
  resolveKeys(tree, dirname(resolve(path)))
  const file = checkTree(studySettings, tree, locate())
  const tables = isPath || name === 'all' ? mainTables(file) : [tableNamed(name, file)]
  const refuse = (problems: Problem[]): void => {
    if (problems.length > 0) throw configError(problems, locate())
  }
  refuse([...unknownKeys(tree), ...problemsOf(file)])
  const study = restrict(file, tables, options)
  refuse(seedProblems(study))
  return { ...study, locate: locate() }
}

const mainTables = ({ tables }: StudyFile): string[] => {
  const main = Object.keys(tables).filter((name) => !tables[name].optional)
  return main.length > 0 ? main : Object.keys(tables)
}

function tableNamed(name: string, { tables }: StudyFile): string {
  if (Object.hasOwn(tables, name)) return name
  const names = ['all', ...Object.keys(tables)]
  const near = nearest(name, names)
  const advice = near ? `did you mean ${near}?` : `the studies are ${names.join(', ')}, or a file such as ./study.yaml`
  throw new ArgumentError(`Unknown study ${JSON.stringify(name.slice(0, 80))}; ${advice}`)
}

/** The tables and seeds that are asked for, small ones with `quick`. */
function restrict(
  file: StudyFile,
  tables: readonly string[],
  { seeds, arms, quick }: StudyOptions,
): Omit<StudyFile, 'quick'> {
  const { quick: small, ...rest } = file
  const study = { ...rest, tables: Object.fromEntries(tables.map((name) => [name, file.tables[name]])) }
  const known = Object.keys(file.arms)
  const unknown = arms?.find((name) => !known.includes(name))
  const twice = twiceIn(arms ?? [])
  if (twice !== undefined) throw new ArgumentError(`The arm ${JSON.stringify(twice)} is asked for twice`)
  if (unknown !== undefined) {
    const near = nearest(unknown, known)
    const advice = near ? `did you mean ${near}?` : `its arms are ${known.join(', ')}`
    throw new ArgumentError(`The study has no arm ${JSON.stringify(unknown.slice(0, 80))}; ${advice}`)
  }
  if (quick) {
    if (!small) throw new ArgumentError('The file does not say what is quick', { hint: 'Give it a section quick.' })
    const base = applied(study.base, small.set)
    Object.assign(study, { base, seeds: small.seeds, only: quickArms(study), small: true })
    delete study.tune
  }
  return { ...study, seeds: seeds ? [...seeds] : study.seeds, only: arms ? [...arms] : study.only }
}

/** Of each table what is not trained, the baseline and the primary comparison. */
function quickArms({ tables, arms }: Pick<StudyFile, 'tables' | 'arms'>): string[] {
  const of = (table: StudyFile['tables'][string]): string[] => {
    const untrained = table.arms.filter((name) => isUntrained(arms[name]))
    return [...untrained, table.baseline, table.primary.arm, table.primary.baseline]
  }
  return [...new Set(Object.values(tables).flatMap(of))]
}

/** The file of a study as it is run, for its folder: it loads back to the same study. */
export function formatStudy({ locate, ...file }: Study): string {
  return stringify(file)
}

/** Whether a further evaluation measures it. */
const gives = (metric: Measure, { rewards, set }: StudyFile['evaluations'][string]): boolean =>
  metric === 'contentOverStyle' ? rewards : Number(set.answers ?? 1) > 1

const twiceIn = (names: readonly string[]): string | undefined => names.find((name, at) => names.indexOf(name) < at)

/** What no single key can tell: names that stand for nothing. */
function problemsOf({ arms, tables, evaluations, heldOut, only }: StudyFile): Problem[] {
  const problems: Problem[] = []
  const known = Object.keys(arms)
  const ask = (wanted: string | undefined, path: string[], among = known): void => {
    if (wanted === undefined || among.includes(wanted)) return
    const near = nearest(wanted, among)
    const advice = near ? `did you mean '${near}'?` : `there are ${among.join(', ')}`
    problems.push({ path, message: `${path.join('.')}: there is no arm '${wanted}'; ${advice}` })
  }
  for (const [name, { tunedAs }] of Object.entries(arms)) ask(tunedAs, ['arms', name, 'tunedAs'])
  for (const [name, table] of Object.entries(tables)) {
    for (const each of table.arms) ask(each, ['tables', name, 'arms'])
    const twice = twiceIn(table.arms)
    if (twice !== undefined) {
      const path = ['tables', name, 'arms']
      problems.push({ path, message: `${path.join('.')}: '${twice}' stands twice` })
    }
    if (table.primary.arm === table.primary.baseline) {
      const path = ['tables', name, 'primary', 'baseline']
      problems.push({ path, message: `${path.join('.')}: '${table.primary.arm}' is compared with itself` })
    }
    ask(table.baseline, ['tables', name, 'baseline'], table.arms)
    for (const each of table.evaluations) {
      if (Object.hasOwn(evaluations, each)) continue
      const path = ['tables', name, 'evaluations']
      problems.push({ path, message: `${path.join('.')}: there is no evaluation '${each}' in the section evaluations` })
    }
    for (const line of table.lines)
      for (const each of Object.keys(line.arms)) ask(each, ['tables', name, 'lines'], table.arms)
    ask(table.primary.arm, ['tables', name, 'primary', 'arm'], table.arms)
    ask(table.primary.baseline, ['tables', name, 'primary', 'baseline'], table.arms)
    const { metric } = table.primary
    const asked = table.evaluations.flatMap((each) => evaluations[each] ?? [])
    if (isMeasure(metric) && !asked.some((each) => gives(metric, each))) {
      const path = ['tables', name, 'primary', 'metric']
      const wanted = metric === 'contentOverStyle' ? 'rewards: true' : 'answers of 2 or more'
      problems.push({ path, message: `${path.join('.')}: ${metric} needs an evaluation of the table with ${wanted}` })
    }
  }
  for (const each of only ?? []) ask(each, ['only'])
  for (const [name, { rewards }] of Object.entries(evaluations)) {
    if (!rewards || heldOut) continue
    const path = ['evaluations', name, 'rewards']
    problems.push({ path, message: `${path.join('.')}: the section heldOut is missing, which says on what` })
  }
  return problems
}

/** Of the seeds that are run, wherever they were named. */
function seedProblems({ seeds, tune }: Pick<StudyFile, 'seeds' | 'tune'>): Problem[] {
  const twice = seeds.find((seed, i) => seeds.indexOf(seed) < i)
  if (twice !== undefined) {
    return [{ path: ['seeds'], message: `seeds: ${twice} stands there twice; a seed counts once` }]
  }
  if (!tune || !seeds.includes(tune.seed)) return []
  const message = `tune.seed ${tune.seed} is a seed of the study: the value would be chosen on what is reported`
  return [{ path: ['tune', 'seed'], message }]
}
