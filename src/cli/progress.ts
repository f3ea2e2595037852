/**
 * How long work tells where it stands: a bar with rate and remaining time on a terminal, plain lines elsewhere, JSON on demand.
 * Everything goes to stderr, so stdout stays a clean result.
 */
import { SingleBar } from 'cli-progress'
import { StageClock } from '../stage/clock.js'
import { type Progress, silent } from '../stage/index.js'
import { forTerminal } from '../terminal.js'
import { duration } from '../text/duration.js'
import { counted } from '../text/plural.js'
import { JsonProgress } from './json-progress.js'

/** How progress is told: to people as the stream allows, or to machines. */
export const logForms = ['text', 'json'] as const

export type LogForm = (typeof logForms)[number]

/** The reporter that suits the stream. */
export function createProgress(
  form: LogForm = 'text',
  stream: NodeJS.WriteStream = process.stderr,
  env = process.env,
  rank = 0,
): Progress {
  if (rank > 0) return warningsOf(rank, form, (line) => stream.write(forTerminal(line)))
  if (form === 'json') return new JsonProgress((line) => stream.write(forTerminal(line)))
  const isDumb = env.TERM === 'dumb' || (stream.columns ?? 80) < leastColumns
  return stream.isTTY && !isDumb
    ? new BarProgress(stream, drawsBlocks(env))
    : new LineProgress((line) => stream.write(`${forTerminal(line)}\n`))
}

/** Rank 0 tells how the work goes; the others say what is wrong with them. */
function warningsOf(rank: number, form: LogForm, write: (line: string) => void): Progress {
  const lines =
    form === 'json' ? new JsonProgress(write, { rank }) : new LineProgress((line) => write(`${ofRank(rank, line)}\n`))
  return { ...silent, log: (line) => line.startsWith('warning: ') && lines.log(line) }
}

/** A text of a rank other than 0, whose lines stand between those of others. */
export const ofRank = (rank: number, text: string): string =>
  rank === 0 ? text : text.replaceAll(/^(?=.)/gm, `[rank ${rank}] `)

/** A bar in less would be cut before it says anything. */
const leastColumns = 40

/** Unless the locale says that it knows ASCII only. */
function drawsBlocks(env: NodeJS.ProcessEnv): boolean {
  const locale = env.LC_ALL || env.LC_CTYPE || env.LANG || ''
  return locale === '' || /utf-?8/i.test(locale)
}

/** For instance `3.1 pairs/s, 42.0 s left`. */
export function describeRate({ rate, left, unit }: Pick<StageClock, 'rate' | 'left' | 'unit'>): string {
  if (rate === null) return 'starting'
  const speed = rate >= 1 ? `${rate.toFixed(1)} ${unit}/s` : `${(1 / rate).toFixed(1)} s per ${singular(unit)}`
  return left === null ? speed : `${speed}, ${duration(left)} left`
}

/** `answers` is one `answer`; `MiB` stays. */
const singular = (unit: string): string => unit.replace(/s$/, '')

function summaryLine(stage: StageClock, summary: string | undefined): string {
  const tail = summary ?? stage.status
  const { title, done, before, unit, seconds } = stage
  const earlier = before > 0 ? `, ${before} done before` : ''
  return `${title}: ${counted(done - before, singular(unit), unit)} in ${duration(seconds)}${earlier}${tail ? ` · ${tail}` : ''}`
}

class BarProgress implements Progress {
  readonly #stream: NodeJS.WriteStream
  #stage: StageClock | undefined
  readonly #signs: { barCompleteChar: string; barIncompleteChar: string }
  #bar: SingleBar | undefined

  constructor(stream: NodeJS.WriteStream, blocks: boolean) {
    this.#stream = stream
    this.#signs = blocks
      ? { barCompleteChar: '█', barIncompleteChar: '░' }
      : { barCompleteChar: '#', barIncompleteChar: '.' }
    // Whoever leaves at once leaves no half bar, and the cursor is shown again.
    process.once('exit', () => this.#bar?.stop())
  }

  start(title: string, total: number, unit = 'items', done = 0): void {
    this.end()
    this.#stage = new StageClock(title, total, unit, done)
    this.#bar = new SingleBar({
      stream: this.#stream,
      format: `${forTerminal(title)} {bar} {value}/{total} ${unit} · {rate}{status}`,
      barsize: 24,
      ...this.#signs,
      hideCursor: true,
      clearOnComplete: true,
      fps: 8,
      linewrap: false,
    })
    this.#bar.start(total, done, { rate: 'starting', status: '' })
  }

  update(done: number, status?: string): void {
    const stage = this.#stage
    if (!stage) return
    stage.done = done
    if (status !== undefined) stage.status = status
    this.#bar?.update(done, {
      rate: describeRate(stage),
      status: stage.status ? ` · ${forTerminal(stage.status)}` : '',
    })
  }

  end(summary?: string): void {
    const stage = this.#stage
    if (!stage) return
    this.#bar?.stop()
    this.#bar = undefined
    this.#stage = undefined
    this.#stream.write(`${forTerminal(summaryLine(stage, summary))}\n`)
  }

  log(line: string): void {
    const stage = this.#stage
    this.#bar?.stop()
    this.#stream.write(`${forTerminal(line)}\n`)
    if (stage) this.#bar?.start(stage.total, stage.done, { rate: 'starting', status: '' })
  }
}

/** At most one line every five seconds a stage, plus its end. */
class LineProgress implements Progress {
  readonly #write: (line: string) => void
  #stage: StageClock | undefined
  #printed = 0

  constructor(write: (line: string) => void) {
    this.#write = write
  }

  start(title: string, total: number, unit = 'items', done = 0): void {
    this.end()
    this.#stage = new StageClock(title, total, unit, done)
    this.#printed = performance.now()
    const before = done > 0 ? `, ${done} done before` : ''
    this.#write(total > 0 ? `${title}: ${counted(total, singular(unit), unit)}${before}` : title)
  }

  update(done: number, status?: string): void {
    const stage = this.#stage
    if (!stage) return
    stage.done = done
    if (status !== undefined) stage.status = status
    const now = performance.now()
    if (now - this.#printed < 5000) return
    this.#printed = now
    const rate = describeRate(stage)
    const of = stage.total > 0 ? `${done}/${stage.total}` : String(done)
    this.#write(`${stage.title}: ${of} ${stage.unit}, ${rate}${stage.status ? ` · ${stage.status}` : ''}`)
  }

  end(summary?: string): void {
    const stage = this.#stage
    if (!stage) return
    this.#stage = undefined
    this.#write(summaryLine(stage, summary))
  }

  log(line: string): void {
    this.#write(line)
  }
}
