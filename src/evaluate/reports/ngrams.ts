/**
 * Word overlap of a report with its reference: BLEU, ROUGE-L, CIDEr-D, as image captioning computes them. A flipped side hardly
 * moves them: they say whether reports are written alike, not whether they are right.
 */

/** Constants of the captioning code; zero for the formula alone. */
interface Smoothing {
  tiny: number
  small: number
}

/** What published numbers are computed with. */
export const captioning: Smoothing = { tiny: 1e-15, small: 1e-9 }
/** The formula: 0 where an order has no match. */
export const unsmoothed: Smoothing = { tiny: 0, small: 0 }

const orders = [1, 2, 3, 4] as const
type Counts = Map<string, number>

/** A report and its reference, as words. */
export interface ReportWords {
  reference: readonly string[]
  candidate: readonly string[]
}

/**
 * Lower-case words; full stops stand alone, other punctuation goes. The customary cleaning of radiology reports.
 */
export function reportWords(text: string): string[] {
  return text
    .toLowerCase()
    .replace(/(?<!\d)\.|\.(?!\d)/g, ' . ')
    .replace(/[^\p{L}\p{N}.%/-]+/gu, ' ')
    .split(' ')
    .filter((word) => word !== '')
}

/**
 * BLEU-1 to BLEU-4 of a corpus (of one report: a list of one): clipped n-gram precision, geometric mean, brevity penalty. Papineni et
 * al., ACL 2002, 311.
 * @returns four numbers in [0, 1]; NaN for no reports.
 */
export function bleu(reports: readonly ReportWords[], { tiny, small }: Smoothing = captioning): number[] {
  let [candidates, references] = [0, 0]
  const [matches, totals] = [new Float64Array(4), new Float64Array(4)]
  for (const { reference, candidate } of reports) {
    candidates += candidate.length
    references += reference.length
    for (const [i, n] of orders.entries()) {
      const said = countNgrams(reference, n)
      for (const [ngram, times] of countNgrams(candidate, n)) matches[i] += Math.min(times, said.get(ngram) ?? 0)
      totals[i] += Math.max(0, candidate.length - n + 1)
    }
  }
  const ratio = (candidates + tiny) / (references + small)
  const brevity = ratio < 1 ? Math.exp(1 - 1 / ratio) : 1
  let product = 1
  return orders.map((n, i) => {
    product *= totals[i] + small === 0 ? 0 : (matches[i] + tiny) / (totals[i] + small)
    return product ** (1 / n) * brevity
  })
}

/**
 * ROUGE-L: precision and recall of the longest common subsequence of words, `f = (1 + b²) p r / (r + b² p)`. Lin, ACL workshop Text
 * Summarization Branches Out 2004.
 * @param beta weight of recall; 1.2 in the captioning code.
 */
export function rougeL({ reference, candidate }: ReportWords, beta = 1.2): number {
  const common = longestCommon(reference, candidate)
  if (common === 0) return 0
  const [precision, recall] = [common / candidate.length, common / reference.length]
  return ((1 + beta ** 2) * precision * recall) / (recall + beta ** 2 * precision)
}

function longestCommon(a: readonly string[], b: readonly string[]): number {
  let row = new Uint32Array(b.length + 1)
  for (const word of a) {
    const next = new Uint32Array(b.length + 1)
    for (const [j, other] of b.entries()) next[j + 1] = word === other ? row[j] + 1 : Math.max(row[j + 1], next[j])
    row = next
  }
  return row[b.length]
}

/**
 * CIDEr-D of each report, 0 to 10: cosine of n-gram counts weighted by how rare they are among the references, clipped, with a
 * Gaussian penalty on the difference in length. It is a number of the corpus. Vedantam et al., CVPR 2015.
 */
export function ciderD(reports: readonly ReportWords[]): number[] {
  const frequency = new Map<string, number>()
  for (const { reference } of reports) {
    const seen = new Set(orders.flatMap((n) => [...countNgrams(reference, n).keys()]))
    for (const ngram of seen) frequency.set(ngram, (frequency.get(ngram) ?? 0) + 1)
  }
  const all = Math.log(reports.length)
  const weighted = (words: readonly string[], n: number): Counts => {
    const counts = countNgrams(words, n)
    for (const [ngram, times] of counts) {
      counts.set(ngram, times * (all - Math.log(Math.max(1, frequency.get(ngram) ?? 0))))
    }
    return counts
  }
  return reports.map(({ reference, candidate }) => {
    // The captioning code takes the number of bigrams for the length.
    const difference = Math.max(0, candidate.length - 1) - Math.max(0, reference.length - 1)
    const penalty = Math.exp(-(difference ** 2) / (2 * 6 ** 2))
    const similar = orders.map((n) => clippedCosine(weighted(candidate, n), weighted(reference, n)))
    return (10 * penalty * similar.reduce((sum, value) => sum + value, 0)) / orders.length
  })
}

function clippedCosine(candidate: Counts, reference: Counts): number {
  const norm = (counts: Counts): number => Math.sqrt([...counts.values()].reduce((sum, value) => sum + value ** 2, 0))
  let product = 0
  for (const [ngram, value] of candidate) {
    const said = reference.get(ngram) ?? 0
    product += Math.min(value, said) * said
  }
  const norms = norm(candidate) * norm(reference)
  return norms === 0 ? 0 : product / norms
}

/** The n-grams of a text; words cannot hold a space. */
function countNgrams(words: readonly string[], n: number): Counts {
  const counts: Counts = new Map()
  for (let i = 0; i + n <= words.length; i++) {
    const ngram = words.slice(i, i + n).join(' ')
    counts.set(ngram, (counts.get(ngram) ?? 0) + 1)
  }
  return counts
}
