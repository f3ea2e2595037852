/** Commands killed at random moments, and two at once on one output: the files at the end are those of an undisturbed run. */
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { type Outcome, runCommand, startCommand } from '../command.js'
import { temporaryFolder } from '../fakes/world.js'
import { drawsOf, pick, rounds, timeFor } from './campaign.js'

const model = fileURLToPath(new URL('../../models/phantom', import.meta.url))

/** In the order in which each uses what those before it made. */
const names = ['import', 'sample', 'pairs', 'corrupt', 'train', 'merge', 'evaluate', 'report', 'run'] as const
type Name = (typeof names)[number]

let root: string
let commands: Record<Name, { args: string[]; out: string }>
/** What an undisturbed run of each took, in ms, and left. */
const undisturbed = {} as Record<Name, { ms: number; files: Record<string, string> }>

beforeAll(async () => {
  root = await temporaryFolder()
  const at = (...parts: string[]): string => join(root, ...parts)
  const made = (name: Name, ...parts: string[]): string => at('made', name, ...parts)
  const out = (name: Name, ...parts: string[]): string => at('out', name, ...parts)
  const studies = { trainStudies: 4, testStudies: 4 }
  const asked = { maxNewTokens: 16, batchSize: 4 }
  const train = { preset: 'phantom', epochs: 1, batchSize: 4, microBatchSize: 4, checkpoint: { every: 1, keep: 2 } }
  const data = { train: made('corrupt', 'pairs.jsonl') }
  await writeFile(at('train.json'), JSON.stringify({ ...train, model, data, output: out('train') }))
  const sections = {
    import: { kind: 'phantom', ...studies },
    sample: { split: 'train', temperature: 1, ...asked },
    pairs: { provider: 'phantom' },
    corrupt: {},
    train,
    evaluate: { split: 'test', truth: 'phantom', ...asked, attentionQuestions: 2 },
    report: {},
  }
  await writeFile(at('run.json'), JSON.stringify({ output: out('run'), model, seed: 0, ...sections }))
  const flags = (values: object): string[] =>
    Object.entries(values).flatMap(([key, value]) => [
      `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`,
      `${value}`,
    ])
  const samples = made('import', 'samples.jsonl')
  const adapter = made('train', 'adapter')
  const simple: Record<Name, string[]> = {
    import: ['phantom', '--overwrite', ...flags({ ...studies, out: out('import') })],
    sample: flags({ model, samples, ...sections.sample, out: out('sample', 'responses.jsonl') }),
    pairs: flags({
      samples,
      responses: made('sample', 'responses.jsonl'),
      provider: 'phantom',
      out: out('pairs', 'pairs.jsonl'),
    }),
    corrupt: flags({
      pairs: made('pairs', 'pairs.jsonl'),
      masks: made('import', 'masks.jsonl'),
      out: out('corrupt'),
    }),
    train: [at('train.json'), '--resume'],
    merge: [model, adapter, '--overwrite', ...flags({ out: out('merge') })],
    evaluate: flags({ model, adapter, samples, ...sections.evaluate, out: out('evaluate') }),
    report: flags({ evaluation: made('evaluate'), out: out('report', 'page.html') }),
    run: [at('run.json')],
  }
  commands = Object.fromEntries(
    names.map((name) => [name, { args: [name, ...simple[name]], out: out(name) }]),
  ) as typeof commands
  await mkdir(at('made'))
  for (const name of names) {
    const started = performance.now()
    await finish(name)
    undisturbed[name] = { ms: performance.now() - started, files: await filesOf(commands[name].out) }
    await rename(commands[name].out, made(name))
  }
}, timeFor(120_000))

afterEach(() => rm(join(root, 'out'), { recursive: true, force: true }))

async function finish(name: Name): Promise<void> {
  const { code, stderr } = await runCommand(commands[name].args)
  expect(code, `${name}: ${stderr}`).toBe(0)
}

/** Wall time, memory, dates and what they decide; where a run began again. */
const varying =
  /"(made|seconds|finished|peakHostBytes|resumedFrom|checkpoint|metricsBytes|last|tokens_per_second|pairs_per_second|data_time|engine_time|peak_host_bytes|wall_time|mark|outputs|inputs|sha256)": ?("[^"]*"|\[[^\]]*\]|\{[^}]*\}|[^,}\n]*)/g

