/**
 * Sources of imports, mutated: every record is taken over unchanged, taken over with a counted note, or left out with a
 * counted reason; or the whole source is refused in words. Nothing crashes, hangs, or is lost behind a 0.
 */
import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { FireError, InternalError } from '../../src/errors.js'
import { type Imported, runImport, sourceOf } from '../import/support.js'
import { drawsOf, rounds, timeFor } from './campaign.js'
import { type Form, forms, type Source } from './import-forms.js'
import { many, mutate, raw } from './import-mutations.js'

/** Every text that a record of the output has. */
const textsOf = (record: object): unknown[] => {
  const { question, answer, prompt, chosen, rejected } = record as Source
  return [question, answer, prompt, chosen, rejected]
}

function account(form: Form, records: Source[] | undefined, { report, samples, pairs }: Imported): void {
  const written = Math.max(samples.length, pairs.length)
  expect(written + report.problems.length).toBe(report.read)
  expect(Object.values(report.leftOut).reduce((sum, count) => sum + (count ?? 0), 0)).toBe(report.problems.length)
  for (const { message, file } of report.problems) expect([message.length < 600, file !== '']).toEqual([true, true])
  const out = samples.length > 0 ? samples : pairs
  expect(new Set(out.map(({ id }) => id)).size).toBe(out.length)
  if (records === undefined) {
    // Nobody knows what damaged bytes mean; what is missing must not be missing in silence.
    const marks = Array.from({ length: many }, (_, index) => `m${index}.`)
    const gone = marks.filter((mark) => !out.some((record) => JSON.stringify(record).includes(mark)))
    if (gone.length > 0) expect(report.problems.length + report.notes.length).toBeGreaterThan(0)
    return
  }
  expect(report.read).toBe(records.length)
  for (const record of out) {
    const mark = /\bm(\d)\./.exec(JSON.stringify(textsOf(record)))
    const source = records.find((each) => mark && JSON.stringify(each).includes(mark[0]))
    for (const key of source ? form.texts : []) {
      // Files other than JSON cannot hold half of a character.
      const said = typeof source?.[key] === 'string' ? Buffer.from(source[key]).toString() : undefined
      if (said !== undefined && ![said, source?.[key]].some((each) => textsOf(record).includes(each)))
        expect(report.notes, said.slice(0, 80)).not.toEqual([])
    }
  }
}

describe('imports of mutated sources', () => {
  const count = rounds(60, 900)
  it(
    `accounts for every record in ${count} rounds`,
    async () => {
      const tally = { refused: 0, imported: 0 }
      for (let round = 0; round < count; round += 1) {
        const draws = drawsOf('imports', round)
        const form = forms[round % forms.length]
        const { what, records, files, damage } = mutate(form, draws)
        const place = `round ${round}: ${form.kind}, ${what}`
        const source = await sourceOf({
          'a.png': 1,
          'b.png': 2,
          'imgs/x/source.png': 3,
          ...(typeof files === 'function' ? {} : contents(files, damage)),
        })
        if (typeof files === 'function') {
          files(source)
          if (damage) await damageParquet(source, damage)
        }
        const started = performance.now()
        const out = join(source, 'out')
        const done = await runImport({ kind: form.kind, source, out }).catch((error) => error)
        expect(performance.now() - started, place).toBeLessThan(60_000)
        if (done instanceof Error) {
          tally.refused += 1
          expect(done, `${place}: ${done.stack}`).toBeInstanceOf(FireError)
          expect(done, place).not.toBeInstanceOf(InternalError)
          expect(existsSync(out), place).toBe(false)
          if (records) expect(done.message, place).toMatch(/layout|looks like|splits|not valid|twice/)
        } else {
          tally.imported += 1
          try {
            account(form, records, done)
          } catch (error) {
            throw new Error(`${place}: ${(error as Error).message}\n${JSON.stringify(done.report).slice(0, 3000)}`, {
              cause: error,
            })
          }
        }
      }
      console.log(JSON.stringify(tally))
      expect(process.resourceUsage().maxRSS).toBeLessThan(1_000_000)
      expect(tally.imported).toBeGreaterThan(count / 2)
    },
    timeFor(60_000),
  )
})

function contents(
  files: Record<string, string | object>,
  damage: ((bytes: Buffer) => Buffer) | undefined,
): Record<string, string | object> {
  return Object.fromEntries(
    Object.entries(files).map(([name, content], index) => {
      const written = raw(String(content))
      return [name, damage && index === 0 ? damage(Buffer.from(written)) : written]
    }),
  )
}

async function damageParquet(folder: string, damage: (bytes: Buffer) => Buffer): Promise<void> {
  const path = join(folder, 'train.parquet')
  await writeFile(path, damage(await readFile(path)))
}
