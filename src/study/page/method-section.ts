/** What was run: every arm with its changes, the chosen values, and the steps behind each number. */
import { present, type Section, tableOf } from '../../evaluate/page/table.js'
import { html } from '../../page/html.js'
import { percent } from '../../page/numbers.js'
import { edgeOf } from '../choose.js'
import type { ArmResults } from '../results.js'
import type { SectionInput } from './section.js'

export function methodSection({ results, table }: SectionInput): Section | null {
  const rows = table.arms.map((name) => results.arms.find((arm) => arm.name === name) as ArmResults)
  const shown = tableOf<ArmResults>({
    name: 'method',
    rows,
    columns: [
      { label: 'arm', kind: 'text', show: ({ name, words }) => html`<b>${name}</b> <small>${words}</small>` },
      { label: 'published row', kind: 'text', show: ({ row }) => row ?? '–' },
      { label: 'changes to the base', kind: 'text', show: ({ set }) => changesOf(set) },
      { label: 'chosen beforehand', kind: 'text', show: (arm) => tunedOf(arm) },
      {
        label: 'evaluations',
        kind: 'text',
        show: ({ seeds }) => html`<small>${seeds.map(({ steps }) => steps.at(-1) ?? '–').join(', ')}</small>`,
      },
    ],
    data: (arm) => ({
      ...{ arm: arm.name, words: arm.words, row: arm.row, changes: changesOf(arm.set), tuned: tunedOf(arm) },
      steps: arm.seeds.map(({ steps }) => steps.join(' ')).join('; '),
    }),
  })
  const tuning = tuningTable(rows)
  const same = results.oneRun
    .map((names) => names.filter((name) => table.arms.includes(name)))
    .filter((names) => names.length > 1)
  const title = 'What was run'
  return {
    title,
    tables: present(shown, tuning),
    html: html`<h2>${title}</h2>
      <p class="note">fire-train ${results.version}; seeds ${results.seeds.join(', ')}. The whole definition is study.resolved.yaml in the folder. A step is named by a hash of
      everything that decides its result: its folder below steps/ has its settings and its files.</p>
      ${same.length > 0 && html`<p class="note">One run under several names, since nothing differs: ${same.map((names) => names.join(' = ')).join('; ')}.</p>`}
      ${shown?.html}
      ${tuning && html`<h3 class="part">Values chosen beforehand</h3>${tuning.html}`}`,
  }
}

/** Every value that was tried for an arm, with the accuracy that decided. */
function tuningTable(arms: readonly ArmResults[]) {
  const rows = arms.flatMap(({ name, seeds }) => {
    const tuned = seeds.find((each) => each.tuned)?.tuned
    return (tuned?.trials ?? []).map((trial) => ({ arm: name, ...trial, isChosen: trial.value === tuned?.value }))
  })
  return tableOf({
    name: 'tuning',
    rows,
    columns: [
      { label: 'arm', kind: 'text', show: ({ arm }) => arm },
      { label: 'value', show: ({ value, isChosen }) => (isChosen ? html`<b>${value}</b>` : value) },
      { label: 'right', show: ({ successes, count, out }) => out ?? `${successes} of ${count}` },
      { label: '%', show: ({ successes, count, out }) => (out === null ? percent(successes / count) : '–') },
    ],
    data: ({ isChosen, ...trial }) => ({ ...trial, chosen: Number(isChosen) }),
  })
}

const changesOf = (set: Record<string, unknown>): string =>
  Object.entries(set)
    .map(([key, value]) => (value === null ? `no ${key}` : `${key} = ${JSON.stringify(value)}`))
    .join(', ') || 'none'

function tunedOf({ seeds }: ArmResults): string {
  const tuned = seeds.find(({ tuned: each }) => each)?.tuned
  if (!tuned) return '–'
  const edge = edgeOf(tuned)
  return `${tuned.setting} = ${tuned.value}${edge ? `, the ${edge} that was tried` : ''}`
}
