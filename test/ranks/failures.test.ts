/** What happens to ranks when something goes wrong with one of them: real processes, and rank 0 keeps the store. */
import { cp, mkdir, symlink, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { root } from '../docs/blocks.js'
import { temporaryFolder } from '../fakes/world.js'
import { freePort, outcomesOf, runRanks, startRanks, worker } from './processes.js'

/** Each test starts several processes, on machines that have other work. */
vi.setConfig({ testTimeout: 120_000 })

const steps = (...more: string[]): string[] => ['steps', ...more]
const mishap = (rank: number, what: string, ...more: string[]) => steps('--mishap', `${rank}:1:${what}`, ...more)

describe('ranks that work', () => {
  it('have one result and one progress, of rank 0', async () => {
    const [first, ...others] = await runRanks(3, { args: steps('--json') })
    expect(first).toMatchObject({ code: 0, stdout: '{"count":3}\n' })
    expect(first.stderr).toContain('steps: 3 steps')
    for (const [index, { code, stdout, stderr }] of others.entries()) {
      expect({ code, stdout }).toEqual({ code: 0, stdout: '' })
      expect(stderr).toBe(`[rank ${index + 1}] warning: rank ${index + 1} of 3\n`)
    }
  })

  it('say in JSON which rank a line is of', async () => {
    const [, other] = await runRanks(2, { args: mishap(1, 'throw', '--log', 'json') })
    const lines = other.stderr.trim().split('\n').map((line) => JSON.parse(line)) // biome-ignore format: short
    expect(lines).toMatchObject([
      { event: 'log', level: 'warning', rank: 1 },
      { event: 'error', code: 'ERR_FIRE_DISK_FULL', rank: 1 },
    ])
  })

  it('may compute for long', async () => {
    const outcomes = await runRanks(2, { args: mishap(1, 'block') })
    expect(outcomes.map(({ code }) => code)).toEqual([0, 0])
  })
})

describe('one rank', () => {
  it.each([0, 1])('that fails is named on all others: rank %i', async (rank) => {
    const outcomes = await runRanks(3, { args: mishap(rank, 'throw') })
    expect(outcomes.map(({ code }) => code)).toEqual([1, 1, 1])
    for (const [index, { stderr }] of outcomes.entries()) {
      const said =
        index === rank
          ? /error ERR_FIRE_DISK_FULL: the disk is full/
          : new RegExp(`Rank ${rank} \\(.+, pid \\d+\\) failed: the disk is full`)
      expect(stderr).toMatch(said)
    }
  })

  it.each([0, 1, 2])('that is killed is named: rank %i', async (rank) => {
    const outcomes = await runRanks(3, { args: mishap(rank, 'kill') })
    for (const [index, { code, signal, stderr }] of outcomes.entries()) {
      if (index === rank) expect(signal).toBe('SIGKILL')
      else {
        expect(code).toBe(1)
        expect(stderr).toMatch(new RegExp(`ERR_FIRE_RANKS: Rank ${rank} \\(.+, pid \\d+\\) died`))
      }
    }
  })

  it.each([0, 1])('that is stopped counts as silent: rank %i', async (rank) => {
    const processes = await startRanks(3, { args: mishap(rank, 'stop'), env: () => ({ FIRE_RANK_TIMEOUT: 4 }) })
    const others = await outcomesOf(processes.filter((_, index) => index !== rank))
    for (const { code, stderr } of others) {
      expect(code).toBe(1)
      expect(stderr).toMatch(new RegExp(`Rank ${rank} \\(.+, pid \\d+\\) has been silent for 4 s`))
    }
    // When it goes on it learns that the others have gone.
    processes[rank].child.kill('SIGCONT')
    expect(await processes[rank].done).toMatchObject({ code: 1, stderr: expect.stringContaining('ERR_FIRE_RANKS') })
  })

  it('that leaves early is named', async () => {
    // Nor has it done what all were to do: it waits for the others at the end.
    for (const { code, stderr } of await runRanks(3, { args: mishap(2, 'leave') })) {
      expect(code).toBe(1)
      expect(stderr).toMatch(/Rank 2 \(.+\) had ended its work when rank \d waited for it at 'step 1'/)
    }
  })

  it('that is asked to stop stops all of them in order', async () => {
    const outcomes = await runRanks(3, { args: mishap(1, 'interrupt') })
    expect(outcomes.map(({ code }) => code)).toEqual([143, 143, 143])
    expect(outcomes[0].stderr).toContain('stopped; what was finished is kept')
  })

  it.each([0, 1])(
    'that gives its work up for a stop, while the others wait for it, stops all of them: rank %i',
    async (rank) => {
      const outcomes = await runRanks(3, { args: mishap(rank, 'abandon') })
      for (const { code, stderr } of outcomes) {
        expect(stderr).not.toContain('ERR_FIRE')
        expect(code).toBe(143)
      }
      expect(outcomes[0].stderr).toContain('stopped; what was finished is kept')
    },
  )

  it('that does not heed the failure of another is left behind', async () => {
    const outcomes = await runRanks(2, { args: (rank) => mishap(rank, rank === 0 ? 'throw' : 'hang', '--count', '9') })
    expect(outcomes.map(({ code }) => code)).toEqual([1, 1])
    expect(outcomes[1].stderr).toMatch(/Rank 0 .* failed: the disk is full/)
  })

  // Time to join for three processes that start beside each other on a busy machine.
  it('killed at any moment takes the others with it', { timeout: 120_000 }, async () => {
    for (const after of [0, 150, 400, 700, 1000]) {
      const processes = await startRanks(3, {
        args: steps('--count', '400', '--seconds', '0.01'),
        env: () => ({ FIRE_JOIN_TIMEOUT: 6 }),
      })
      setTimeout(() => processes[1].child.kill('SIGKILL'), after)
      const [first, , third] = await outcomesOf(processes)
      for (const { code, stderr } of [first, third]) {
        expect(code).toBe(1)
        expect(stderr).toMatch(/Rank 1 \(.*\) died|Rank 1 did not come within 6 s/)
      }
    }
  })
})

describe('ranks that do not fit together', () => {
  it('have another secret', async () => {
    const env = (rank: number) => ({
      FIRE_JOIN_TIMEOUT: 4,
      ...(rank === 2 && { FIRE_SECRET: 'another secret altogether' }),
    })
    const [first, second, third] = await runRanks(3, { args: steps(), env })
    expect(third).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('the secret of this rank (FIRE_SECRET) is another'),
    })
    expect(first.stderr).toMatch(
      /warning: a connection from 127.0.0.1:\d+ was refused: it calls itself rank 2 and has another secret/,
    )
    for (const { code, stderr } of [first, second]) {
      expect(code).toBe(1)
      expect(stderr).toMatch(/Rank 2 did not come within 4 s; .* it calls itself rank 2 and has another secret/)
    }
    expect(JSON.stringify([first, second, third])).not.toContain('another secret altogether')
  })

  it('have no secret', async () => {
    const outcomes = await runRanks(2, { args: steps(), env: () => ({ FIRE_SECRET: '' }) })
    for (const { code, stderr } of outcomes) {
      expect(code).toBe(1)
      expect(stderr).toContain('FIRE_SECRET is not set')
      expect(stderr).toContain('export FIRE_SECRET=$(openssl rand -hex 32)')
    }
  })

  it('have other settings', async () => {
    const outcomes = await runRanks(3, { args: (rank) => steps('--lr', rank === 1 ? '2' : '1', '--out', 'x') })
    for (const { code, stderr } of outcomes) {
      expect(code).toBe(1)
      expect(stderr).toContain('The ranks differ in the settings: lr is 1 on ranks 0 and 2, 2 on rank 1')
    }
  })

  it('are of another version', async () => {
    const folder = await temporaryFolder()
    await cp(join(root, 'dist'), join(folder, 'dist'), { recursive: true })
    await symlink(join(root, 'node_modules'), join(folder, 'node_modules'))
    await writeFile(join(folder, 'package.json'), '{ "type": "module", "version": "9.9.9" }')
    await mkdir(join(folder, 'test', 'ranks'), { recursive: true })
    await cp(worker, join(folder, 'test', 'ranks', 'worker.mjs'))
    const port = await freePort()
    const others = await startRanks(3, { args: steps(), port, ranks: [0, 2] })
    const other = { args: steps(), port, ranks: [1], program: join(folder, 'test', 'ranks', 'worker.mjs') }
    for (const { code, stderr } of await outcomesOf([...others, ...(await startRanks(3, other))])) {
      expect(code).toBe(1)
      expect(stderr).toMatch(/The ranks differ in what they run: version is "\d.+" on ranks 0 and 2, "9.9.9" on rank 1/)
    }
  })

  it('count differently', async () => {
    const env = (rank: number) => ({ FIRE_JOIN_TIMEOUT: 3, ...(rank === 1 && { WORLD_SIZE: '4' }) })
    const [first, second] = await runRanks(2, { args: steps(), env })
    expect(second.stderr).toContain('it is rank 1 of 4, and rank 0 waits for 2 ranks')
    expect(first.stderr).toMatch(/Rank 1 did not come within 3 s; .* it is rank 1 of 4/)
  })

  it('are not all there', async () => {
    const outcomes = await runRanks(4, { args: steps(), ranks: [0, 2], env: () => ({ FIRE_JOIN_TIMEOUT: 3 }) })
    for (const { code, stderr } of outcomes) {
      expect(code).toBe(1)
      expect(stderr).toContain('Ranks 1 and 3 did not come within 3 s')
    }
    const [alone] = await runRanks(2, { args: steps(), ranks: [1], env: () => ({ FIRE_JOIN_TIMEOUT: 1 }) })
    expect(alone.stderr).toMatch(/Rank 1 found no rank 0 at 127.0.0.1:\d+ within 1 s: ECONNREFUSED/)
  })

  it('would write N times to one output, where a command knows of no ranks', async () => {
    for (const [what, ...args] of [
      ['report', 'report', 'run', 'another'],
      ['report', 'report', '--metrics', 'metrics.jsonl', '--out', 'page.html'],
      ['import', 'import', 'phantom', '--out', 'data'],
      ['merge', 'merge', 'model', 'adapter', '--out', 'merged'],
      ['study report', 'study', 'report', 'folder'],
      ['run', 'run', join(root, 'models/phantom/demo.yaml'), '--set', 'output=demo'],
    ]) {
      const [only] = await runRanks(2, { args, ranks: [1] })
      expect(only.code).toBe(1)
      const refusal = `[rank 1] error ERR_FIRE_UNSUPPORTED: ${what} works in one process, and this is rank 1 of 2\n`
      expect(only.stderr).toContain(refusal)
    }
  })
})

