/** The runner on stages that write files: what is skipped, what runs again and why, stops and crashes. */
import { execFileSync } from 'node:child_process'
import { appendFile, mkdir, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import { ConfigError, DataError, DiskFullError, FileError, LockedError } from '../../src/errors.js'
import { Hashes } from '../../src/pipeline/hashes.js'
import { type PipelineReport, type PlannedStage, planPipeline, runPipeline } from '../../src/pipeline/index.js'
import type { StageContext } from '../../src/stage/index.js'
import { temporaryFolder } from '../fakes/world.js'

let root: string
let ran: string[]
let logged: string[]
let settings: Record<string, unknown>
let during: (name: string, context: StageContext) => Promise<boolean> | boolean

beforeEach(async () => {
  root = await temporaryFolder()
  ran = []
  settings = { one: 1, two: 2 }
  during = () => false
  await writeFile(join(root, 'source'), 'source')
})

const at = (name: string): string => join(root, name)

/** Copies its input, letters upper case where its setting is even. */
function copy(name: string, from: string): PlannedStage {
  const input = { setting: String(settings[`${name} from`] ?? 'from'), path: at(from) }
  return {
    name,
    folder: at(name),
    inputs: [input],
    given: [{ ...input, place: `p.yaml:${name}` }],
    expects: [],
    reads: [],
    identity: { letters: settings[name] },
    outputs: [at(`${name}.out`)],
    traces: [at(`${name}.out`)],
    makes: {},
    async run(context) {
      ran.push(context.resume ? `${name} resumed` : name)
      if (await during(name, context)) return { interrupted: true, summary: '' }
      const text = await readFile(at(from), 'utf8')
      const upper = (settings[name] as number) % 2 === 0
      await writeFile(at(`${name}.out`), upper ? text.toUpperCase() : text)
      return { interrupted: false, summary: `${text.length} letters` }
    },
  }
}

const plan = () => planPipeline({ output: root, stages: [copy('one', 'source'), copy('two', 'one.out')] })

async function run(signal?: AbortSignal): Promise<PipelineReport> {
  ran = []
  logged = []
  const progress = { start() {}, update() {}, end() {}, log: (line: string) => void logged.push(line) }
  const stages = [copy('one', 'source'), copy('two', 'one.out')]
  return runPipeline({ output: root, stages }, { signal, progress })
}

describe('what no stage makes', () => {
  it('is missed before the first stage runs, and in the plan, all of it at once', async () => {
    const stages = [copy('one', 'source'), copy('two', 'sorce'), copy('three', 'two.out'), copy('four', 'gone')]
    const lines = [`p.yaml:two: two.from is ${at('sorce')}, which is not there`]
    lines.push(`p.yaml:four: four.from is ${at('gone')}, which is not there`)
    ran = []
    for (const work of [() => runPipeline({ output: root, stages }), () => planPipeline({ output: root, stages })]) {
      await expect(work()).rejects.toThrow(
        expect.objectContaining({ code: new ConfigError('').code, message: lines.join('\n') }),
      )
    }
    expect(ran).toEqual([])
  })

  it('is looked into as soon as it is there: after the stage that makes it, before the next', async () => {
    const three = copy('three', 'one.out')
    const check = async (): Promise<void> => {
      throw new DataError('no split tset')
    }
    const stages = [
      copy('one', 'source'),
      copy('two', 'one.out'),
      { ...three, expects: [{ input: at('one.out'), check }] },
    ]
    ran = []
    expect(await planPipeline({ output: root, stages })).toHaveLength(3)
    await expect(runPipeline({ output: root, stages })).rejects.toThrow(/^Stage three: no split tset$/)
    expect(ran).toEqual(['one'])
    // What is there and stays is looked into by the plan too.
    await expect(planPipeline({ output: root, stages })).rejects.toThrow(/^Stage three: no split tset$/)
  })
})

describe('a signal', () => {
  it('does not hide an error that is no abort, such as a full disk', async () => {
    const stop = new AbortController()
    during = (name) => {
      if (name !== 'two') return false
      stop.abort()
      throw new DiskFullError('Writing failed')
    }
    await expect(run(stop.signal)).rejects.toThrow('Stage two: Writing failed')
  })
})

describe('runPipeline', () => {
  it('runs all, then nothing', async () => {
    const first = await run()
    expect(first).toEqual({
      stages: [
        { name: 'one', reason: 'it never ran', summary: '6 letters' },
        { name: 'two', reason: 'it never ran', summary: '6 letters' },
      ],
      interrupted: null,
    })
    expect(await readFile(at('two.out'), 'utf8')).toBe('SOURCE')
    const second = await run()
    expect(ran).toEqual([])
    expect(second.stages.map(({ reason, summary }) => [reason, summary])).toEqual([
      [null, '6 letters'],
      [null, '6 letters'],
    ])
    expect(logged[0]).toBe('1/2 one: unchanged, skipped (6 letters)')
    await utimes(at('source'), 1, 1)
    await run()
    expect(ran).toEqual([])
  })

  it.each<[string, () => unknown, string[], string]>([
    [
      'a setting of the last stage',
      () => Object.assign(settings, { two: 3 }),
      ['two'],
      '2/2 two: runs, because its settings changed',
    ],
    [
      'a setting without effect',
      () => Object.assign(settings, { one: 3 }),
      ['one'],
      '2/2 two: unchanged, skipped (6 letters)',
    ],
    [
      'another setting that names the same file',
      () => Object.assign(settings, { 'two from': 'beside' }),
      ['two'],
      'its settings changed',
    ],
    ['a setting with effect', () => Object.assign(settings, { one: 2 }), ['one', 'two'], 'one.out changed'],
    ['the source', () => writeFile(at('source'), 'other'), ['one', 'two'], 'source changed'],
    ['an output that is gone', () => rm(at('one.out')), ['one'], 'one.out is gone'],
    ['an output that was changed', () => appendFile(at('two.out'), '!'), ['two'], 'two.out was changed'],
    ['the version', () => olderVersion(), ['one', 'two'], 'fire-train 0.0.1 made it'],
  ])('runs again what %s concerns', async (_, change, expected, said) => {
    await run()
    await change()
    await run()
    expect(ran).toEqual(expected)
    expect(logged.join('\n')).toContain(said)
    await run()
    expect(ran).toEqual([])
  })

  it('moves aside what a stage made before it runs anew, whatever it was', async () => {
    await run()
    settings.two = 3
    await appendFile(at('two.out'), ' and hours of work')
    await run()
    await rm(at('pipeline.json'))
    await run()
    const kept = (await readdir(at('earlier'), { recursive: true })).filter((path) => path.endsWith('.out'))
    expect(kept.map((path) => path.replace(/-[0-9a-f]{8}/, '-HASH')).sort()).toEqual([
      join('one-unknown', 'one.out'),
      join('two-HASH', 'two.out'),
      join('two-unknown', 'two.out'),
    ])
    expect(await readFile(at(join('earlier', 'two-unknown', 'two.out')), 'utf8')).toBe('SOURCE'.toLowerCase())
  })

  it('keeps every version of what was made from the same', async () => {
    await run()
    for (const text of [' one', ' two', ' three']) {
      await appendFile(at('two.out'), text)
      await run()
      expect(logged.join('\n')).toContain('two: what it made before is kept in')
    }
    const folders = (await readdir(at('earlier'))).sort()
    const texts = await Promise.all(folders.map((folder) => readFile(join(at('earlier'), folder, 'two.out'), 'utf8')))
    expect(texts).toEqual(['SOURCE one', 'SOURCE two', 'SOURCE three'])
    expect(folders.map((folder) => folder.replace(/^two-[0-9a-f]{8}/, ''))).toEqual(['', '-2', '-3'])
  })

  it('refuses an option that it does not know', async () => {
    const options = { signall: true } as object
    await expect(runPipeline({ output: root, stages: [] }, options)).rejects.toThrow(/signall.*runPipeline/)
  })

  it('is refused while another run writes to its output', async () => {
    during = async () => {
      await expect(runPipeline({ output: root, stages: [] })).rejects.toThrow(LockedError)
      return false
    }
    await run()
    expect(ran).toEqual(['one', 'two'])
  })

  it('goes on with a stage that failed or was stopped, unless something changed meanwhile', async () => {
    during = (name) => {
      if (name === 'two') throw new Error('out of luck')
      return false
    }
    await expect(run()).rejects.toThrow('Stage two: out of luck')
    during = (name, { signal }) => name === 'two' && signal !== undefined
    const stop = new AbortController()
    expect(await run(stop.signal)).toMatchObject({ stages: [{ name: 'one', reason: null }], interrupted: 'two' })
    expect(ran).toEqual(['two resumed'])
    settings.two = 4
    during = () => false
    await run()
    expect(ran).toEqual(['two'])
  })

  it('stops where the signal finds it', async () => {
    const stop = new AbortController()
    during = (_, { signal }) => {
      stop.abort()
      signal?.throwIfAborted()
      return false
    }
    expect(await run(stop.signal)).toEqual({ stages: [], interrupted: 'one' })
    during = () => false
    expect((await run()).stages.map(({ reason }) => reason)).toEqual(['it was cut off', 'it never ran'])
  })

  it('says beforehand what it would do, and does nothing', async () => {
    expect(await plan()).toEqual(['one: runs, because it never ran', 'two: runs, because it never ran'])
    expect(ran).toEqual([])
    await run()
    expect(await plan()).toEqual(['one: unchanged', 'two: unchanged'])
    settings.one = 3
    expect(await plan()).toEqual(['one: runs, because its settings changed', 'two: may run, because one runs'])
    await run()
    expect(ran).toEqual(['one'])
  })

  it('refuses a record it does not know', async () => {
    await writeFile(at('pipeline.json'), '{"format": 2}')
    await expect(run()).rejects.toThrow(FileError)
    expect(ran).toEqual([])
  })
})

async function olderVersion(): Promise<void> {
  const text = await readFile(at('pipeline.json'), 'utf8')
  await writeFile(at('pipeline.json'), text.replaceAll(/"version": ".*"/g, '"version": "0.0.1"'))
}

describe('Hashes', () => {
  it('hashes a folder by names and content, hidden files left out', async () => {
    const folder = at('folder')
    await mkdir(join(folder, 'inner'), { recursive: true })
    await writeFile(join(folder, 'inner', 'a'), '1')
    const hash = () => new Hashes({}).of(folder)
    const first = await hash()
    await writeFile(join(folder, '.cache'), 'x')
    expect(await hash()).toBe(first)
    await writeFile(join(folder, 'inner', 'a'), '2')
    const second = await hash()
    expect(second).not.toBe(first)
    await writeFile(join(folder, 'inner', 'b'), '2')
    expect(await hash()).not.toBe(second)
    await expect(new Hashes({}).of(at('nothing'))).rejects.toThrow(FileError)
  })

  it('waits for no pipe', async () => {
    execFileSync('mkfifo', [at('pipe')])
    await expect(new Hashes({}).of(at('pipe'))).rejects.toThrow(/pipe is a pipe or device, not a plain file/)
    expect(await new Hashes({}).ofAny(at('pipe'))).toBe(null)
  })

  it('remembers large files until they change', async () => {
    const path = at('large')
    await writeFile(path, Buffer.alloc(2 ** 24, 1))
    const first = new Hashes({})
    const sha256 = await first.of(path)
    // A file is read once a run, and once for all while it stays the same: a memory that lies shows whether it is asked.
    first.used[path].sha256 = 'remembered'
    expect(await first.of(path)).toBe('remembered')
    const lie = { [path]: { ...first.used[path], sha256: 'from before' } }
    expect(await new Hashes(lie).of(path)).toBe('from before')
    await writeFile(path, Buffer.alloc(2 ** 24, 2))
    expect(await new Hashes(lie).of(path)).not.toBe(sha256)
  })
})
