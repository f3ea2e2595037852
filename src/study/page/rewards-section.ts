/** Rewards of held-out pairs, and the crossed probe: right and wrong, each in the reference's style and in the model's own. */
import { present, type Section, tableOf } from '../../evaluate/page/table.js'
import { html } from '../../page/html.js'
import { percent } from '../../page/numbers.js'
import type { ArmResults } from '../results.js'
import { meanOver } from './means.js'
import { armsWith, type SectionInput } from './section.js'

type Seed = ArmResults['seeds'][number]

const shares = {
  'reward accuracy, held out': ({ rewards }: Seed) => rewards?.accuracy.answer.value,
  'of phrases': ({ rewards }: Seed) => rewards?.accuracy.phrases.value,
  'both terse': ({ rewards }: Seed) => rewards?.crossed?.bothReference.value,
  'both own style': ({ rewards }: Seed) => rewards?.crossed?.bothOwn.value,
  'wrong terse, right own': ({ rewards }: Seed) => rewards?.crossed?.rightOwn.value,
  'right terse, wrong own': ({ rewards }: Seed) => rewards?.crossed?.rightReference.value,
} satisfies Record<string, (seed: Seed) => number | undefined>

export function rewardsSection(input: SectionInput): Section | null {
  const rows = armsWith(input, ({ rewards }) => rewards)
  const table = tableOf<ArmResults>({
    name: 'rewards',
    rows,
    columns: [
      { label: 'arm', show: ({ name }) => html`<b>${name}</b>` },
      ...Object.entries(shares).map(([label, of]) => ({
        label: `${label}, %`,
        show: (arm: ArmResults) => shown(meanOver(arm, of)),
      })),
      { label: 'mean words', show: (arm) => meanOver(arm, ({ words }) => words)?.toFixed(1) ?? '–' },
    ],
    data: (arm) => ({
      arm: arm.name,
      seeds: arm.seeds.length,
      items: arm.seeds.map(({ rewards }) => rewards?.crossed?.items ?? 0).join(' '),
      ...Object.fromEntries(Object.entries(shares).map(([label, of]) => [label, meanOver(arm, of)])),
      meanWords: meanOver(arm, ({ words }) => words),
    }),
  })
  if (!table) return null
  const title = 'Rewards'
  return {
    title,
    tables: present(table),
    html: html`<h2>${title}</h2>
      <p class="note">Share of held-out items whose right text the adapter has made likelier, against the model alone, than the wrong one. Terse is the reference’s style.
      Who has learnt style instead of content is far apart in the last two shares. Means over seeds.</p>${table.html}`,
  }
}

const shown = (value: number | null): string => (value === null ? '–' : percent(value))
