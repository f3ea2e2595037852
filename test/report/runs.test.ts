import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseHTML } from 'linkedom'
import { beforeAll, describe, expect, it } from 'vitest'
import { run as runCli } from '../../src/cli/run.js'
import { renderRuns } from '../../src/report/runs/page.js'
import { namesOf, readRuns } from '../../src/report/runs/read.js'
import { temporaryFolder } from '../fakes/world.js'

let root: string

/** A folder as a run of 20 steps leaves it; a pipeline's has it one deeper. */
async function writeRun(name: string, settings: string, change: number, complete = true): Promise<string> {
  const folder = join(root, name)
  await mkdir(folder, { recursive: true })
  const rows = Array.from({ length: 20 }, (_, index) => ({
    ...{
      step: index + 1,
      epoch: 1,
      loss: 1 + change * index,
      'rewards/margins': -index,
      engine_time: 2,
      data_time: 0.5,
    },
    ...{ tokens_per_second: 100, peak_host_bytes: 2 ** 30 },
  }))
  const held = { step: 20, eval_loss: 0.25 + change }
  await writeFile(join(folder, 'metrics.jsonl'), [...rows, held].map((row) => `${JSON.stringify(row)}\n`).join(''))
  await writeFile(join(folder, 'config.resolved.yaml'), settings)
  if (complete) await writeFile(join(folder, 'train.json'), '{}')
  return folder
}

beforeAll(async () => {
  root = await temporaryFolder()
  await writeRun('first', 'output: /a\nseed: 1\noptimizer:\n  lr: 1e-5\n  beta1: 0.9\ngone: <b>\n', -0.01)
  await writeRun('second/train', 'output: /b\nseed: 1\noptimizer:\n  lr: 2e-5\n  beta1: 0.9\n', 0.01, false)
})

const tablesOf = (page: string) =>
  [...parseHTML(page).document.querySelectorAll('table')].map((table) =>
    [...table.querySelectorAll('tr')].map((line) =>
      [...line.querySelectorAll('th, td')].map((cell) => cell.textContent),
    ),
  )

describe('report of several runs', () => {
  it('shows final numbers, the settings that differ and every curve once', async () => {
    const runs = await readRuns([join(root, 'first'), join(root, 'second')])
    const page = renderRuns('two <runs>', [], runs)
    const [numbers, settings] = tablesOf(page)
    expect(numbers).toEqual([
      ...[
        ['run', 'steps', 'loss', 'margin', 'tokens a second', 'time of the steps', 'peak memory, MiB', 'held-out loss'],
      ],
      ['first', '20', '0.815', '−18.5', '100', '50.0 s', '1024', '0.24'],
      ['second', '20not complete', '1.185', '−18.5', '100', '50.0 s', '1024', '0.26'],
    ])
    expect(settings).toEqual([
      ['setting', 'first', 'second'],
      ['optimizer.lr', '0.00001', '0.00002'],
      ['gone', '<b>', '–'],
    ])
    const { document } = parseHTML(page)
    expect([...document.querySelectorAll('h3')].map((title) => title.textContent)).toEqual([
      ...['Loss', 'Margins', 'Time of a step: engine', 'Time of a step: waiting for images', 'Held-out pairs: loss'],
    ])
    const [loss] = document.querySelectorAll('figure .wide svg')
    expect(loss.innerHTML).toContain('var(--run-1)')
    expect(loss.innerHTML).toContain('var(--run-2)')
    expect(page).not.toContain('<runs>')
    expect(page).not.toMatch(/NaN|undefined</)
  })

  it('takes a pipeline with rounds for a run a round, and tells settings apart that change no result', async () => {
    for (const round of [1, 2, 10]) {
      await writeRun(`several/round-${round}/train`, `seed: ${round}\nthreads: ${round}\n`, 0)
    }
    await mkdir(join(root, 'several', 'round-11'))
    const runs = await readRuns([join(root, 'several')])
    expect(runs.map(({ name }) => name)).toEqual(['round-1', 'round-2', 'round-10'])
    const page = renderRuns('rounds', [], runs)
    const [, decisive, others] = tablesOf(page)
    expect(decisive.slice(1)).toEqual([['seed', '1', '2', '10']])
    expect(others.slice(1)).toEqual([['threads', '1', '2', '10']])
    expect(page).toContain('Others, which change no result:')
  })

  it('says so when the settings are the same', async () => {
    const again = await writeRun('again', await readFile(join(root, 'first', 'config.resolved.yaml'), 'utf8'), 0)
    const page = renderRuns('same', [], await readRuns([join(root, 'first'), again]))
    expect(page).toContain('None: the settings of these 2 runs are the same.')
  })

  it('tells the lines of many runs apart', async () => {
    const [run] = await readRuns([join(root, 'first')])
    const page = renderRuns(
      'many',
      [],
      Array.from({ length: 10 }, (_, index) => ({ ...run, name: `run ${index}` })),
    )
    const keys = [...parseHTML(page).document.querySelectorAll('.legend line')]
    const looks = keys.map((key) => `${key.getAttribute('stroke')} ${key.getAttribute('stroke-dasharray')}`)
    expect(new Set(looks).size).toBe(10)
  })

  it('names runs by what tells them apart', () => {
    expect(namesOf(['/a/x', '/a/y'])).toEqual(['x', 'y'])
    expect(namesOf(['/a/x/train', '/a/y/train'])).toEqual(['x/train', 'y/train'])
    expect(namesOf(['/a/x', '/a/x'])).toEqual(['x', 'x'])
    expect(namesOf(['/a', '/a/b'])).toEqual(['a', 'a/b'])
  })

  it('is a command', async () => {
    const [out, said] = [join(root, 'both.html'), { stdout: '', stderr: '' }]
    const io = {
      stdout(text: string) {
        said.stdout += text
      },
      stderr(text: string) {
        said.stderr += text
      },
    }
    const runs = [join(root, 'first'), join(root, 'second')]
    expect(await runCli(['report', ...runs, '--out', out, '--quiet'], io)).toBe(0)
    expect(said.stdout).toBe(`${out}: 2 runs\n`)
    expect(await readFile(out, 'utf8')).toContain('<h1>fire-train: 2 runs</h1>')
    const metrics = join(root, 'first', 'metrics.jsonl')
    const before = await readFile(metrics, 'utf8')
    expect(await runCli(['report', ...runs, '--out', metrics, '--quiet'], io)).toBe(2)
    expect(said.stderr).toContain('is there and is no page')
    expect(await readFile(metrics, 'utf8')).toBe(before)
    expect(await runCli(['report', ...runs, '--metrics', join(root, 'first', 'metrics.jsonl'), '--quiet'], io)).toBe(2)
    expect(said.stderr).toContain('has no place in a comparison of runs')
    expect(await runCli(['report', ...runs, '--rounds', root, '--quiet'], io)).toBe(2)
    expect(said.stderr).toContain('rounds has no place in a comparison of runs')
    said.stderr = ''
    expect(await runCli(['report', root, '--out', out, '--quiet'], io)).toBe(1)
    expect(said.stderr).toContain(`${root} is no training run: it has no metrics.jsonl`)
    said.stderr = ''
    expect(await runCli(['report', '--metrics', 'm.jsonl', '--quiet'], io)).toBe(2)
    expect(said.stderr).toContain('out')
    said.stderr = ''
    expect(await runCli(['report', '--quiet'], io)).toBe(2)
    expect(said.stderr).toContain('No run is named: give the folders of training runs')
  })
})
