/** report.html of a pipeline, while it runs and after. */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseHTML } from 'linkedom'
import { beforeEach, describe, expect, it } from 'vitest'
import { type PlannedStage, runPipeline } from '../../src/pipeline/index.js'
import type { StageContext } from '../../src/stage/index.js'
import { temporaryFolder } from '../fakes/world.js'

let root: string
let letters: number
let during: (name: string, context: StageContext) => Promise<boolean>

beforeEach(async () => {
  root = await temporaryFolder()
  letters = 1
  during = async () => false
})

function stage(name: string, file = `${name}.out`): PlannedStage {
  const out = join(root, file)
  return {
    ...{ name, folder: join(root, name), inputs: [], given: [], expects: [], reads: [] },
    ...{ identity: { letters }, outputs: [out], traces: [out], makes: {} },
    async run(context) {
      context.progress.start('', 40, 'letters')
      context.progress.update(10, 'half & half')
      if (await during(name, context)) return { interrupted: true, summary: 'so far' }
      await writeFile(out, `${name} ${letters}`)
      return { interrupted: false, summary: `${name} is <done>` }
    },
  }
}

const run = (stages = [stage('one'), stage('two')], signal?: AbortSignal) =>
  runPipeline({ output: root, stages }, { signal })

const pageOf = () => readFile(join(root, 'report.html'), 'utf8')

const keptOf = async (): Promise<string[]> => (await readdir(join(root, 'earlier')).catch(() => [])).sort()

/** Name, state and text of each stage. */
function rowsOf(page: string): (string | null)[][] {
  const rows = [...parseHTML(page).document.querySelectorAll('.pipeline-stages tbody tr')]
  return rows
    .map((row) => [...row.querySelectorAll('td')].map((cell) => cell.textContent))
    .map(([a, b, , c]) => [a, b, c])
}

describe('the page of a pipeline', () => {
  it('shows where the stages stand while they run, and what they came to', async () => {
    let meanwhile = ''
    during = async (name) => {
      if (name === 'two') meanwhile = await pageOf()
      return false
    }
    await run()
    expect(meanwhile).toContain('http-equiv="refresh"')
    expect(rowsOf(meanwhile)).toEqual([
      ['one', 'done', 'one is <done>'],
      ['two', 'running', expect.any(String)],
    ])
    const page = await pageOf()
    expect(page).not.toContain('http-equiv="refresh"')
    expect(rowsOf(page).map(([, state]) => state)).toEqual(['done', 'done'])
    await run()
    expect(await pageOf()).toBe(page)
    expect(await keptOf()).toEqual([])
  })

  it('says what was stopped or failed, and is right when the run goes on', async () => {
    during = async (name) => name === 'two'
    await run()
    expect(rowsOf(await pageOf())).toEqual([
      ['one', 'done', 'one is <done>'],
      ['two', 'stopped', 'so far'],
    ])
    during = async (name) => {
      if (name === 'two') throw new Error('no <letters> left')
      return false
    }
    await expect(run()).rejects.toThrow('no <letters> left')
    expect(rowsOf(await pageOf())[1]).toEqual(['two', 'failed', 'no <letters> left'])
    during = async () => false
    await run()
    expect(rowsOf(await pageOf())).toEqual([
      ['one', 'unchanged', 'one is <done>'],
      ['two', 'done', 'two is <done>'],
    ])
    expect(await keptOf()).toEqual([])
  })

  it('leaves the file to a stage that writes it, and keeps what that wrote', async () => {
    const stages = () => [stage('one'), stage('report', 'report.html')]
    await run(stages())
    expect(await pageOf()).toBe('report 1')
    expect(await keptOf()).toEqual([])
    letters = 2
    during = async (name) => name === 'one'
    await run(stages())
    expect(rowsOf(await pageOf())[0][1]).toBe('stopped')
    during = async () => false
    await run(stages())
    expect(await pageOf()).toBe('report 2')
    const kept = (await keptOf()).filter((name) => name.startsWith('report-'))
    expect(kept).toHaveLength(1)
    expect(await readFile(join(root, 'earlier', kept[0], 'report.html'), 'utf8')).toBe('report 1')
  })

  it('replaces no page of somebody else', async () => {
    await writeFile(join(root, 'report.html'), 'mine')
    await run()
    expect(rowsOf(await pageOf())).toHaveLength(2)
    expect(await readFile(join(root, 'earlier', 'report-unknown', 'report.html'), 'utf8')).toBe('mine')
  })
})