/** Every file below a folder, by its path; of records and reports what does not vary. */
async function filesOf(folder: string): Promise<Record<string, string>> {
  const files: Record<string, string> = {}
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const path = join(entry.parentPath, entry.name)
    const name = path.slice(folder.length + 1)
    const bytes = await readFile(path)
    const varies = /(^|\/)(train|trainer|pipeline|evaluation)\.json$|metrics\.jsonl$/.test(name)
    // Named by the time of the start, and full of times; test/train holds its content against metrics.jsonl.
    if (name.includes('tfevents')) files[name.replace(/\d+\.\d+/, '')] = 'events'
    // A page tells times in its own words.
    else if (name.endsWith('.html')) files[name] = bytes.toString('utf8').endsWith('</html>\n') ? 'whole' : 'cut'
    // A run that was stopped after its last step has nothing left to do, and tells no loss (`TrainReport.last`).
    else if (varies)
      files[name] = bytes
        .toString('utf8')
        .replace(varying, '"$1"')
        .replace(/( steps), loss [\d.]+/, '$1')
    else files[name] = bytes.toString('base64')
  }
  return files
}

async function expectUndisturbed(name: Name, about: string): Promise<void> {
  const files = await filesOf(commands[name].out)
  const expected = undisturbed[name].files
  expect(Object.keys(files).sort(), about).toEqual(Object.keys(expected).sort())
  for (const [path, content] of Object.entries(expected))
    if (files[path] !== content) expect(files[path], `${about}: ${path}`).toEqual(content)
  const beside = (await readdir(join(root, 'out'))).filter((entry) => entry !== name)
  expect(beside, about).toEqual([])
}

/** Codes of a command that a signal ended: of its own accord, or before it listened. */
const ends: [NodeJS.Signals, number][] = [
  ['SIGKILL', -1],
  ['SIGKILL', -1],
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
]

const seeds = Array.from({ length: rounds(2, 120) }, (_, round) => round)

describe('a killed command', () => {
  it.each(seeds)('ends with the files of an undisturbed run, seed %i', { timeout: timeFor(60_000) }, async (seed) => {
    const draws = drawsOf('kills', seed)
    const name = pick(draws, names)
    const { args } = commands[name]
    const blows: string[] = []
    for (let blow = draws.integers(1, 1, 4)[0]; blow > 0; blow -= 1) {
      const [signal, code] = pick(draws, ends)
      const { child, done } = startCommand(args)
      const after = draws.integers(1, 0, Math.ceil(undisturbed[name].ms * 1.1))[0]
      await Promise.race([setTimeout(after), done])
      child.kill(signal)
      const ended = await done
      blows.push(`${signal} after ${after} ms: ${ended.code ?? ended.signal}`)
      const about = `${name}, ${blows.join(', ')}: ${ended.stderr}`
      if (ended.code !== null) expect([0, code], about).toContain(ended.code)
      if (ended.code !== null)
        expect((await readdir(join(root, 'out'), { recursive: true }).catch(() => [])).filter(isLock), about).toEqual(
          [],
        )
    }
    await finish(name)
    await expectUndisturbed(name, `${name}, ${blows.join(', ')}`)
  })
})

const isLock = (path: string): boolean => path.endsWith('.fire-train.lock')

describe('two commands on one output', () => {
  // The short campaign takes every third.
  it.each(names.filter((_, index) => (index + 1) % rounds(3, 1) === 0))(
    'never mix: %s',
    { timeout: timeFor(60_000) },
    async (name) => {
      const draws = drawsOf('pairs of commands', names.indexOf(name))
      for (let round = 0; round < rounds(1, 5); round += 1) {
        const { args, out } = commands[name]
        const first = startCommand(args)
        await setTimeout(draws.integers(1, 0, Math.ceil(undisturbed[name].ms * 0.5))[0])
        const both: Outcome[] = await Promise.all([first.done, runCommand(args)])
        const about = both.map(({ code, stderr }) => `${code}: ${stderr}`).join('\n')
        expect(both.filter(({ code }) => code === 0).length, about).toBeGreaterThan(0)
        for (const { code, stderr } of both)
          if (code !== 0) expect(stderr).toMatch(/error ERR_FIRE_LOCKED: .* process \d+/)
        await expectUndisturbed(name, `${name} twice`)
        await rm(out, { recursive: true })
      }
    },
  )
})

describe('a batch system', () => {
  it('stops a run by SIGUSR1, without a debugger', { timeout: timeFor(60_000) }, async () => {
    const { args, out } = commands.train
    const { child, done } = startCommand(args, {
      onStderr: (text, kill) => void (text.includes('steps') && kill('SIGUSR1')),
    })
    const { code, stderr } = await done
    expect(child.signalCode).toBe(null)
    expect(code, stderr).toBe(138)
    expect(stderr).toMatch(/SIGUSR1: saving and stopping/)
    expect(stderr).not.toMatch(/[Dd]ebugger/)
    expect(existsSync(join(out, '.fire-train.lock'))).toBe(false)
    await finish('train')
    await expectUndisturbed('train', 'SIGUSR1')
  })
})
