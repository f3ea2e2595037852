/** What was run: every arm with its changes, the chosen values, and the steps behind each number. */
import { present, type Section, tableOf } from '../../evaluate/page/table.js'
import { html } from '../../page/html.js'
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
  const title = 'What was run'
  return {
    title,
    tables: present(shown),
    html: html`<h2>${title}</h2>
      <p class="note">fire-train ${results.version}; seeds ${results.seeds.join(', ')}. The whole definition is study.resolved.yaml in the folder. A step is named by a hash of
      everything that decides its result: its folder below steps/ has its settings and its files.</p>
      ${shown?.html}`,
  }
}

const changesOf = (set: Record<string, unknown>): string =>
  Object.entries(set)
    .map(([key, value]) => (value === null ? `no ${key}` : `${key} = ${JSON.stringify(value)}`))
    .join(', ') || 'none'

function tunedOf({ seeds }: ArmResults): string {
  const tuned = seeds.find(({ tuned: each }) => each)?.tuned
  return tuned ? `${tuned.setting} = ${tuned.value}` : '–'
}
