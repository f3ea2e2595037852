/** `import.report.json`: what was read, what came of it, and every record that did not come along. */
import { createReadStream } from 'node:fs'
import { open } from 'node:fs/promises'
import { fileError } from '../errors.js'
import type { Reason } from './draft.js'
import type { Leak, SplitCounts } from './tally.js'

export const reportName = 'import.report.json'

/** One record of the source that is not in the output. */
export interface Problem {
  file: string
  line: number
  /** Which of the file's records it is, from 0. */
  index: number
  record: string | null
  reason: Reason
  message: string
}

/** Something that was mended or is worth knowing; the records are in the output. */
export interface NoteCount {
  note: string
  count: number
  /** `file:line` of the first. */
  first: string
}

/** What import.report.json says: what was read, written, left out, and what splits share. */
export interface ImportReport {
  format: 1
  /** Version of the program. */
  fireTrain: string
  kind: string
  layout: string
  source: string
  files: { name: string; bytes: number; sha256: string }[]
  options: Record<string, unknown>
  closedRule: { asked: string /** Records without a word of the source, judged by `yes_no_exact`. */; fallback: number }
  /** Records of the source, those left out included. */
  read: number
  samples: number
  pairs: number
  /** Per split, of what was written. */
  counts: Record<string, SplitCounts>
  /** Per split of the source, before records were left out for their images and before any splitting. */
  sourceCounts: Record<string, SplitCounts>
  images: { stored: number; sameContent: number; missing: number; recordsWithout: number }
  /** Images that splits share, in what was written and in the source. */
  leakage: { written: Leak[]; source: Leak[] }
  notes: NoteCount[]
  leftOut: Partial<Record<Reason, number>>
}

/** Notes by kind, each with how often and where first. */
export class NoteBook {
  readonly #notes = new Map<string, NoteCount>()

  add(note: string, place: string): void {
    const known = this.#notes.get(note)
    if (known) known.count += 1
    else this.#notes.set(note, { note, count: 1, first: place })
  }

  list(): NoteCount[] {
    return [...this.#notes.values()].sort((a, b) => b.count - a.count)
  }
}

/** Writes the report with `problems`, a JSON Lines file, as its last and perhaps very long field. */
export async function writeReport(path: string, report: ImportReport, problems: string | undefined): Promise<void> {
  try {
    const file = await open(path, 'wx')
    try {
      await file.appendFile(`${JSON.stringify(report, null, 2).slice(0, -2)},\n  "problems": [`)
      if (problems !== undefined) {
        let separator = '\n    '
        let open = ''
        for await (const chunk of createReadStream(problems, 'utf8') as AsyncIterable<string>) {
          const lines = (open + chunk).split('\n')
          open = lines.pop() ?? ''
          if (lines.length === 0) continue
          await file.appendFile(separator + lines.join(',\n    '))
          separator = ',\n    '
        }
        await file.appendFile('\n  ')
      }
      await file.appendFile(']\n}\n')
    } finally {
      await file.close()
    }
  } catch (error) {
    throw fileError(error, 'Writing', path)
  }
}
