/** How far two judges agree, and what that says of numbers that one of them made. */
import { type Interval, type Proportion, Z } from './proportion.js'

/** Counts of two judges on the same items: rows are the first judge's yes and no, columns the second's. */
export type AgreementTable = readonly [readonly [number, number], readonly [number, number]]

/** Agreement of two judges. Where nearly all verdicts are of one kind, kappa falls although they agree; AC1 does not. */
export interface Agreement {
  count: number
  /** Share of items with one verdict. */
  agreement: number
  /** What chance alone would give, by the judges' own shares. */
  chance: number
  /** Cohen, Educ. Psychol. Meas. 20 (1960) 37; null where chance agreement is 1. */
  kappa: number | null
  /** Fleiss, Cohen and Everitt, Psychol. Bull. 72 (1969) 323; null with `kappa`. */
  standardError: number | null
  /** Gwet, Br. J. Math. Stat. Psychol. 61 (2008) 29. */
  gwetAC1: number
  /** Of the verdicts "yes", and of "no": twice the common ones over all; Feinstein and Cicchetti (1990). NaN for none. */
  positiveAgreement: number
  negativeAgreement: number
}

/** Agreement of the judges of a table; NaN values for an empty one. */
export function agreementOf(table: AgreementTable): Agreement {
  const [[a, b], [c, d]] = table
  const count = a + b + c + d
  const rows = [(a + b) / count, (c + d) / count]
  const columns = [(a + c) / count, (b + d) / count]
  const agreement = (a + d) / count
  const chance = rows[0] * columns[0] + rows[1] * columns[1]
  const prevalence = (rows[0] + columns[0]) / 2
  const gwetChance = 2 * prevalence * (1 - prevalence)
  const kappa = chance === 1 ? null : (agreement - chance) / (1 - chance)
  return {
    count,
    agreement,
    chance,
    kappa,
    standardError: kappa === null ? null : kappaError(table, count, rows, columns, kappa, chance),
    gwetAC1: (agreement - gwetChance) / (1 - gwetChance),
    positiveAgreement: (2 * a) / (2 * a + b + c),
    negativeAgreement: (2 * d) / (2 * d + b + c),
  }
}

function kappaError(
  table: AgreementTable,
  count: number,
  rows: readonly number[],
  columns: readonly number[],
  kappa: number,
  chance: number,
): number {
  let [diagonal, rest] = [0, 0]
  for (const i of [0, 1]) {
    for (const j of [0, 1]) {
      const share = table[i][j] / count
      if (i === j) diagonal += share * (1 - (rows[i] + columns[i]) * (1 - kappa)) ** 2
      else rest += share * (columns[i] + rows[j]) ** 2
    }
  }
  const variance = diagonal + (1 - kappa) ** 2 * rest - (kappa - chance * (1 - kappa)) ** 2
  return Math.sqrt(Math.max(0, variance) / count) / (1 - chance)
}

/**
 * The share of right answers behind the share that an imperfect judge reports: Rogan and Gladen, Am. J. Epidemiol. 107 (1978) 71.
 *
 *     (reported + specificity - 1) / (sensitivity + specificity - 1), within [0, 1]
 *
 * @returns NaN where the judge is no better than chance.
 */
export function roganGladen(reported: number, sensitivity: number, specificity: number): number {
  const informed = sensitivity + specificity - 1
  if (informed <= 0) return Number.NaN
  return Math.min(1, Math.max(0, (reported + specificity - 1) / informed))
}

type Counted = Pick<Proportion, 'successes' | 'count'>

/**
 * `roganGladen` with an interval that allows for how few items each of the three shares was counted on: Lang and Reiczigel, Prev. Vet.
 * Med. 113 (2014) 13. With z² pseudo-items on the reported share p, 2 on sensitivity s and specificity c, half of them successes, and
 * θ their Rogan-Gladen estimate:
 *
 *     θ + 2z² (θ s(1-s)/n_s - (1-θ) c(1-c)/n_c) ± z sqrt(p(1-p)/n_p + θ² s(1-s)/n_s + (1-θ)² c(1-c)/n_c) / (s + c - 1)
 *
 * within [0, 1]. It takes items as independent.
 *
 * @returns null where a share has no items, and where the judge is no better than chance.
 */
export function correctedShare(
  reported: Counted,
  sensitivity: Counted,
  specificity: Counted,
): (Interval & { value: number }) | null {
  const ratio = ({ successes, count }: Counted): number => successes / count
  const value = roganGladen(ratio(reported), ratio(sensitivity), ratio(specificity))
  if (Number.isNaN(value)) return null
  const widened = ({ successes, count }: Counted, by: number): { share: number; variance: number } => {
    const share = (successes + by / 2) / (count + by)
    return { share, variance: (share * (1 - share)) / (count + by) }
  }
  const [p, s, c] = [widened(reported, Z * Z), widened(sensitivity, 2), widened(specificity, 2)]
  const informed = s.share + c.share - 1
  const theta = (p.share + c.share - 1) / informed
  const centre = theta + 2 * Z * Z * (theta * s.variance - (1 - theta) * c.variance)
  const half = (Z * Math.sqrt(p.variance + theta ** 2 * s.variance + (1 - theta) ** 2 * c.variance)) / informed
  const within = (share: number): number => Math.min(1, Math.max(0, share))
  return { value, low: within(centre - half), high: within(centre + half) }
}
