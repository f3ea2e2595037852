/** The built command in processes of its own: limits, signals, what people read. */
import { once } from 'node:events'
import { createWriteStream, existsSync } from 'node:fs'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { finished } from 'node:stream/promises'
import { setTimeout } from 'node:timers/promises'
import { beforeAll, describe, expect, it } from 'vitest'
import { importKinds } from '../../src/import/index.js'
import { startCommand } from '../command.js'
import { temporaryFolder } from '../fakes/world.js'
import { fixtures, sourceOf } from './support.js'

const start = (args: string[], nodeOptions: string[] = []) => startCommand(['import', ...args], { nodeOptions })

const many = 200_000
let folder: string
let large: string

/** A JSON list on one line, larger than the heap it will be read with; every hundredth record has a duplicate id. */
async function writeLarge(path: string): Promise<void> {
  const file = createWriteStream(path)
  const question = `Is there an effusion? ${'.'.repeat(400)}`
  for (let first = 0; first < many; first += 1000) {
    const records = Array.from({ length: 1000 }, (_, at) => {
      const id = `q${at % 100 === 99 ? first : first + at}`
      return JSON.stringify({ id, image: `scan${(first + at) % 70}.png`, question, answer: at % 2 ? 'yes' : 'no' })
    })
    const text = `${first === 0 ? '[' : ','}${records.join(',')}`
    if (!file.write(text)) await once(file, 'drain')
  }
  file.end(']')
  await finished(file)
}

beforeAll(async () => {
  folder = await temporaryFolder()
  large = join(folder, 'large.json')
  await writeLarge(large)
})

describe('fire-train import', () => {
  it('reads a file larger than its heap', async () => {
    const heap = 72
    expect((await stat(large)).size).toBeGreaterThan(heap * 1.2 * 2 ** 20)
    const out = join(folder, 'bounded')
    const args = ['jsonl', large, '--out', out, '--allow-missing-images', '--split-by-image', '80/20']
    const { code, stderr } = await start(args, [`--max-old-space-size=${heap}`]).done
    expect(stderr).not.toMatch(/heap/)
    expect(code).toBe(0)
    const report = JSON.parse(await readFile(join(out, 'import.report.json'), 'utf8'))
    expect(report).toMatchObject({ read: many, samples: many - 2000, leftOut: { duplicate_id: 2000 } })
    expect(report.problems.length).toBe(2000)
    expect(report.problems[0]).toMatchObject({ index: 99, record: 'q0', line: 1 })
    expect(report.counts.train.records + report.counts.test.records).toBe(many - 2000)
  }, 180_000)

  it.each(['SIGKILL', 'SIGINT'] as const)(
    'leaves nothing under its name after %s, and starts over',
    async (signal) => {
      const out = join(folder, signal)
      const { child, done } = start(['jsonl', large, '--out', out, '--allow-missing-images'])
      const inWork = async () => (await readdir(folder)).find((name) => name.startsWith(`.tmp-${signal}-`))
      let spooling: string | undefined
      while (!spooling) {
        await setTimeout(5)
        const temporary = await inWork()
        const size = temporary ? await stat(join(folder, temporary, 'spool.jsonl')).catch(() => undefined) : undefined
        if (size && size.size > 0) spooling = temporary
      }
      child.kill(signal)
      expect((await done).code).toBe(signal === 'SIGKILL' ? null : 130)
      expect(existsSync(out)).toBe(false)
      expect(await inWork()).toBe(signal === 'SIGKILL' ? spooling : undefined)
      const again = await start(['slake', join(fixtures, 'slake'), '--out', out, '--allow-missing-images']).done
      expect(again.code).toBe(0)
      expect(await inWork()).toBeUndefined()
      expect(existsSync(join(out, 'import.report.json'))).toBe(true)
    },
    60_000,
  )

  it('prints counts, leakage, notes and what was left out', async () => {
    const out = join(folder, 'slake')
    const args = ['slake', join(fixtures, 'slake'), '--out', out, '--language', 'en', '--allow-missing-images']
    const { code, stdout } = await start(args).done
    expect(code).toBe(0)
    expect(stdout).toBe(`slake, layout splits: 10 records read, 9 samples and 0 pairs written
split       records  closed  open  images
----------  -------  ------  ----  ------
train             4       0     4       3
validation        1       1     0       1
test              4       1     3       3
closed by answer_type
images: 0 stored, 0 with the content of another, 7 missing or not readable
leakage: no image is in two splits
note: empty_answer 1 time, first at train.json:1
left out: 1 for language
folder: ${out} (import.report.json lists every record that was left out)
`)
  })

  it('fails with advice when no image was found, and still writes the report', async () => {
    const out = join(folder, 'none')
    const { code, stderr } = await start(['slake', join(fixtures, 'slake'), '--out', out]).done
    expect(code).toBe(1)
    expect(stderr).toMatch(/Not one of 10 records.*\n.*--images.*--allow-missing-images/)
    const report = JSON.parse(await readFile(join(out, 'import.report.json'), 'utf8'))
    expect(report).toMatchObject({ samples: 0, counts: {}, sourceCounts: { train: { records: 4 } } })
    expect(report.problems.length).toBe(10)
    const followed = await start(['slake', join(fixtures, 'slake'), '--out', out, '--allow-missing-images']).done
    expect(followed.code, followed.stderr).toBe(0)
  })

  it('offers every kind there is', async () => {
    const { stdout } = await start(['--help']).done
    const kinds = /What the source is \(([^;]*);/.exec(stdout.replace(/\s+/g, ' '))?.[1] ?? ''
    expect(kinds.split(', ')).toEqual(importKinds)
  })

  it('names file and place of what is damaged, and what to do', async () => {
    const source = await sourceOf({ 'own.json': '[{"question": "q", "answer": "a"}, {' })
    const { code, stderr } = await start(['jsonl', source, '--out', join(source, 'out')]).done
    expect(code).toBe(1)
    expect(stderr).toMatch(/error ERR_FIRE_DATA: .*own\.json:1: .*cut off.*\nhint: /)
    expect((await start(['mimic', source, '--out', 'x']).done).code).toBe(2)
  })
})