describe('the port', () => {
  it('that is in use is named, with what to change', async () => {
    const server = createServer((socket) => void socket.end('SSH-2.0-OpenSSH_9.2\r\n'))
    const port = await freePort()
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
    const [first, second] = await runRanks(2, { args: steps(), port })
    server.close()
    expect(first.stderr).toContain(`The ranks cannot meet at 127.0.0.1:${port}: that port is in use on this machine`)
    expect(first.stderr).toContain('hint: Set MASTER_PORT, or FIRE_STORE_PORT')
    expect(second.stderr).toMatch(/Rank 1 cannot join the others at .*: what came is no message of a rank/)
  })

  it('may be spoken to by anybody', async () => {
    const port = await freePort()
    const processes = await startRanks(2, { args: steps(), port, ranks: [0] })
    for (const words of ['GET / HTTP/1.1\r\n\r\n', Buffer.alloc(100_000), Buffer.from([0, 0, 0, 2, 123, 125])]) {
      await say(port, words)
    }
    const outcomes = await outcomesOf([...processes, ...(await startRanks(2, { args: steps(), port, ranks: [1] }))])
    expect(outcomes.map(({ code }) => code)).toEqual([0, 0])
    expect(outcomes[0].stderr.match(/was refused: /g)).toHaveLength(3)
  })

  /** Once somebody listens. */
  async function say(port: number, words: string | Buffer): Promise<void> {
    for (;;) {
      const isHeard = await new Promise<boolean>((resolve) => {
        const socket = connect(port, '127.0.0.1', () => socket.end(words))
        socket.on('error', () => {})
        socket.on('close', () => resolve(socket.bytesWritten > 0))
        socket.resume()
      })
      if (isHeard) return
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
})
