/**
 * How long work tells a person where it stands: a bar with rate and remaining time on a terminal, plain lines elsewhere.
 * Everything goes to stderr, so stdout stays a clean result.
 */
import { SingleBar } from 'cli-progress'
import { duration } from '../report/words.js'
import type { Progress } from '../stage/index.js'
import { forTerminal } from '../terminal.js'
import { counted } from '../text/plural.js'

/** The reporter that suits the stream. */
export function createProgress(stream: NodeJS.WriteStream = process.stderr, env = process.env): Progress {
  const isDumb = env.TERM === 'dumb' || (stream.columns ?? 80) < leastColumns
  return stream.isTTY && !isDumb
    ? new BarProgress(stream, drawsBlocks(env))
    : new LineProgress((line) => stream.write(`${forTerminal(line)}\n`))
}

/** A bar in less would be cut before it says anything. */
const leastColumns = 40

/** Unless the locale says that it knows ASCII only. */
function drawsBlocks(env: NodeJS.ProcessEnv): boolean {
  const locale = env.LC_ALL || env.LC_CTYPE || env.LANG || ''
  return locale === '' || /utf-?8/i.test(locale)
}

/** Rate and remaining time of the stage so far, for instance `3.1 pairs/s, 42.0 s left`. */
export function describeRate(done: number, total: number, seconds: number, unit: string): string {
  if (done === 0 || seconds <= 0) return 'starting'
  const rate = done / seconds
  const speed = rate >= 1 ? `${rate.toFixed(1)} ${unit}/s` : `${(1 / rate).toFixed(1)} s per ${singular(unit)}`
  return total > 0 ? `${speed}, ${duration((total - done) / rate)} left` : speed
}

/** `answers` is one `answer`; `MiB` stays. */
const singular = (unit: string): string => unit.replace(/s$/, '')

interface Stage {
  title: string
  total: number
  unit: string
  started: number
  done: number
  status: string
}

function newStage(title: string, total: number, unit: string): Stage {
  return { title, total, unit, started: performance.now(), done: 0, status: '' }
}

function elapsed(stage: Stage): number {
  return (performance.now() - stage.started) / 1000
}

function summaryLine(stage: Stage, summary: string | undefined): string {
  const tail = summary ?? stage.status
  return `${stage.title}: ${counted(stage.done, singular(stage.unit), stage.unit)} in ${duration(elapsed(stage))}${tail ? ` · ${tail}` : ''}`
}

class BarProgress implements Progress {
  readonly #stream: NodeJS.WriteStream
  #stage: Stage | undefined
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

  start(title: string, total: number, unit = 'items'): void {
    this.end()
    this.#stage = newStage(title, total, unit)
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
    this.#bar.start(total, 0, { rate: 'starting', status: '' })
  }

  update(done: number, status?: string): void {
    const stage = this.#stage
    if (!stage) return
    stage.done = done
    if (status !== undefined) stage.status = status
    this.#bar?.update(done, {
      rate: describeRate(done, stage.total, elapsed(stage), stage.unit),
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
  #stage: Stage | undefined
  #printed = 0

  constructor(write: (line: string) => void) {
    this.#write = write
  }

  start(title: string, total: number, unit = 'items'): void {
    this.end()
    this.#stage = newStage(title, total, unit)
    this.#printed = performance.now()
    this.#write(total > 0 ? `${title}: ${counted(total, singular(unit), unit)}` : title)
  }

  update(done: number, status?: string): void {
    const stage = this.#stage
    if (!stage) return
    stage.done = done
    if (status !== undefined) stage.status = status
    const now = performance.now()
    if (now - this.#printed < 5000) return
    this.#printed = now
    const rate = describeRate(done, stage.total, elapsed(stage), stage.unit)
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
