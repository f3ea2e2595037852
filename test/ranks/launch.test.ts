/** `fire-train launch`, and ranks that other starters made. */
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { describe, expect, it, vi } from 'vitest'
import { Launch } from '../../src/ranks/launcher.js'
import {
  freePort,
  hasMpirun,
  mpirunEnv,
  outcomesOf,
  type Process,
  runRanks,
  secret,
  startProcess,
  startRanks,
  worker,
} from './processes.js'

/** Each test starts several processes, on machines that have other work. */
vi.setConfig({ testTimeout: 120_000 })

const steps = (...more: string[]): string[] => ['steps', ...more]

function launch(size: number, words: string[], starter = 'processes', env: object = {}): Process {
  const args = [worker, 'launch', '--nproc', String(size), '--starter', starter, '--', ...words]
  return startProcess(process.execPath, args, { FIRE_RANK_TIMEOUT: 4, ...env })
}

const long = steps('--count', '2000')
/** Of a rank that works. */
const working = 'rank 1 of 3'

/** In the order in which they were started, each before its own. */
async function descendantsOf(pid: number): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '')
  const children = text.split(' ').filter((each) => each !== '').map(Number) // biome-ignore format: short
  return (await Promise.all(children.map(async (each) => [each, ...(await descendantsOf(each))]))).flat()
}

async function isAlive(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => ') Z')
  return !/\) [ZX]/.test(stat)
}

/** Resolves when all have ended. */
async function allEnded(pids: readonly number[]): Promise<void> {
  while ((await Promise.all(pids.map(isAlive))).some(Boolean)) await new Promise((resolve) => setTimeout(resolve, 50))
}

describe('launch', () => {
  it('starts the ranks, and shows rank 0 as it is and lines of others with their rank', async () => {
    const { code, stdout, stderr } = await launch(3, steps('--json')).done
    expect(code).toBe(0)
    expect(stdout).toBe('{"count":3}\n')
    expect(stderr).toContain('steps: 3 steps\n')
    for (const rank of [1, 2]) expect(stderr).toContain(`[rank ${rank}] warning: rank ${rank} of 3\n`)
  })

  it('runs any command, also one that does not join the others', async () => {
    const { code, stdout } = await launch(2, ['--version']).done
    expect(code).toBe(0)
    expect(stdout).toMatch(/^(\[rank 1\] )?\d+\.\d+\.\d+\n(\[rank 1\] )?\d+\.\d+\.\d+\n$/)
  })

  it.each([
    ['throw', 1, /Rank 1 \(.+\) failed: the disk is full/],
    ['kill', 137, /warning: Rank 1 \(pid \d+\) was ended by SIGKILL/],
    ['exit', 7, /Rank 1 \(.+\) died|ended with exit code 7/],
    ['stop', 137, /Rank 1 \(.+\) has been silent for 4 s/],
  ])('has the exit code of the rank that failed first: %s', async (what, exitCode, message) => {
    const args = steps('--mishap', `1:1:${what}`)
    const { code, stderr } = await launch(3, args, 'processes', { FIRE_RANK_TIMEOUT: 4 }).done
    expect(code, stderr).toBe(exitCode)
    expect(stderr).toMatch(message)
    expect(stderr).toMatch(/error ERR_FIRE_RANKS: Rank 1/)
  })

  it('has that of a wrong command line', async () => {
    expect(await launch(2, steps('--count', 'x')).done).toMatchObject({ code: 2 })
    expect(await launch(2, ['nonsense']).done).toMatchObject({ code: 2 })
  })

  it('ends what does not heed the failure of another', async () => {
    const { child, done, said } = launch(3, steps('--mishap', '1:1:hang', '--count', '9'))
    await said('steps: 9 steps')
    const ranks = await descendantsOf(child.pid as number)
    process.kill(ranks[2], 'SIGKILL')
    expect(await done).toMatchObject({ code: 137 })
    await allEnded(ranks)
  })

  it('stops all ranks in order at the first Ctrl-C', async () => {
    const { child, done, said } = launch(3, long)
    await said(working)
    child.kill('SIGINT')
    const { code, stderr } = await done
    expect(code).toBe(130)
    expect(stderr).toContain('SIGINT: all ranks save and stop')
    expect(stderr).toContain('stopped; what was finished is kept')
    expect(stderr).not.toContain('error')
  })

  it('leaves at once at the second', async () => {
    const { child, done, said } = launch(3, steps('--count', '9', '--seconds', '30'))
    await said(working)
    child.kill('SIGTERM')
    await said('[rank 1]')
    setTimeout(() => child.kill('SIGTERM'), 300)
    expect(await done).toMatchObject({ code: 143 })
  })

  it.each(['processes', 'mpirun'].filter((name) => name === 'processes' || hasMpirun))(
    'that is killed leaves no rank behind: %s',
    async (starter) => {
      const { child, done, said } = launch(3, long, starter, mpirunEnv)
      await said(working)
      const ranks = await descendantsOf(child.pid as number)
      child.kill('SIGKILL')
      expect((await done).stderr).toContain('ERR_FIRE_RANKS: The launcher died: its connection ended')
      await allEnded(ranks)
    },
  )

  it('listens no more where the ranks cannot be started', async () => {
    const listening = (): number => process.getActiveResourcesInfo().filter((name) => name === 'TCPServerWrap').length
    const before = listening()
    const command = [process.execPath, 'x'.repeat(2 ** 18)] as const
    const onLog = (): void => {}
    await expect(
      Launch.start({ size: 2, command: [...command], host: '127.0.0.1', starting: 'processes', env: {}, onLog }),
    ).rejects.toMatchObject({ code: 'ERR_FIRE_RANKS', message: 'The ranks cannot be started: spawn E2BIG' })
    await vi.waitFor(() => expect(listening()).toBe(before))
  })

  it('refuses to start ranks of ranks', async () => {
    const env = { RANK: 0, WORLD_SIZE: 2 }
    const { code, stderr } = await launch(2, steps(), 'processes', env).done
    expect(code).toBe(1)
    expect(stderr).toContain('This process is rank 0 of 2 already')
  })

  it('says what to install where there is no mpirun', async () => {
    const { code, stderr } = await launch(2, steps(), 'mpirun', { PATH: '/nowhere' }).done
    expect(code).toBe(1)
    expect(stderr).toContain('apt-get install openmpi-bin')
  })
})

