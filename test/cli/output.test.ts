/** What goes where: the result to stdout, all else to stderr, and the last line is ours. */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, openSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { runCommand } from '../command.js'
import { fakeNativePath, type World, writeWorld } from '../fakes/world.js'

const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))
const env = { FIRE_NATIVE_PATH: fakeNativePath }

let world: World
let config: string

beforeAll(async () => {
  world = await writeWorld(8)
  config = join(world.root, 'run.yaml')
  const settings = { model: 'model', data: { train: 'pairs.jsonl' }, output: 'out', batchSize: 4 }
  await writeFile(config, stringify(settings))
})

const commands = (): [string, string[]][] => [
  ['doctor', ['doctor']],
  ['inspect', ['inspect', world.pairs]],
  ['plan', ['plan', world.model, config]],
  ['train', ['train', config, '--overwrite']],
  ['train --dry-run', ['train', config, '--dry-run']],
  ['verify', ['verify', 'right']],
  ['bench gemm', ['bench', 'gemm', '--shape', '8x8x8', '--seconds', '0.01']],
  ['generate', ['generate', '--model', world.model, '--prompt', 'Hi']],
  ['a failure', ['train', config]],
  ['a wrong setting', ['train', config, '--set', 'epochs=none']],
]

describe('--json and --quiet', () => {
  it('give one JSON object, and nothing else but errors', async () => {
    for (const [name, args] of commands()) {
      const { code, stdout, stderr } = await runCommand([...args, '--json', '--quiet'], { env })
      expect(stdout, name).toMatch(/^\{.*\}\n$/)
      const report = JSON.parse(stdout)
      if (code === 0) expect({ name, stderr, error: report.error }).toEqual({ name, stderr: '', error: undefined })
      else {
        expect(report.error.code, name).toMatch(/^ERR_FIRE_/)
        expect(stderr, name).toMatch(/^error ERR_FIRE_.*\n(.*\n)*$/)
      }
    }
  }, 120_000)

  it('--quiet alone leaves the result as it is', async () => {
    const loud = await runCommand(['inspect', world.pairs], { env })
    const quiet = await runCommand(['inspect', world.pairs, '--quiet'], { env })
    expect(loud.stderr).not.toBe('')
    expect(quiet).toMatchObject({ code: 0, stdout: loud.stdout, stderr: '' })
  })
})

describe('--log json', () => {
  it('makes every line of stderr an object, and leaves stdout as it is', async () => {
    const timesOf = (text: string): string => text.replace(/in [\d.]+ (ms|s)|[\d.]+ (GFLOP|MiB|GiB)\S*/g, '')
    for (const [name, args] of commands()) {
      const text = await runCommand(args, { env })
      const json = await runCommand([...args, '--log', 'json'], { env })
      expect({ name, code: json.code }).toEqual({ name, code: text.code })
      if (name === 'inspect') expect(timesOf(json.stdout)).toBe(timesOf(text.stdout))
      const events = json.stderr.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line)]))
      for (const event of events)
        expect(event, name).toMatchObject({ time: expect.any(String), event: expect.any(String) })
      if (json.code !== 0)
        expect(events.at(-1)).toMatchObject({ event: 'error', code: expect.stringMatching(/^ERR_FIRE_/) })
      if (name === 'train') {
        const steps = events.filter(({ event }) => event === 'progress')
        expect(steps.at(-1)).toMatchObject({ stage: 'train', step: 2, total: 2, unit: 'steps', eta: 0 })
        expect(steps.at(-1).metrics).toHaveProperty('loss')
      }
    }
  }, 120_000)

  it('goes before the command too, and takes the forms it knows', async () => {
    const { stdout } = await runCommand(['--log', 'json', '--version'], { env })
    expect(stdout).toMatch(/^\d+\./)
    expect(await runCommand(['--log=json', 'inspect', world.pairs], { env })).toMatchObject({ code: 0 })
    expect(await runCommand(['inspect', world.pairs, '--log', 'xml'], { env })).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('--log'),
    })
  })
})

describe('a stdout that takes nothing', () => {
  it.skipIf(!existsSync('/dev/full'))('is a full disk: a typed error and 1', () => {
    const { status, stderr } = spawnSync(process.execPath, [main, 'doctor'], {
      stdio: ['ignore', openSync('/dev/full', 'w'), 'pipe'],
      env: { ...process.env, ...env },
      encoding: 'utf8',
    })
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: expect.stringMatching(/^error ERR_FIRE_DISK_FULL: .*\nhint: .*\n$/),
    })
  })

  it('that closed early is no failure', async () => {
    const child = spawn(process.execPath, [main, 'doctor', '--json'], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    })
    child.stdout.destroy()
    let stderr = ''
    child.stderr.on('data', (chunk) => {
      stderr += chunk
    })
    const code = await new Promise((resolve) => child.on('close', resolve))
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  })
})

describe('an unusual place', () => {
  it.each([
    ['no HOME and a user without a name', { HOME: undefined }, process.getuid?.() === 0 ? 54321 : undefined],
    ['TERM=dumb', { TERM: 'dumb' }, undefined],
    ['the locale C', { LC_ALL: 'C' }, undefined],
    ['a locale that is not UTF-8', { LC_ALL: 'de_DE.ISO-8859-1' }, undefined],
  ])('%s', (_, changes, uid) => {
    const options = { env: { ...process.env, ...env, ...changes }, encoding: 'utf8', uid } as const
    // The sources are readable for everybody where the tests run as root.
    const { status, stderr } = spawnSync(
      process.execPath,
      [main, 'pull', 'no/such', '--offline', '--out', '/nowhere'],
      options,
    )
    expect(stderr).toMatch(/^error ERR_FIRE_(?!INTERNAL)/)
    expect(status).toBe(1)
  })
})

describe('control characters', () => {
  it('of what was typed or read do not reach the terminal', async () => {
    const { stderr } = await runCommand(['\u001b[31mtrain'], { env })
    expect(stderr).not.toContain('\u001b')
    const file = await runCommand(['train', 'a\u001b]0;x\u0007.yaml'], { env })
    expect(file.stderr).toContain('\\u001b')
    expect(file.stderr).not.toContain('\u001b')
  })
})
