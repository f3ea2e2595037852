/** How an arm is drawn: one colour on the whole page, and a dash where colours repeat. */
import { type Html, html } from '../../page/html.js'
import type { TableResults } from '../results.js'

/** The look of a line. */
export interface ArmLook {
  stroke: string
  /** Undefined: a full line. */
  strokeDasharray: string | undefined
}

const colours = 8
const dashes = [undefined, '7 3', '2 3']

/** Grey for the baseline; the others in the order of the table. */
export function lookOf({ arms, baseline }: Pick<TableResults, 'arms' | 'baseline'>, arm: string): ArmLook {
  if (arm === baseline) return { stroke: 'var(--before)', strokeDasharray: undefined }
  const at = arms.filter((name) => name !== baseline).indexOf(arm)
  return { stroke: `var(--series-${1 + (at % colours)})`, strokeDasharray: dashes[Math.floor(at / colours) % 3] }
}

/** Names with their lines. @param note stands after them. */
export function legendOf(table: TableResults, arms: readonly string[], note = ''): Html {
  const names = arms.map((arm) => {
    const { stroke, strokeDasharray } = lookOf(table, arm)
    return html`<span><svg class="key" aria-hidden="true"><line x1="0" x2="22" y1="6" y2="6" style="stroke: ${stroke}" stroke-dasharray="${strokeDasharray}"/></svg><bdi>${arm}</bdi></span>`
  })
  return html`<div class="legend">${names}${note && html`<span>${note}</span>`}</div>`
}

export const armLookStyle = `
:root { --series-5: #c02b3c; --series-6: #0b7683; --series-7: #7a6400; --series-8: #c0268a; }
@media (prefers-color-scheme: dark) {
  :root { --series-5: #ff8a80; --series-6: #4fd1dc; --series-7: #d6c34a; --series-8: #ff8ed0; }
}
.legend .key { width: 22px; height: 12px; margin-right: 6px; vertical-align: -1px; }
@media (max-width: 1000px) { .data td[data-label]:empty { display: none; } }
.grid + .data { margin-top: 20px; }
.data + .legend { margin-top: 16px; }
.legend .key line { stroke-width: 3; }
`
