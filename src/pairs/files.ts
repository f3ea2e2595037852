/** Where the making of pairs writes. */

export interface PairFiles {
  pairs: string
  rejected: string
  report: string
}

/** `pairs.jsonl` gets `rejected.jsonl` and `pairs.report.json`; any other stem is put before them. */
export function outputFiles(out: string): PairFiles {
  const stem = out.replace(/\.jsonl$/, '')
  const isPlain = /(^|[\\/])pairs$/.test(stem)
  return {
    pairs: out,
    rejected: isPlain ? `${stem.slice(0, -'pairs'.length)}rejected.jsonl` : `${stem}.rejected.jsonl`,
    report: `${stem}.report.json`,
  }
}
