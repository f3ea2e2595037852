/** How a system is shown: one colour on the whole page. */
import { type Html, html } from '../../page/html.js'
import type { EvaluationResults } from '../finished.js'

/** Classes of the style sheet: 0 is the baseline's, 1 to 4 repeat. */
export function colourOf({ systems, baseline }: Pick<EvaluationResults, 'systems' | 'baseline'>, name: string): number {
  if (name === baseline) return 0
  const others = systems.filter((system) => system.name !== baseline)
  const at = others.findIndex((system) => system.name === name)
  return at < 0 ? 0 : 1 + (at % 4)
}

/** The name with its colour. */
export const systemName = (results: EvaluationResults, name: string): Html =>
  html`<span class="system c${colourOf(results, name)}"><i></i><bdi>${name}</bdi></span>`
