/** What sampling leaves on disk. */

/** Where the questions without an answer go: `responses.failed.jsonl` beside `responses.jsonl`. */
export function failuresPath(out: string): string {
  return `${out.replace(/\.jsonl$/, '')}.failed.jsonl`
}

/** Answers, and what grows until they are complete. */
export const partPath = (out: string): string => `${out}.part`

/** Everything that runs leave at `out`, finished or cut off. */
export const sampleTraces = (out: string): string[] => [out, partPath(out), failuresPath(out)]