describe.skipIf(!hasMpirun)('mpirun', () => {
  it.each([2, 3, 4])('starts %i ranks by itself', async (size) => {
    const env = { ...mpirunEnv, FIRE_SECRET: secret }
    const words = ['-n', String(size), '--oversubscribe', process.execPath, worker, ...steps()]
    const { code, stdout, stderr } = await startProcess('mpirun', words, env).done
    expect(code, stderr).toBe(0)
    expect(stdout).toBe(`3 steps of ${size} ranks\n`)
  })

  it('starts them for launch', async () => {
    expect(await launch(3, steps(), 'mpirun').done).toMatchObject({ code: 0, stdout: '3 steps of 3 ranks\n' })
  })

  it.each([
    ['throw', 1, /Rank 1 \(.+\) failed: the disk is full/],
    ['kill', 137, /Rank 1 \(.+\) died/],
    ['exit', 7, /Rank 1 \(.+\) died/],
    ['stop', 137, /Rank 1 \(.+\) has been silent for 4 s/],
  ])('under launch ends as the rank that failed first: %s', async (what, exitCode, message) => {
    const { code, stderr } = await launch(3, steps('--mishap', `1:1:${what}`), 'mpirun', { FIRE_RANK_TIMEOUT: 4 }).done
    expect(code, stderr).toBe(exitCode)
    expect(stderr).toMatch(message)
  })

  it('under launch stops in order at Ctrl-C', async () => {
    const { child, done, said } = launch(3, long, 'mpirun')
    await said(working)
    child.kill('SIGINT')
    const { code, stderr } = await done
    expect(code, stderr).toBe(130)
    expect(stderr).toContain('stopped; what was finished is kept')
  })
})

describe('the environment of others', () => {
  it('is torchrun’s, whose agent keeps a store of its own on the port', async () => {
    const port = await freePort()
    const agent = createServer().listen(port, '127.0.0.1')
    const env = () => ({ TORCHELASTIC_RUN_ID: 'none', TORCHELASTIC_USE_AGENT_STORE: 'True' })
    const outcomes = await runRanks(2, { args: steps(), port, env })
    agent.close()
    expect(outcomes.map(({ code }) => code)).toEqual([0, 0])
  })

  it('is srun’s', async () => {
    const env = (rank: number) => ({
      ...{ RANK: '', WORLD_SIZE: '', MASTER_ADDR: '', MASTER_PORT: '' },
      ...{ SLURM_PROCID: rank, SLURM_STEP_NUM_TASKS: 2, SLURM_NTASKS: 2, SLURM_LOCALID: rank },
      ...{ SLURM_JOB_ID: process.pid, SLURM_STEP_ID: 0, SLURM_STEP_NODELIST: 'localhost' },
    })
    const outcomes = await outcomesOf(await startRanks(2, { args: steps(), env }))
    expect(outcomes.map(({ code }) => code)).toEqual([0, 0])
    expect(outcomes[1].stderr).toBe('[rank 1] warning: rank 1 of 2\n')
  })

  it('is of one process, which opens no port', async () => {
    const env = { RANK: 0, WORLD_SIZE: 1, LOCAL_RANK: 0 }
    expect(await startProcess(process.execPath, [worker, ...steps()], env).done).toMatchObject({ code: 0 })
  })
})
