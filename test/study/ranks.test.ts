/** A study by ranks: each step is one rank's, and rank 0 joins the results. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { type Progress, silent } from '../../src/stage/index.js'
import { loadStudy } from '../../src/study/load.js'
import { runStudy } from '../../src/study/study.js'
import { allRanks, onRanks } from '../fakes/ranks.js'
import { temporaryFolder } from '../fakes/world.js'
import { writeStudy } from './small.js'

let file: string
let root: string

beforeAll(async () => {
  file = await writeStudy()
  root = await temporaryFolder()
  await runStudy(await loadStudy(file), join(root, 'one'))
}, 120_000)

async function resultsIn(name: string): Promise<Record<string, string>> {
  const out = join(root, name)
  const tables = (await readdir(join(out, 'tables'))).map((each) => join('tables', each))
  const names = ['study.json', 'report.html', 'objectives.html', ...tables]
  return Object.fromEntries(
    await Promise.all(names.map(async (each) => [each, await readFile(join(out, each), 'utf8')] as const)),
  )
}

const counting = (begun: string[]): Progress => ({ ...silent, start: (title) => void begun.push(title.split(':')[0]) })

describe('runStudy by ranks', () => {
  it('gives each step to one of them', { timeout: 120_000 }, async () => {
    const begun: string[][] = [[], []]
    const study = await loadStudy(file)
    const outcomes = await allRanks(2, (ranks) =>
      runStudy(study, join(root, 'two'), { ranks, progress: counting(begun[ranks.rank]) }),
    )
    expect(await resultsIn('two')).toEqual(await resultsIn('one'))
    expect(outcomes[1]).toEqual(JSON.parse(JSON.stringify(outcomes[0])))
    const [first, second] = begun.map((each) => new Set(each))
    expect(second.size).toBeGreaterThan(0)
    expect([...first].filter((name) => second.has(name))).toEqual([])
  })

  it('goes on with another number after a stop of one', { timeout: 120_000 }, async () => {
    const study = await loadStudy(file)
    const stop = new AbortController()
    const progress: Progress = { ...silent, end: () => stop.abort() } // the first that ends anything, so that much is left
    const stopped = await onRanks(3, (ranks) =>
      runStudy(study, join(root, 'three'), { ranks, signal: stop.signal, progress }),
    )
    for (const each of stopped) expect(each).toMatchObject({ status: 'fulfilled', value: { interrupted: true } })
    await allRanks(2, (ranks) => runStudy(study, join(root, 'three'), { ranks }))
    expect(await resultsIn('three')).toEqual(await resultsIn('one'))
  })
})
