/** Several ranks as real processes, with the real engine and MPI between them. */
import { readdirSync, readFileSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { loadNative } from '../../src/engine/load.js'
import type { TrainConfigInput } from '../../src/train/settings.js'
import { train } from '../../src/train/train.js'
import { type Outcome, runCommand, startCommand } from '../command.js'
import { built } from '../fakes/world.js'
import { hasMpirun, mpirunEnv } from '../ranks/processes.js'
import { config, settings, weightsOf, world } from './native-world.js'
import { repeatableRows } from './rows.js'

const hasMpi = built && hasMpirun && 'version' in loadNative().transports().mpi

/** `npm test` plays a few; FIRE_RANK_KILLS=20 is the long version. */
const kills = Number(process.env.FIRE_RANK_KILLS ?? 2)

const launch = (size: number, ...words: string[]) => [
  'launch',
  '--nproc',
  `${size}`,
  '--starter',
  'mpirun',
  '--',
  ...words,
]

async function write(output: string, changes: Partial<TrainConfigInput>): Promise<string> {
  const path = join(world.root, `${output}.yaml`)
  await writeFile(path, stringify(settings(output, changes)))
  return path
}

async function trainTogether(size: number, output: string, changes: Partial<TrainConfigInput>): Promise<Outcome> {
  const outcome = await runCommand(launch(size, 'train', await write(output, changes)), { env: mpirunEnv })
  expect(outcome.code, outcome.stderr).toBe(0)
  return outcome
}

/** Numbers of an adapter, behind the header of its file. */
async function numbersOf(output: string): Promise<Float32Array> {
  const file = await weightsOf({ output: join(world.root, output) })
  const header = Number(file.readBigUInt64LE(0))
  return new Float32Array(Uint8Array.from(file.subarray(8 + header)).buffer)
}

/** Processes below this one, as Linux lists them: the ranks are those that train and have no children that do. */
function ranksBelow(root: number): number[] {
  const parents = new Map<number, number>()
  const commands = new Map<number, string>()
  for (const name of readdirSync('/proc').filter((each) => /^\d+$/.test(each))) {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8')
      parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]))
      commands.set(Number(name), readFileSync(`/proc/${name}/cmdline`, 'utf8'))
    } catch {
      // It has ended meanwhile.
    }
  }
  const isBelow = (pid: number): boolean => {
    for (let at = parents.get(pid); at !== undefined; at = parents.get(at)) if (at === root) return true
    return false
  }
  const isRank = (pid: number): boolean => /\bmain\.js\0train\0/.test(commands.get(pid) ?? '')
  return [...parents.keys()].filter((pid) => isBelow(pid) && isRank(pid) && !/mpirun/.test(commands.get(pid) ?? ''))
}

/** Starts or goes on with a run, and kills one of its ranks: soon after it was started, or some steps later. */
async function killOneRank(output: string, when: 'at the start' | 'in training'): Promise<boolean> {
  let victim: number | undefined
  const rows = async (): Promise<number> => {
    const text = await readFile(join(world.root, output, 'metrics.jsonl'), 'utf8').catch(() => '')
    return text.split('\n').length
  }
  const most = (await rows()) + 1 + Math.random() * 5
  const { child, done } = startCommand(launch(2, 'train', join(world.root, `${output}.yaml`), '--resume'), {
    env: mpirunEnv,
  })
  const latest = performance.now() + (when === 'at the start' ? Math.random() * 2500 : 60_000)
  const watching = setInterval(async () => {
    if (victim !== undefined || (performance.now() < latest && (await rows()) < most)) return
    clearInterval(watching)
    const ranks = ranksBelow(child.pid as number)
    victim = ranks[Math.floor(Math.random() * ranks.length)]
    if (victim !== undefined) process.kill(victim, 'SIGKILL')
  }, 10)
  const { code } = await done
  clearInterval(watching)
  if (victim !== undefined && code === 0) expect.fail('a rank was killed, and the run says that all is well')
  return victim !== undefined
}

describe.skipIf(!hasMpi)('ranks as processes', () => {
  it('take the steps of one rank, uneven ones and those of fewer pairs than ranks too', async () => {
    const changes = { lora: { rank: 8, alpha: 16, dropout: 0.05 }, batchSize: 5, epochs: 1, evalEvery: 2 }
    const held = { ...changes, data: { train: world.pairs, evalShare: 0.4 } }
    await train(config('one', held))
    const rows = await repeatableRows(config('one', held))
    for (const size of [2, 3]) {
      await trainTogether(size, `several-${size}`, held)
      const others = await repeatableRows(config(`several-${size}`, held))
      expect(others).toHaveLength(rows.length)
      for (const [index, row] of rows.entries()) {
        for (const key of Object.keys(row).filter((name) => /loss|logps|num_tokens|grad_norm/.test(name))) {
          // Sums of float32 in another order, through a few updates.
          const nearly = Math.abs(others[index][key] - row[key]) <= 1e-6 * Math.max(1, Math.abs(row[key]))
          if (key !== 'num_tokens')
            expect(nearly, `${key} of row ${index}: ${row[key]}, ${others[index][key]}`).toBe(true)
        }
      }
      const [one, several] = [await numbersOf('one'), await numbersOf(`several-${size}`)]
      const difference = Math.sqrt(one.reduce((sum, value, index) => sum + (value - several[index]) ** 2, 0))
      expect(difference / Math.sqrt(one.reduce((sum, value) => sum + value ** 2, 0))).toBeLessThan(1e-6)
    }
  }, 300_000)

  it(
    `are killed at any moment, ${kills} times, and resume to the bits of the run that was left alone`,
    async () => {
      // About as many steps as the kills leave time for.
      const changes = { epochs: 3 + 3 * kills, checkpoint: { every: 1, keep: 2 }, tensorboard: false, report: false }
      await trainTogether(2, 'whole', changes)
      const path = await write('killed', changes)
      let killed = 0
      for (let round = 0; round < kills; round += 1) {
        killed += (await killOneRank('killed', round % 4 === 3 ? 'at the start' : 'in training')) ? 1 : 0
      }
      expect(killed).toBeGreaterThan(0)
      const outcome = await runCommand(launch(2, 'train', path, '--resume'), { env: mpirunEnv })
      expect(outcome.code, outcome.stderr).toBe(0)
      const of = (output: string) => weightsOf({ output: join(world.root, output) })
      expect((await of('killed')).equals(await of('whole'))).toBe(true)
      const rows = async (output: string) =>
        (await repeatableRows(config(output))).map(({ wall_time: _, ...row }) => row)
      expect(await rows('killed')).toEqual(await rows('whole'))
      const lines = (await readFile(join(world.root, 'killed', 'ranks.jsonl'), 'utf8')).trimEnd().split('\n')
      expect(lines).toHaveLength(2 * (await rows('whole')).length)
    },
    120_000 * (kills + 3),
  )
})
