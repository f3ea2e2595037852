/** Student's t: tests of a mean of few numbers whose spread is estimated from them. */

/** Two-sided p of |t| or more with so many degrees of freedom: the regularized incomplete beta I_x(df/2, 1/2), x = df/(df + t²). */
export function studentP(t: number, df: number): number {
  if (Number.isNaN(t) || !(df > 0)) return Number.NaN
  return incompleteBeta(df / (df + t * t), df / 2, 0.5)
}

/** A mean, its standard error, and how likely so large a one is where there is none. */
export interface MeanTest {
  value: number
  standardError: number
  df: number
  /** NaN for fewer than two numbers. */
  p: number
}

/** One-sample t test that the mean of the numbers is 0; of paired differences: the paired t test. Student, Biometrika 6 (1908) 1. */
export function meanTest(values: readonly number[]): MeanTest {
  const n = values.length
  const value = values.reduce((sum, each) => sum + each, 0) / n
  const variance = values.reduce((sum, each) => sum + (each - value) ** 2, 0) / (n - 1)
  const standardError = Math.sqrt(variance / n)
  // Equal numbers: none but 0 is like 0.
  const t = value === 0 ? 0 : value / standardError
  return { value, standardError, df: n - 1, p: n < 2 ? Number.NaN : studentP(t, n - 1) }
}

/** I_x(a, b), by the continued fraction of Lentz (Numerical Recipes, 3rd edition, 6.4). */
function incompleteBeta(x: number, a: number, b: number): number {
  if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1
  const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log1p(-x))
  return x < (a + 1) / (a + b + 2)
    ? (front * continuedFraction(x, a, b)) / a
    : 1 - (front * continuedFraction(1 - x, b, a)) / b
}

function continuedFraction(x: number, a: number, b: number): number {
  const away = (value: number): number => (Math.abs(value) < 1e-300 ? 1e-300 : value)
  let d = 1 / away(1 - ((a + b) * x) / (a + 1))
  let [c, result] = [1, d]
  for (let m = 1; m <= 500; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m))
    d = 1 / away(1 + even * d)
    c = away(1 + even / c)
    result *= d * c
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1))
    d = 1 / away(1 + odd * d)
    c = away(1 + odd / c)
    result *= d * c
    if (Math.abs(d * c - 1) < 1e-15) break
  }
  return result
}

/** ln Γ(x) for x > 0: Stirling's series where it is exact to float64, reached by Γ(x + 1) = x Γ(x). */
function logGamma(x: number): number {
  if (x < 16) return logGamma(x + 1) - Math.log(x)
  const square = x * x
  const series = (1 / 12 - (1 / 360 - (1 / 1260 - (1 / 1680 - 1 / 1188 / square) / square) / square) / square) / x
  return (x - 0.5) * Math.log(x) - x + Math.log(2 * Math.PI) / 2 + series
}
