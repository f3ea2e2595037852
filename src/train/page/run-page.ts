/** report.html of one training run: where it stands, its curves, what it ran with. */
import { type Html, html } from '../../page/html.js'
import { aliveWords, refreshSeconds, writtenNow } from '../../page/live.js'
import { renderPage } from '../../page/page.js'
import { duration } from '../../text/duration.js'
import { formatConfig } from '../config.js'
import type { LogRow, RankRow } from '../metrics.js'
import type { TrainConfig } from '../settings.js'
import { bestOf } from '../tracking.js'
import { describeTraining, type RunOn } from './facts.js'
import { objectiveName, shownObjective } from './objective.js'
import { ranksSection } from './ranks-section.js'
import { trainingSection } from './training-section.js'

export interface Standing {
  /** `running` also after a kill: nobody is left to say more. */
  state: 'running' | 'complete' | 'stopped' | 'failed'
  step: number
  totalSteps: number
  /** Why it failed, or what speaks against a complete run. */
  problem?: string | null
  /** Why a complete run took fewer steps. */
  stoppedEarly?: string | null
  /** What to know of its data and of what it came to. */
  warnings?: readonly string[]
}

export interface RunPageData {
  config: TrainConfig
  on: RunOn
  rows: readonly LogRow[]
  /** Of the last steps, where several ranks took them: a row of each rank. */
  byRank?: readonly (readonly RankRow[])[]
  standing: Standing
  /** What goes on with the run after a stop, in words that begin a sentence. */
  again?: string
}

export function renderRunPage({
  config,
  on,
  rows,
  byRank = [],
  standing,
  again = 'The same command with --resume',
}: RunPageData): string {
  const objective = shownObjective(config)
  const facts: [string, string][] = [['Output', config.output], ...describeTraining(config, on)]
  const next = `${again} goes on from the newest checkpoint; without one it starts anew.`
  const content = html`${standingSection(standing, rows, next)}
${trainingSection({ metrics: rows, objective })}
${ranksSection(byRank)}
<section>
  <h2>What was run</h2>
  <dl>${[...facts, ...bestFacts(config, rows)].map(([label, value]) => html`<dt>${label}</dt><dd>${value}</dd>`)}</dl>
  <details><summary>Resolved configuration</summary><pre>${formatConfig(config)}</pre></details>
</section>`
  const refresh = standing.state === 'running' ? refreshSeconds : undefined
  return renderPage(`Training: ${objectiveName(objective.name)}`, content, '', refresh)
}

/** What `best/` holds. */
function bestFacts(config: TrainConfig, rows: readonly LogRow[]): [string, string][] {
  const { best: metric } = config.checkpoint
  const best = metric && bestOf(rows, config)
  if (!best) return []
  return [['Best adapter', `best/, of step ${best.step}: ${metric} ${Number(best.value.toPrecision(4))}`]]
}

const words: Record<Standing['state'], string> = {
  running: 'Running',
  complete: 'Complete',
  stopped: 'Stopped',
  failed: 'Failed',
}

function standingSection(
  { state, step, totalSteps, problem, stoppedEarly, warnings = [] }: Standing,
  rows: readonly LogRow[],
  next: string,
): Html {
  const seconds = secondsPerStep(rows)
  const left = state === 'running' && seconds !== null ? `${duration(seconds * (totalSteps - step))} left` : undefined
  const facts = [
    `step ${step} of ${totalSteps}`,
    seconds !== null && `${duration(seconds)} per step`,
    left,
    writtenNow(),
  ]
  const share = totalSteps > 0 ? (100 * step) / totalSteps : 100
  return html`<section class="standing ${state}">
  <p><strong>${words[state]}</strong>: ${facts.filter(Boolean).join(' · ')}</p>
  <div class="bar"><i style="width: ${share.toFixed(2)}%"></i></div>
  ${state === 'running' && html`<p class="alive">${aliveWords('the run')} ${next}</p>`}
  ${state === 'stopped' && html`<p>${next}</p>`}
  ${stoppedEarly && html`<p>Ended early: ${stoppedEarly}</p>`}
  ${problem && html`<p class="problem">${problem}</p>`}
  ${warnings.map((warning) => html`<p class="warning">Warning: ${warning}</p>`)}
  ${rows.length > 0 && latest(rows)}
</section>`
}

/** Of the last steps: a run gets faster when the reference is remembered. Evaluations and checkpoints are not in it. */
function secondsPerStep(rows: readonly LogRow[]): number | null {
  const times = rows.slice(-50).flatMap(({ engine_time: engine, data_time: data }) => engine + data || [])
  return times.length === 0 ? null : times.reduce((sum, time) => sum + time, 0) / times.length
}

/** The newest value of what one looks at first. */
function latest(rows: readonly LogRow[]): Html {
  const shown: [key: string, label: string][] = [
    ['loss', 'loss'],
    ['rewards/accuracies', 'reward accuracy'],
    ['rewards/margins', 'margin'],
    ['eval_loss', 'held-out loss'],
    ['eval_rewards/accuracies', 'held-out reward accuracy'],
    ['tokens_per_second', 'tokens a second'],
  ]
  const values = shown.flatMap(([key, label]) => {
    const value = rows.findLast((row) => Number.isFinite(row[key]))?.[key]
    return value === undefined ? [] : [html`<span><b>${Number(value.toPrecision(4))}</b> ${label}</span>`]
  })
  return html`<p class="latest">${values}</p>`
}
