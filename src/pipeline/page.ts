/** report.html of a pipeline: where its stages stand while it runs, and what they came to when it ends. */
import { existsSync } from 'node:fs'
import { readFile, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { asFileError, FireError } from '../errors.js'
import { type Html, html } from '../page/html.js'
import { aliveWords, LivePage, refreshSeconds, writtenNow } from '../page/live.js'
import { renderPage } from '../page/page.js'
import { StageClock } from '../stage/clock.js'
import type { Progress } from '../stage/progress.js'
import type { Artifacts } from '../stage/stage.js'
import { duration } from '../text/duration.js'
import type { Pipeline, PlannedStage } from './config.js'
import { setAside } from './earlier.js'
import type { Manifest } from './manifest.js'

type State = 'waiting' | 'running' | 'done' | 'unchanged' | 'stopped' | 'failed'

interface Row {
  state: State
  /** What it came to, or where it stands. */
  text: string
  /** When it began, if it runs. */
  started: number
}

/** Tells a page of this kind from one that the report stage or a person wrote. */
const mark = 'pipeline-stages'

/**
 * Written from the first stage that runs on. A stage that writes the same file, as `report` does, takes it over. A page that
 * cannot be drawn is no reason to end a pipeline.
 */
export class PipelinePage {
  readonly #pipeline: Pipeline
  readonly #manifest: Manifest
  readonly #page: LivePage
  readonly #rows = new Map<string, Row>()
  #isOpen = false
  /** The file belongs to a stage now. */
  #isOver = false
  #current: string | undefined

  constructor(pipeline: Pipeline, manifest: Manifest) {
    this.#pipeline = pipeline
    this.#manifest = manifest
    this.#page = new LivePage(join(pipeline.output, 'report.html'))
    for (const { name } of pipeline.stages) this.#rows.set(name, { state: 'waiting', text: '', started: 0 })
  }

  /** The same progress, which the page shows too. */
  watching(progress: Progress): Progress {
    let clock = new StageClock('', 0, '', 0)
    return {
      start: (title, total, unit = 'items', done = 0, place) => {
        clock = new StageClock(title, total, unit, done)
        this.#tell(clock)
        progress.start(title, total, unit, done, place)
      },
      update: (done, status = clock.status, metrics) => {
        Object.assign(clock, { done, status })
        this.#tell(clock)
        progress.update(done, status, metrics)
      },
      end: (summary) => progress.end(summary),
      log: (line) => progress.log(line),
    }
  }

  /** A stage that need not run. */
  skip(stage: PlannedStage, summary: string): void {
    this.#rows.set(stage.name, { state: 'unchanged', text: summary, started: 0 })
    if (this.#isWrittenBy(stage)) this.#isOver = true
  }

  /** A stage begins. */
  async begin(stage: PlannedStage): Promise<void> {
    this.#current = stage.name
    this.#rows.set(stage.name, { state: 'running', text: '', started: performance.now() })
    if (this.#isWrittenBy(stage)) return await this.#handOver()
    if (!this.#isOpen && !this.#isOver) await this.#open()
    await this.#draw('running')
  }

  /** The stage that runs has ended. */
  end(state: 'done' | 'stopped' | 'failed', text: string): void {
    const row = this.#current === undefined ? undefined : this.#rows.get(this.#current)
    if (row) Object.assign(row, { state, text })
    this.#current = undefined
  }

  /** Nothing runs any more: what there is, in full. */
  async close(): Promise<void> {
    await this.#draw('ended')
  }

  #tell({ done, total, unit, left, status }: StageClock): void {
    const row = this.#current === undefined ? undefined : this.#rows.get(this.#current)
    const of = total > 0 ? `${done} of ${total} ${unit}` : `${done} ${unit}`
    const parts = [of, left !== null && `${duration(left)} left`, status]
    if (row) row.text = parts.filter(Boolean).join(' · ')
    if (this.#isOpen) this.#page.update(() => this.#render('running'))
  }

  #isWrittenBy({ outputs }: PlannedStage): boolean {
    return outputs.includes(this.#page.path)
  }

  /** What another wrote under this name is kept. */
  async #open(): Promise<void> {
    const { path } = this.#page
    this.#isOpen = true
    if (!existsSync(path) || (await this.#isOurs())) return
    await setAside(this.#pipeline.output, { name: 'report', traces: [path] }, this.#manifest.stages.report)
  }

  async #handOver(): Promise<void> {
    this.#isOpen = false
    this.#isOver = true
    this.#page.rest()
    await this.#page.settle()
    const { path } = this.#page
    if (existsSync(path) && (await this.#isOurs())) await rm(path)
  }

  async #isOurs(): Promise<boolean> {
    const { path } = this.#page
    return (await readFile(path, 'utf8').catch(asFileError('Reading', path))).includes(mark)
  }

  async #draw(how: 'running' | 'ended'): Promise<void> {
    if (!this.#isOpen) return
    await this.#page.write(() => this.#render(how)).catch(() => {})
    if (how === 'running') this.#page.keepAlive(() => this.#render(how))
  }

  async #render(how: 'running' | 'ended'): Promise<string> {
    const { REPORT_STYLE } = await import('../report/style.js')
    const content = html`${this.#stagesSection(how)}
${how === 'running' ? await this.#curves() : await this.#results()}`
    const title = `Pipeline ${basename(this.#pipeline.output)}`
    return renderPage(title, content, REPORT_STYLE, how === 'running' ? refreshSeconds : undefined)
  }

  #stagesSection(how: 'running' | 'ended'): Html {
    const rows = [...this.#rows]
    const ended = rows.filter(([, { state }]) => state === 'done' || state === 'unchanged').length
    return html`<section class="standing">
  <p><strong>${ended} of ${rows.length} stages done</strong> · ${writtenNow()}</p>
  <div class="bar"><i style="width: ${((100 * ended) / rows.length).toFixed(2)}%"></i></div>
  <table class="${mark}">
  <thead><tr><th>stage</th><th>state</th><th>time</th><th></th></tr></thead>
  <tbody>${rows.map(([name, row]) => html`<tr><td>${name}</td><td>${row.state}</td><td>${this.#timeOf(name, row)}</td><td>${row.text}</td></tr>`)}</tbody>
  </table>
  ${how === 'running' && html`<p class="alive">${aliveWords('the pipeline')} The same command goes on.</p>`}
</section>`
  }

  #timeOf(name: string, { state, started }: Row): string {
    const before = this.#manifest.stages[name]?.seconds ?? 0
    if (state === 'running') return duration(before + (performance.now() - started) / 1000)
    return before > 0 ? duration(before) : ''
  }

  /** Of stages that are done, or have begun where that is asked for. */
  #made(begun: boolean): Artifacts {
    const wanted: readonly State[] = begun ? ['done', 'unchanged', 'running'] : ['done', 'unchanged']
    const stages = this.#pipeline.stages.filter(({ name }) => wanted.includes(this.#rows.get(name)?.state ?? 'waiting'))
    return Object.assign({}, ...stages.map(({ makes }) => makes))
  }

  /** Of a training that has begun. */
  async #curves(): Promise<Html | null> {
    const { metrics } = this.#made(true)
    if (metrics === undefined || !existsSync(metrics)) return null
    const { readResolvedConfig } = await import('../train/config.js')
    const { shownObjective } = await import('../train/page/objective.js')
    const { trainingSection } = await import('../train/page/training-section.js')
    const { readMetrics } = await import('../train/run-log.js')
    const config = await readResolvedConfig(join(dirname(metrics), 'config.resolved.yaml'))
    return trainingSection({ metrics: await readMetrics(metrics), objective: shownObjective(config) })
  }

  async #results(): Promise<Html | null> {
    const { pairs, pairsReport, metrics, evaluation } = this.#made(false)
    if ((pairs ?? pairsReport ?? metrics ?? evaluation) === undefined) return null
    const { collectReport } = await import('../report/collect.js')
    const { reportContent } = await import('../report/report.js')
    const sources = { pairs, pairsReport, metrics, evaluation }
    const data = await collectReport(sources, { title: '', notes: [], stages: [] }).catch((error) => {
      // Stages of others may make what only they can read.
      if (!(error instanceof FireError)) throw error
    })
    return data ? reportContent(data) : null
  }
}
