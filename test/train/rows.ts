/** metrics.jsonl as a run repeats it. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

/** What of a row depends on the machine and the hour. */
const measured = /_per_second$|_time$|_runtime$|^peak_host_bytes$/

/** The rows of a run, without what no second run has. */
export async function repeatableRows({ output }: { output: string }): Promise<Record<string, number>[]> {
  const text = await readFile(join(output, 'metrics.jsonl'), 'utf8')
  const rows = text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, number>)
  return rows.map((row) => Object.fromEntries(Object.entries(row).filter(([key]) => !measured.test(key))))
}
