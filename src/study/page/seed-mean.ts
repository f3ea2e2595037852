/** How a mean over seeds is shown, with the interval of the tables. */
import { type Html, html } from '../../page/html.js'
import { intervalOfShares, percent } from '../../page/numbers.js'
import type { SeedMean } from '../means.js'

/** In percent, the interval below; a dash where a seed is missing. */
export const showMean = (mean: SeedMean | null): Html =>
  mean === null
    ? html`–`
    : html`${percent(mean.value)} ${mean.interval && html`<small>${intervalOfShares(mean.interval)}</small>`}`

/** Three cells of a CSV file. */
export const cellsOfMean = (name: string, mean: SeedMean | null): Record<string, number | null> => ({
  [name]: mean?.value ?? null,
  [`${name}Low`]: mean?.interval?.low ?? null,
  [`${name}High`]: mean?.interval?.high ?? null,
})
