/** Numbers as a page writes them. */
import type { Interval, Proportion } from '../statistics/index.js'
import { type Html, html } from './html.js'

/** `62.5`, or a dash for a share of nothing. */
export const percent = (value: number, digits = 1): string =>
  Number.isFinite(value) ? (100 * value).toFixed(digits).replace('-', '−') : '–'

/** In percent: `[58.1, 66.7]` */
export const intervalOfShares = ({ low, high }: Interval): string => `[${percent(low)}, ${percent(high)}]`

/** In percent: `62.5 [58.1, 66.7]` */
export const withInterval = (proportion: Proportion): string =>
  `${percent(proportion.value)} ${intervalOfShares(proportion)}`

/** A difference in points with its sign: `+3.1`; the minus is typographic. */
export function points(value: number): string {
  if (!Number.isFinite(value)) return '–'
  const text = Math.abs(100 * value).toFixed(1)
  if (text === '0.0') return '0.0'
  return value > 0 ? `+${text}` : `−${text}`
}

export const intervalOfPoints = ({ low, high }: Interval): string => `[${points(low)}, ${points(high)}]`

export const pointsWithInterval = (difference: Interval & { value: number }): string =>
  `${points(difference.value)} ${intervalOfPoints(difference)}`

export const pValue = (p: number): string => (p < 0.001 ? '< 0.001' : p.toFixed(3))

/** Words of a model or a file, which may run in any direction and may be none. */
export const said = (text: string): Html => (text.trim() === '' ? html`<i>nothing</i>` : html`<bdi>${text}</bdi>`)
