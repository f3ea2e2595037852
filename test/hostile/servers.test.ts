/** Servers with habits, against everything that asks one: nothing hangs, leaks, obeys, or counts as an answer. */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { pull } from '../../src/hub/index.js'
import { keepSecret } from '../../src/secrets.js'
import { forTerminal } from '../../src/terminal.js'
import { runCommand } from '../command.js'
import { World } from '../corrupt/world.js'
import { makeTask, writeTasks } from '../pairs/records.js'
import { makeSample, readLines, writeRecords } from '../sample/records.js'
import { drawsOf, pick, rounds, timeFor } from './campaign.js'
import { BareServer, drawHabit, type Habit, wrong } from './habits.js'

const asks = ['sample', 'pairs', 'corrupt', 'pull'] as const
const questions = 3
/** Seconds; the longest of many attempts at three questions, on a busy machine. */
const longest = 60

interface Told {
  stdout: string
  stderr: string
  code: number | null
}

/** What terminals obey. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for.
const obeyed = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/

function expectNoKey(text: string, key: string): void {
  const bytes = Buffer.from(key)
  const said = text.toLowerCase()
  const forms = [
    encodeURIComponent(key),
    JSON.stringify(key).slice(1, -1),
    bytes.toString('base64'),
    bytes.toString('hex'),
  ]
  const parts = Array.from({ length: key.length - 11 }, (_, at) => key.slice(at, at + 12))
  for (const form of [...forms, ...parts]) expect(said.includes(form.toLowerCase()), form).toBe(false)
}

async function expectSilent(folder: string, { stdout, stderr }: Told, key: string): Promise<void> {
  expect(`${stdout}${stderr}`).not.toMatch(obeyed)
  expect(stderr).not.toContain('ERR_FIRE_INTERNAL')
  expectNoKey(`${stdout}${stderr}`, key)
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) expectNoKey(await readFile(join(entry.parentPath, entry.name), 'latin1'), key)
  }
}

/** No file of a cache keeps what was no answer. */
async function expectClean(cache: string): Promise<void> {
  if (!existsSync(cache)) return
  for (const name of await readdir(cache)) {
    const kept = await readFile(join(cache, name), 'utf8')
    expect(kept).not.toContain(`"content":"${wrong}`)
    expect(JSON.parse(kept)).toBeTypeOf('object')
  }
}

const lines = async (path: string): Promise<{ text?: string }[]> => (existsSync(path) ? readLines(path) : [])

const endpointFlags = (url: string) => [
  ...['--endpoint', `${url}/v1`, '--endpoint-model', 'm', '--endpoint-key-env', 'HOSTILE_KEY'],
  ...['--endpoint-timeout', '1', '--endpoint-retries', '1', '--endpoint-retry-delay', '0.01'],
]

type Command = (url: string, key: string) => Promise<{ folder: string; told: Told; check: () => Promise<void> }>

const commands: Record<(typeof asks)[number], Command> = {
  async sample(url, key) {
    const world = await World.create()
    const image = await world.image('a.png')
    const samples = Array.from({ length: questions }, (_, at) =>
      makeSample(`s${at}`, { images: [image], question: `Q${at}?` }),
    )
    await writeRecords(world.path('samples.jsonl'), samples)
    const out = world.path('out/responses.jsonl')
    const args = ['sample', '--samples', world.path('samples.jsonl'), '--out', out, ...endpointFlags(url)]
    const told = await runCommand(args, { env: { HOSTILE_KEY: key } })
    const check = async (): Promise<void> => {
      const answers = await lines(out)
      const failed = await lines(world.path('out/responses.failed.jsonl'))
      if (told.code === 0) expect(answers.length + failed.length).toBe(questions)
      else expect(told.stderr).toMatch(/^error ERR_FIRE_\w+: /m)
      expect(told.code === 0 && answers.length === 0).toBe(false)
      for (const { text } of answers) expect(text?.trim()).toMatch(/^(?!.*NOT-AN-ANSWER).+/s)
      await expectClean(`${out}.cache`)
    }
    return { folder: world.path('out'), told, check }
  },
  async pairs(url, key) {
    const tasks = Array.from({ length: questions }, (_, at) =>
      makeTask('Where is the nodule?', 'Left lung', `The nodule of ${at} mm is in the right lung.`, { id: `s${at}` }),
    )
    const { folder, samples, responses } = await writeTasks(tasks)
    const out = join(folder, 'out', 'pairs.jsonl')
    const args = ['pairs', '--samples', samples, '--responses', responses, '--out', out, ...endpointFlags(url)]
    const told = await runCommand(args, { env: { HOSTILE_KEY: key } })
    const check = async (): Promise<void> => {
      const made = await lines(out)
      const refused = await lines(join(folder, 'out', 'rejected.jsonl'))
      // Whatever it says, this server never names a verdict.
      expect([told.code, made.length]).toEqual([1, 0])
      if (existsSync(out)) expect(refused).toHaveLength(questions)
      expect(told.stderr).toMatch(/^error ERR_FIRE_\w+: /m)
      await expectClean(`${out}.cache`)
    }
    return { folder, told, check }
  },
  async corrupt(url, key) {
    const world = await World.create()
    await world.pairs([world.pair('p', [await world.image('a.png')], { provenance: { concept: 'liver' } })])
    const args = ['corrupt', '--pairs', world.path('pairs.jsonl'), '--out', world.path('out')]
    const service = ['--segmenter', url, '--segmenter-key-env', 'HOSTILE_KEY', '--segmenter-timeout', '1']
    const told = await runCommand([...args, ...service, '--segmenter-retries', '1'], { env: { HOSTILE_KEY: key } })
    const check = async (): Promise<void> => {
      expect(told.code).toBe(1)
      expect(told.stderr).toContain('error ERR_FIRE_SEGMENTER: ')
      expect(existsSync(world.path('out/pairs.jsonl'))).toBe(false)
    }
    return { folder: world.root, told, check }
  },
  async pull(url, key) {
    const world = await World.create()
    keepSecret(key)
    const access = { endpoint: url, token: { value: key, source: 'HOSTILE_KEY' }, offline: false, silenceMs: 500 }
    const said: string[] = []
    const options = { repo: 'clinic/model', out: world.path('out'), retry: { retries: 1, delayMs: 1 } }
    const failed = await pull({ ...options, access, onLog: (line) => said.push(line) }).then(
      () => undefined,
      (error: Error & { code?: string; hint?: string }) => error,
    )
    const error = failed ? `error ${failed.code}: ${failed.message}\nhint: ${failed.hint}\n${failed.stack}` : ''
    const told = { stdout: '', stderr: forTerminal([...said, error].join('\n')), code: failed ? 1 : 0 }
    const check = async (): Promise<void> => {
      if (failed) expect(failed.code).toMatch(/^ERR_FIRE_(HUB|CHECKSUM|IO)$/)
      else expect(await readFile(world.path('out/config.json'), 'utf8')).toBe(config)
    }
    return { folder: world.root, told, check }
  },
}

