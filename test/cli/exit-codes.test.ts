/** The table of docs/errors.md: what `import`, `pairs` and `train` end with when something is left out. */
import { spawnSync } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { type Outcome, runCommand } from '../command.js'
import { fakeNativePath, type World, writeImage, writePairs, writeWorld } from '../fakes/world.js'
import { FakeEndpoint } from '../pairs/endpoint-server.js'
import { makeTask, manyTasks, writeTasks } from '../pairs/records.js'

let world: World
let server: FakeEndpoint

beforeAll(async () => {
  world = await writeWorld(4)
  server = await FakeEndpoint.start()
})
afterAll(() => server.stop())

describe.runIf(process.platform === 'linux')('a limited address space', () => {
  const inspect = (options: string) => {
    const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))
    const line = `ulimit -v 4000000; NODE_OPTIONS="${options}" exec "${process.execPath}" "${main}" inspect "${dirname(main)}/../../models"`
    return spawnSync('bash', ['-c', line], { encoding: 'utf8' })
  }

  it('is an error that says what to do, and what it says helps', () => {
    const refused = inspect('')
    expect(refused.stderr).toMatch(/^error ERR_FIRE_OUT_OF_MEMORY: The address space .*\nhint: .*ulimit -v unlimited/m)
    expect(refused.status).toBe(1)
    const [, advice] = /NODE_OPTIONS=(\S+),/.exec(refused.stderr) ?? []
    expect(inspect(advice)).toMatchObject({ status: 0 })
  })
})

/** How many of three records can be used. */
const shares = [
  { usable: 3, code: 0 },
  { usable: 1, code: 0 },
  { usable: 0, code: 1 },
] as const

interface Ended extends Outcome {
  /** What says why a record was left out. */
  reasons: string
}

const read = (path: string): Promise<string> => readFile(path, 'utf8').catch(() => '')

const commands: Record<string, (usable: number) => Promise<Ended>> = {
  async import(usable) {
    const folder = join(world.root, `import-${usable}`)
    await mkdir(folder)
    await writeImage(folder, 'here.png', 9)
    const rows = [0, 1, 2].map((row) => `Is it ${row}?,yes,${row < usable ? 'here' : 'gone'}.png`)
    await writeFile(join(folder, 'a.csv'), `question,answer,image\n${rows.join('\n')}\n`)
    const out = join(folder, 'out')
    const ended = await runCommand(['import', 'csv', join(folder, 'a.csv'), '--out', out])
    return { ...ended, reasons: JSON.stringify(JSON.parse(await read(join(out, 'import.report.json'))).problems) }
  },

  async pairs(usable) {
    const good = manyTasks(3).slice(0, usable)
    const bad = [0, 1, 2].slice(usable).map((id) => makeTask('Why?', 'Because', 'So.', { id: `gone-${id}` }))
    const { folder, samples, responses } = await writeTasks([...good, ...bad])
    const out = join(folder, 'out', 'pairs.jsonl')
    const ended = await runCommand(['pairs', '--samples', samples, '--responses', responses, '--out', out])
    return { ...ended, reasons: await read(join(folder, 'out', 'rejected.jsonl')) }
  },

  async train(usable) {
    const folder = join(world.root, `train-${usable}`)
    await mkdir(folder)
    const [image] = world.records[0].images
    const gone = { ...image, path: 'gone.png', sha256: '0'.repeat(64) }
    const records = world.records.slice(0, 3)
    await writePairs(
      join(folder, 'pairs.jsonl'),
      records.map((record, index) => (index < usable ? record : { ...record, images: [gone], corrupted: undefined })),
    )
    const data = { train: join(folder, 'pairs.jsonl'), images: world.root }
    const file = join(folder, 'train.yaml')
    await writeFile(file, stringify({ model: world.model, data, output: join(folder, 'out'), batchSize: 2 }))
    const ended = await runCommand(['train', file], { env: { FIRE_NATIVE_PATH: fakeNativePath } })
    // A run that cannot begin leaves no folder.
    return { ...ended, reasons: usable > 0 ? await read(join(folder, 'out', 'failed.jsonl')) : ended.stderr }
  },
}

describe.each(Object.keys(commands))('fire-train %s', (name) => {
  it.each(shares)('ends with $code where $usable of 3 records can be used', async ({ usable, code }) => {
    const { reasons, stderr, ...ended } = await commands[name](usable)
    expect(ended.code, stderr).toBe(code)
    expect(/^error ERR_FIRE_DATA: /m.test(stderr), stderr).toBe(code === 1)
    expect(reasons.includes('gone'), reasons).toBe(usable < 3)
  })
})

describe('a server that pairs are made with', () => {
  it('ends the run with 1 when it refuses the key, and the same command goes on', async () => {
    const { folder, samples, responses } = await writeTasks(manyTasks(6))
    const out = join(folder, 'pairs.jsonl')
    const args = ['--samples', samples, '--responses', responses, '--out', out, '--endpoint-concurrency', '1']
    const ask = () => runCommand(['pairs', ...args, '--endpoint', server.url, '--endpoint-model', 'm'])
    server.fault = (response, _asked, number) => {
      if (number < 5) return false
      response.writeHead(401).end('{"error": {"message": "no such key"}}')
      return true
    }
    const refused = await ask()
    expect(refused.code).toBe(1)
    expect(refused.stderr).toMatch(/error ERR_FIRE_ENDPOINT: .*401/)
    const paid = server.paid.length
    expect(paid).toBeGreaterThan(0)
    server.fault = () => false
    expect((await ask()).code).toBe(0)
    expect(new Set(server.paid).size).toBe(server.paid.length)
  })
})
