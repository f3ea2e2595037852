/**
 * Model folders with one thing wrong, by the command line: bits, lengths, types, sizes, names, missing files and what
 * is no file. None may end by a signal, take a minute or 4 GB; each failure has a code that is no defect of ours.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import type { Draws } from '../../src/bench/random.js'
import { type Outcome, startCommand } from '../command.js'
import { drawsOf, pick, rounds, timeFor } from './campaign.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
const phantom = join(root, 'models/phantom')
const golden = join(root, 'test/golden/qwen3_vl')

/** A good folder and the command that reads a changed copy of it. */
interface Case {
  source: string
  args: (folder: string, out: string) => string[]
}

const question = ['--prompt', 'Is there an effusion?', '--max-new-tokens', '2', '--threads', '1']
const cases: Case[] = [
  { source: phantom, args: (folder) => ['generate', '--model', folder, ...question] },
  { source: phantom, args: (folder) => ['generate', '--model', folder, ...question, '--dtype', 'bf16'] },
  { source: golden, args: (folder, out) => ['merge', folder, join(folder, 'adapter'), '--out', out] },
  { source: golden, args: (folder) => ['verify', folder] },
]

const readable = /\.(json|safetensors|jinja)$/

const numbers = ['0', '-1', '1', '3', '0.5', '1e300', '65536', '2147483648', '1000000000', '9007199254740991', '1e400']
const others = ['null', 'true', '[]', '{}', '""', '"F16"', '"BF16"', '"I64"', '"{{"', '"(a+)+$"', '[[[0]]]', '{"a":1}']

/** One value or name of a JSON text replaced by something hostile, by another of its own, or taken out. */
function mutateJson(draws: Draws, text: string): string {
  const values = [...text.matchAll(/"(?:[^"\\]|\\.)*"|[^\s,:[\]{}"]+/g)]
  if (values.length === 0) return text
  const { 0: old, index } = pick(draws, values)
  const replacement = pick(draws, [pick(draws, numbers), pick(draws, others), pick(draws, values)[0], '', old + old])
  return text.slice(0, index) + replacement + text.slice(index + old.length)
}

function mutateBytes(draws: Draws, bytes: Buffer): Buffer {
  const place = (): number => draws.integers(1, 0, Math.max(1, bytes.length))[0]
  const how = pick(draws, ['cut', 'cut', 'longer', 'bits', 'bits', 'run'])
  if (how === 'cut') return bytes.subarray(0, place())
  if (how === 'longer') return Buffer.concat([bytes, Buffer.alloc(7, 1)])
  if (how === 'run') return bytes.fill(pick(draws, [0, 255, 91]), place(), bytes.length)
  for (let i = 0; i < 12; i += 1) bytes[place()] ^= 1 << draws.integers(1, 0, 8)[0]
  return bytes
}

function mutateHeader(draws: Draws, bytes: Buffer): Buffer {
  const end = 8 + Number(bytes.readBigUInt64LE())
  const header = Buffer.from(mutateJson(draws, bytes.toString('utf8', 8, end)))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.length))
  return Buffer.concat([length, header, bytes.subarray(end)])
}

/** Something else under the name of a file. */
const replacements: Record<string, (path: string) => void> = {
  missing: () => undefined,
  pipe: (path) => execFileSync('mkfifo', [path]),
  folder: (path) => mkdirSync(path),
  device: (path) => symlinkSync('/dev/zero', path),
  circle: (path) => symlinkSync(path, path),
  empty: (path) => writeFileSync(path, ''),
  pointer: (path) => writeFileSync(path, 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n'),
}

/** Returns a few words about what was done. */
function mutate(draws: Draws, folder: string): string {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => readable.test(name))
  const name = pick(draws, files.sort())
  const path = join(folder, name)
  const bytes = readFileSync(path)
  const way = draws.integers(1, 0, 10)[0]
  if (way === 0) {
    const kind = pick(draws, Object.keys(replacements))
    rmSync(path)
    replacements[kind](path)
    return `${name}: ${kind}`
  }
  const small = name.endsWith('.json')
  if (way < 4) writeFileSync(path, mutateBytes(draws, bytes))
  else writeFileSync(path, small ? mutateJson(draws, bytes.toString()) : mutateHeader(draws, bytes))
  return `${name}: ${way < 4 ? 'bytes' : 'values'}`
}

/** Runs a command under its limits: 60 s, and (where /proc tells) 4 GB of memory. */
async function limited(args: string[]): Promise<Outcome & { peakBytes: number; seconds: number }> {
  const start = performance.now()
  const { child, done } = startCommand(args)
  let peakBytes = 0
  const look = setInterval(() => {
    try {
      const [, kilobytes] = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8')) ?? []
      peakBytes = Math.max(peakBytes, Number(kilobytes ?? 0) * 1024)
    } catch {
      // It has ended.
    }
  }, 50)
  const late = setTimeout(() => child.kill('SIGKILL'), 60_000)
  const outcome = await done
  clearInterval(look)
  clearTimeout(late)
  return { ...outcome, peakBytes, seconds: (performance.now() - start) / 1000 }
}

it('hostile model folders end in an answer or in an error of their own', { timeout: timeFor(60_000) }, async () => {
  const many = rounds(8, 700)
  const codes: Record<string, number> = {}
  const problems: string[] = []
  for (let round = 0; round < many; round += 1) {
    const draws = drawsOf('models', round)
    const scratch = mkdtempSync(join(process.env.FIRE_TEST_FOLDER ?? tmpdir(), 'hostile-'))
    const folder = join(scratch, 'model')
    const { source, args } = cases[round % cases.length]
    cpSync(source, folder, { recursive: true, filter: (path) => !/\.(py|ts|md|yaml)$/.test(basename(path)) })
    const what = `round ${round}, ${args('M', 'O')[0]}, ${mutate(draws, folder)}`
    const { code, signal, stderr, peakBytes, seconds } = await limited(args(folder, join(scratch, 'out')))
    // `verify` ends with 1 where numbers differ, which is an answer.
    const answered = code === 0 || / out of tolerance/.test(stderr) ? 'answered' : 'untyped'
    const named = /^error (ERR_FIRE_\w+):/m.exec(stderr)?.[1] ?? answered
    const said = `${what}: ${named} ${signal ?? ''} in ${seconds.toFixed(1)} s, ${(peakBytes / 1e6).toFixed(0)} MB`
    if (signal !== null || peakBytes > 4e9 || /INTERNAL|untyped/.test(named))
      problems.push(`${said}\n${stderr.slice(-600)}`)
    if (many > 100) process.stderr.write(`${said}\n`)
    codes[named] = (codes[named] ?? 0) + 1
    rmSync(scratch, { recursive: true, force: true })
  }
  expect(problems).toEqual([])
  // Where nothing is refused, nothing was changed.
  expect(Object.keys(codes).length, JSON.stringify(codes)).toBeGreaterThan(1)
})