const config = '{"model_type":"tiny"}'
const hashes = { oid: createHash('sha1').update(`blob ${config.length}\0${config}`).digest('hex'), size: config.length }
const listing = [
  { type: 'file', path: 'config.json', ...hashes },
  { type: 'file', path: 'model.safetensors', ...hashes },
]
const stages = ['/revision/', '/tree/', '/resolve/'] as const

/** A hub that is well but for one of its answers. */
function hubAnswer(habit: Habit, stage: (typeof stages)[number], key: string, elsewhere: string): BareServer['answer'] {
  return (socket, heard) => {
    const at = stages.find((each) => heard.head.includes(each)) ?? '/resolve/'
    if (at === stage) return habit.answer(socket, heard, 'Fine.', key, elsewhere)
    const about = { _id: '1', id: 'clinic/model', sha: 'a'.repeat(40), lastModified: '2026-01-01T00:00:00Z' }
    const body = at === '/revision/' ? JSON.stringify(about) : at === '/tree/' ? JSON.stringify(listing) : config
    socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${body.length}\r\n\r\n${body}`)
  }
}

describe('a server may have any habit', () => {
  it.each(Array.from({ length: rounds(4, 180) }, (_, round) => round))(
    'round %i',
    { timeout: timeFor(90_000) },
    async (round) => {
      const draws = drawsOf('servers', round)
      const ask = asks[round % asks.length]
      const habit = drawHabit(draws)
      const stage = pick(draws, stages)
      const always = pick(draws, [true, false])
      const key = `sk-hostile/${createHash('sha256').update(`${round}`).digest('hex').slice(0, 20)}+"4711`
      const elsewhere = await BareServer.start()
      const server = await BareServer.start()
      const hub = hubAnswer(habit, stage, key, elsewhere.url)
      server.answer = (socket, heard) => {
        if (ask === 'pull') return hub(socket, heard)
        const said = `The answer is fine. ${server.heard.length}`
        if (always || server.heard.length % 2 === 1) return habit.answer(socket, heard, said, key, elsewhere.url)
        const body = JSON.stringify({ choices: [{ message: { content: said }, finish_reason: 'stop' }] })
        socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${body.length}\r\n\r\n${body}`)
      }
      const began = performance.now()
      const { folder, told, check } = await commands[ask](server.url, key)
      const seconds = (performance.now() - began) / 1000
      await server.stop()
      await elsewhere.stop()
      try {
        expect(seconds).toBeLessThan(longest)
        await expectSilent(folder, told, key)
        await check()
        // Neither prompts nor keys go where a redirect leads; downloads may, without the key.
        if (ask !== 'pull') expect(elsewhere.heard).toEqual([])
        for (const { head } of elsewhere.heard) expect(head.toLowerCase()).not.toContain('authorization')
      } catch (error) {
        throw new Error(
          `${ask} against ${habit.name}${always ? '' : ' (every second time)'} in ${seconds.toFixed(1)} s\n${told.stdout}${told.stderr}`,
          { cause: error },
        )
      }
    },
  )
})
