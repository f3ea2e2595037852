/** The binomial distribution, to the last digits for any count: tests of proportions are sums of it. */

/**
 * P(X = k) for X ~ Binomial(n, p), by Loader's saddle-point form ("Fast and accurate computation of binomial probabilities", 2000):
 * no large logarithms are subtracted, so the relative error stays near 1e-15.
 */
export function binomial(n: number, k: number, p: number): number {
  if (p <= 0 || p >= 1) return Number(k === (p <= 0 ? 0 : n))
  if (k === 0) return Math.exp(n * Math.log1p(-p))
  if (k === n) return Math.exp(n * Math.log(p))
  const log =
    stirlingError(n) - stirlingError(k) - stirlingError(n - k) - deviance(k, n * p) - deviance(n - k, n * (1 - p))
  return Math.sqrt(n / (2 * Math.PI * k * (n - k))) * Math.exp(log)
}

/** Below this the series would not be exact to float64; the factorial is summed up. */
const fewest = 16

/** ln n! - ln(sqrt(2 pi n) (n/e)^n). */
function stirlingError(n: number): number {
  if (n < fewest) return logFactorial(n) - (n + 0.5) * Math.log(n) + n - Math.log(2 * Math.PI) / 2
  const square = n * n
  return (1 / 12 - (1 / 360 - (1 / 1260 - (1 / 1680 - 1 / 1188 / square) / square) / square) / square) / n
}

/** x ln(x/m) + m - x, without cancellation where x and m are close. */
function deviance(x: number, m: number): number {
  const v = (x - m) / (x + m)
  if (Math.abs(v) > 0.1) return x * Math.log(x / m) + m - x
  let [sum, power] = [(x - m) * v, 2 * x * v]
  for (let j = 3; ; j += 2) {
    power *= v * v
    const next = sum + power / j
    if (next === sum) return sum
    sum = next
  }
}

function logFactorial(n: number): number {
  let product = 1
  for (let i = 2; i <= n; i++) product *= i
  return Math.log(product)
}

/** C(a, k) C(b, total - k) / C(a + b, total): the chance of k of `total` from the first group. */
export function hypergeometric(k: number, total: number, a: number, b: number): number {
  // Each factor at one p, where the p cancel: three binomials close to their modes instead of three huge coefficients.
  const p = total / (a + b)
  return (binomial(a, k, p) * binomial(b, total - k, p)) / binomial(a + b, total, p)
}
