import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { loadPairs } from '../../src/data/pairs.js'
import { type Outcome, startCommand } from '../command.js'
import { FakeEndpoint } from './endpoint-server.js'
import { makeTask, manyTasks, writeTasks } from './records.js'

/** Runs the built command; `killAfter` ends it with SIGKILL after so many milliseconds. */
function firePairs(args: string[], killAfter?: number): Promise<Outcome> {
  const { child, done } = startCommand(['pairs', ...args], { env: { OPENAI_API_KEY: 'secret-key' } })
  const timer = killAfter === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), killAfter)
  return done.finally(() => clearTimeout(timer))
}

const outputs = ['pairs.jsonl', 'rejected.jsonl', 'pairs.report.json']
const readOutputs = (folder: string) => Promise.all(outputs.map((name) => readFile(join(folder, name), 'utf8')))

describe('fire-train pairs', () => {
  it('works offline: every answer becomes a pair or a rejection, and the pairs load', async () => {
    const tasks = manyTasks(40)
    const { folder, samples, responses } = await writeTasks([
      ...tasks,
      tasks[0],
      makeTask('Why?', 'Because', 'So.', { id: 'z' }),
    ])
    const out = join(folder, 'made', 'pairs.jsonl')
    const { code, stdout } = await firePairs(['--samples', samples, '--responses', responses, '--out', out])
    expect(code).toBe(0)
    const { pairs, counts } = await loadPairs(out, { emptyPhrase: 'error', checkImages: false })
    const rejected = (await readFile(join(folder, 'made', 'rejected.jsonl'), 'utf8'))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect(counts.kept).toBe(40)
    expect(counts.kept + rejected.length).toBe(42)
    expect(rejected.map(({ reason }) => reason).sort()).toEqual(['duplicate', 'undecided'])
    expect(pairs[0].images[0].path).toBe('../images/a.png')
    expect(stdout).toContain('40 pairs from 42 answers (95.2 %)')
    const report = JSON.parse(await readFile(join(folder, 'made', 'pairs.report.json'), 'utf8'))
    expect(report.statistics).toMatchObject({ answers: 42, pairs: 40, byRejection: { duplicate: 1, undecided: 1 } })
    expect(report.style.longerIsChosen).toBeGreaterThan(0.3)
  })

  it.each([
    [['--endpoint', 'http://127.0.0.1:9/v1'], '--endpoint-model is missing', 2],
    [['--endpoint', 'ftp://x', '--endpoint-model', 'm'], 'ERR_FIRE_CONFIG', 2],
    [
      ['--endpoint', 'http://127.0.0.1:9/v1', '--endpoint-model', 'm', '--endpoint-concurrency', '0'],
      'Expected a number > 0 for --endpoint-concurrency',
      2,
    ],
  ])('refuses %j', async (extra, code, exit) => {
    const { samples, responses, folder } = await writeTasks(manyTasks(1))
    const args = ['--samples', samples, '--responses', responses, '--out', join(folder, 'pairs.jsonl'), ...extra]
    const outcome = await firePairs(args)
    expect(outcome.stderr).toContain(code)
    expect(outcome.code).toBe(exit)
  })

  it('names the line of a response that belongs to no sample', async () => {
    const { samples, folder } = await writeTasks(manyTasks(1))
    const other = await writeTasks(manyTasks(2))
    const outcome = await firePairs([
      '--samples',
      samples,
      '--responses',
      other.responses,
      '--out',
      join(folder, 'p.jsonl'),
    ])
    expect(outcome.stderr).toContain('responses.jsonl:2: record s1')
    expect(await readdir(folder)).toEqual(['responses.jsonl', 'samples.jsonl'])
  })
})

describe('fire-train pairs with an endpoint', () => {
  let server: FakeEndpoint
  beforeEach(async () => {
    server = await FakeEndpoint.start()
    server.delayMs = 5
  })
  afterEach(() => server.stop())

  it('goes on after kill -9 at any moment: the same bytes, and nothing in the cache is paid for again', async () => {
    const files = await writeTasks(manyTasks(48))
    const args = (out: string) => [
      ...['--samples', files.samples, '--responses', files.responses, '--out', join(files.folder, out, 'pairs.jsonl')],
      ...['--endpoint', server.url, '--endpoint-model', 'm', '--endpoint-retry-delay', '0.001'],
      ...['--judge', server.url, '--judge-model', 'm', '--judge-retry-delay', '0.001'],
    ]
    // Every seventh request fails in one way or another.
    server.fault = (response, _asked, number) => {
      if (number % 7 !== 0) return false
      if (number % 3 === 0) response.writeHead(429, { 'retry-after': '0' }).end()
      else if (number % 3 === 1) response.writeHead(200).end('<html>')
      else response.destroy()
      return true
    }
    const whole = await firePairs(args('whole'))
    expect(whole.code, whole.stderr).toBe(0)
    const expected = await readOutputs(join(files.folder, 'whole'))
    const distinct = new Set(server.paid).size
    expect(server.paid).toHaveLength(distinct)

    server.paid = []
    const stored = async () => {
      const names = await readdir(join(files.folder, 'cut', 'pairs.jsonl.cache')).catch(() => [])
      return names.filter((name) => name.endsWith('.json') && !name.startsWith('.')).length
    }
    let kills = 0
    let done = 0
    for (let wait = 400; wait < 30_000; wait += 130) {
      const before = await stored()
      const { signal, code } = await firePairs(args('cut'), wait)
      if (signal === null) {
        expect(code).toBe(0)
        break
      }
      kills++
      const now = await stored()
      expect(now).toBeGreaterThanOrEqual(before)
      done = now
    }
    expect(kills).toBeGreaterThan(0)
    expect(done).toBeGreaterThan(0)
    expect(await readOutputs(join(files.folder, 'cut'))).toEqual(expected)
    // Only what was under way when a process died can be asked again.
    expect(server.paid.length).toBeLessThanOrEqual(distinct + 4 * 2 * kills)
    expect(new Set(server.paid).size).toBe(distinct)

    server.paid = []
    const again = await firePairs(args('cut'))
    expect(server.paid).toEqual([])
    expect(again.stdout).toContain('(0 of them now)')
    expect(JSON.stringify(await readOutputs(join(files.folder, 'cut')))).not.toContain('secret-key')
  }, 120_000)

  it('says with its exit code that answers were left out, and takes them up again', async () => {
    const files = await writeTasks(manyTasks(12))
    const args = [
      ...['--samples', files.samples, '--responses', files.responses, '--out', join(files.folder, 'pairs.jsonl')],
      ...['--endpoint', server.url, '--endpoint-model', 'm', '--endpoint-price-in', '10', '--endpoint-price-out', '10'],
    ]
    const poor = await firePairs([...args, '--endpoint-budget', '0.05', '--endpoint-concurrency', '1'])
    expect(poor.code).toBe(1)
    const report = JSON.parse((await readOutputs(files.folder))[2])
    expect(report.usage.cost).toBeLessThanOrEqual(0.05)
    expect(report.statistics.byRejection.budget).toBeGreaterThan(0)
    expect(report.statistics.pairs).toBeGreaterThan(0)
    const paid = server.paid.length
    const rich = await firePairs([...args, '--endpoint-budget', '5'])
    expect(rich.code, rich.stderr).toBe(0)
    expect(new Set(server.paid).size).toBe(server.paid.length)
    expect(server.paid.length).toBeGreaterThan(paid)
  })
})
