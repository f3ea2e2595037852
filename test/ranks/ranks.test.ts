/** Ranks of one process, over real connections. */
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, it, vi } from 'vitest'
import type { NativeModule } from '../../src/engine/native.js'
import { AbortedError, ConfigError, RankError } from '../../src/errors.js'
import { groupOf } from '../../src/ranks/group.js'
import { Member, type MemberOptions } from '../../src/ranks/member.js'
import { alone, type Ranks } from '../../src/ranks/ranks.js'
import { rankWords, requireSame } from '../../src/ranks/same.js'
import { Store, type StoreOptions } from '../../src/ranks/store.js'
import { together } from '../../src/ranks/together.js'
import { keepSecret } from '../../src/secrets.js'
import { endTogether } from '../../src/train/together.js'

const secret = 'a secret of sixteen and more'
const patience = { joining: 5000, silence: 5000 }
const open: { close(): Promise<unknown> }[] = []
let log: string[] = []

afterEach(async () => {
  await Promise.all(open.splice(0).map((each) => each.close()))
  log = []
})

async function store(size: number, more: Partial<StoreOptions> = {}): Promise<Store> {
  const keeper = 'rank 0'
  const onLog = (line: string) => void log.push(line)
  const made = await Store.open({ host: '127.0.0.1', port: 0, size, secret, patience, keeper, onLog, ...more })
  open.push(made)
  return made
}

async function member({ port }: { port: number }, rank: number, size: number, more: Partial<MemberOptions> = {}) {
  const meeting = { host: '127.0.0.1', port, isOpen: true }
  const made = await Member.join({ started: { rank, size }, meeting, secret, patience, ...more })
  open.push(made)
  return made
}

async function meet(size: number): Promise<{ ranks: Member[]; at: Store }> {
  const at = await store(size)
  const ranks = await Promise.all(Array.from({ length: size }, (_, rank) => member(at, rank, size)))
  return { ranks, at }
}

const failed = (ranks: Ranks): Promise<RankError> =>
  new Promise((resolve) => {
    if (ranks.signal.aborted) resolve(ranks.signal.reason)
    ranks.signal.addEventListener('abort', () => resolve(ranks.signal.reason))
  })

describe('gather', () => {
  it('gives every rank the values of all, in order of ranks', async () => {
    const { ranks } = await meet(3)
    for (let step = 0; step < 20; step++) {
      const all = await Promise.all([...ranks].reverse().map((each) => each.gather(`step ${step}`, [each.rank, step])))
      for (const values of all) expect(values).toEqual([0, 1, 2].map((rank) => [rank, step]))
    }
  })

  it('keeps numbers bit for bit, and those that JSON does not have', async () => {
    const { ranks } = await meet(2)
    const values = [0.1 + 0.2, 5e-324, 1.7976931348623157e308, Number.NaN, Number.POSITIVE_INFINITY, -1 / 3]
    const [all] = await Promise.all(ranks.map((each) => each.gather('numbers', { values })))
    expect(all).toEqual([{ values }, { values }])
  })

  it('carries 33 MiB of each rank, and refuses more than 64 where they would be sent', async () => {
    const { ranks } = await meet(2)
    const text = 'x'.repeat(33 * 2 ** 20)
    const [all] = await Promise.all(ranks.map((each) => each.gather('text', text + each.rank)))
    expect(all.map((said) => [said.length, said.at(-1)])).toEqual([[text.length + 1, '0'], [text.length + 1, '1']]) // biome-ignore format: a table
    await expect(ranks[1].gather('more', text + text)).rejects.toThrow(/^67 MiB are too much .*: at most 64 MiB/)
    expect(ranks.map(({ signal }) => signal.aborted)).toEqual([false, false])
  }, 60_000)

  it('may be called again before the last one ended', async () => {
    const { ranks } = await meet(2)
    const calls = ranks.flatMap((each) => [each.gather('a', 1), each.gather('b', 2)])
    expect(await Promise.all(calls)).toEqual([[1, 1], [2, 2], [1, 1], [2, 2]]) // biome-ignore format: a table
  })

  it('names ranks that have lost step', async () => {
    const { ranks } = await meet(2)
    const calls = [ranks[0].gather('step 3', 0), ranks[1].gather('evaluation', 0)]
    for (const { reason } of (await Promise.allSettled(calls)) as PromiseRejectedResult[]) {
      expect(reason).toBeInstanceOf(RankError)
      expect(reason.message).toMatch(/'step 3'.*'evaluation'|'evaluation'.*'step 3'/)
    }
  })

  it('does not wait for a rank that has gone, whichever comes first', async () => {
    const { ranks } = await meet(3)
    await Promise.all(ranks.map((each) => each.gather('first', 0)))
    const early = ranks[0].gather('last', 0)
    await ranks[2].close()
    for (const call of [early, ranks[1].gather('last', 0)]) {
      await expect(call).rejects.toThrow(
        /^Rank 2 \(.*, pid \d+\) had ended its work when rank 0 waited for it at 'last'/,
      )
    }
  })

  it('lets ranks go whose work is done', async () => {
    const { ranks } = await meet(3)
    await Promise.all(ranks.map((each) => each.gather('all', 0)))
    for (const each of ranks) await each.close()
    expect(ranks.map(({ signal }) => signal.aborted)).toEqual([false, false, false])
    await expect(ranks[0].gather('more', 0)).rejects.toThrow(RankError)
  })

  it('of a rank alone is its own value', async () => {
    expect(await alone.gather('x', 1)).toEqual([1])
  })
})

describe('the first failure', () => {
  it('reaches all others with the rank, its code and its advice', async () => {
    const { ranks } = await meet(3)
    const waiting = ranks[0].gather('step', 0)
    await ranks[1].fail(new ConfigError('lr is negative', { hint: 'Set lr.' }))
    await expect(waiting).rejects.toMatchObject({
      code: 'ERR_FIRE_RANKS',
      message: expect.stringMatching(/^Rank 1 \(.+, pid \d+\) failed: lr is negative$/),
      detail: { rank: 1, code: 'ERR_FIRE_CONFIG' },
      hint: 'Set lr.',
    })
    expect(await failed(ranks[2])).toMatchObject({ detail: { rank: 1 } })
    expect(ranks[1].signal.aborted).toBe(false)
  })

  it('is the same for all ranks', async () => {
    const { ranks } = await meet(4)
    await Promise.all([ranks[1].fail(new Error('one')), ranks[2].fail(new Error('two'))])
    const seen = await Promise.all([failed(ranks[0]), failed(ranks[3])])
    expect(seen[0].message).toBe(seen[1].message)
  })

  it('does not carry the secret on', async () => {
    const { ranks } = await meet(2)
    keepSecret('sk-0123456789abcdef')
    await ranks[1].fail(new ConfigError('the key sk-0123456789abcdef is wrong', { hint: 'Not sk-0123456789abcdef.' }))
    const { message, hint } = await failed(ranks[0])
    expect([message, hint]).toEqual([expect.stringMatching(/^Rank 1 .* the key \*\*\* is wrong$/), 'Not ***.'])
  })
})

describe('the longest silence', () => {
  it.each([
    [300, 60_000],
    [60_000, 300],
  ])('is that of the store for all: %i ms there, %i ms here', async (there, here) => {
    const at = await store(2, { patience: { ...patience, silence: there } })
    const own = { patience: { ...patience, silence: here } }
    const early = member(at, 0, 2, own)
    await sleep(900)
    const ranks = await Promise.all([early, member(at, 1, 2, own)])
    await sleep(900)
    expect(ranks.map(({ signal }) => signal.reason?.message)).toEqual([undefined, undefined])
  })
})

describe('joining', () => {
  it('refuses another secret, and says so on both sides', async () => {
    const at = await store(2)
    await expect(member(at, 1, 2, { secret: 'another secret of that length' })).rejects.toThrow(
      /Rank 1 cannot join.*the secret of this rank \(FIRE_SECRET\) is another one/,
    )
    expect(log.join()).toMatch(/it calls itself rank 1 and has another secret/)
    expect(log.join()).not.toContain(secret)
  })

  it('does not believe a store that does not know the secret', async () => {
    const at = await store(2, { secret: 'another secret of that length' })
    await expect(member(at, 1, 2)).rejects.toThrow(RankError)
  })

  it('refuses a rank that is there already, and one that counts otherwise', async () => {
    const at = await store(2)
    const first = member(at, 1, 2)
    await expect(member(at, 1, 2)).rejects.toThrow(/rank 1 is there already/)
    await expect(member(at, 2, 4)).rejects.toThrow(/it is rank 2 of 4, and rank 0 waits for 2 ranks/)
    await Promise.all([member(at, 0, 2), first])
  })

  it('names who does not come, and who was refused', async () => {
    const at = await store(4, { patience: { ...patience, joining: 300 } })
    const others = [0, 2].map((rank) => member(at, rank, 4))
    const wrong = member(at, 3, 4, { secret: 'another secret of that length' })
    const [zero, two, three] = (await Promise.allSettled([...others, wrong])) as PromiseRejectedResult[]
    for (const { reason } of [zero, two]) {
      expect(reason.message).toMatch(/^Ranks 1 and 3 did not come within 0.3 s; a connection .* another secret/)
      expect(reason.hint).toContain('FIRE_JOIN_TIMEOUT')
    }
    expect(three.reason.message).toMatch(/secret/)
  })

  it('is tried again while strangers fill the door', async () => {
    const at = await store(2)
    const strangers = Array.from({ length: 80 }, () =>
      connect(at.port, '127.0.0.1')
        .on('error', () => {})
        .resume(),
    )
    await new Promise((resolve) => setTimeout(resolve, 200))
    const joined = Promise.all([member(at, 0, 2), member(at, 1, 2)])
    setTimeout(() => strangers.map((each) => each.destroy()), 300)
    expect((await joined).map(({ rank }) => rank)).toEqual([0, 1])
  })

  it('waits a while for a name that is not known yet, and says so', async () => {
    const controller = new AbortController()
    const host = 'not-known-yet.invalid'
    const short = { ...patience, joining: 700 }
    await expect(store(2, { host, patience: short })).rejects.toThrow(
      /not-known-yet\.invalid is not known as a host name/,
    )
    expect(log).toEqual(['not-known-yet.invalid is not known as a host name here; it is looked for 0.7 s'])
    setTimeout(() => controller.abort(), 100)
    const given = store(2, { host, signal: controller.signal })
    await expect(given).rejects.toMatchObject({ code: 'ERR_FIRE_ABORTED' })
  })

  it('lets go of what is no rank', async () => {
    const at = await store(1)
    const words = ['GET / HTTP/1.1\r\n\r\n', '\u0000\u0000\u0000\u0005hello', '\u0000\u0000\u0000\u0002{}', '\u0001']
    for (const word of words) {
      await new Promise<void>((resolve) => {
        const socket = connect(at.port, '127.0.0.1', () => socket.end(word))
        socket.on('error', () => {})
        socket.on('close', () => resolve())
        socket.resume()
      })
    }
    expect(log).toHaveLength(words.length)
    await member(at, 0, 1)
  })

  it('may be given up', async () => {
    const at = await store(2)
    const controller = new AbortController()
    const waiting = member(at, 0, 2, { signal: controller.signal })
    setTimeout(() => controller.abort(), 100)
    await expect(waiting).rejects.toMatchObject({ code: 'ERR_FIRE_ABORTED' })
  })

  it('says that a port is in use, and what to change', async () => {
    const { port } = await store(2)
    await expect(store(2, { port })).rejects.toMatchObject({
      code: 'ERR_FIRE_RANKS',
      message: expect.stringContaining(`127.0.0.1:${port}: that port is in use`),
      hint: expect.stringContaining('FIRE_STORE_PORT'),
    })
    await expect(store(2, { host: '192.0.2.1' })).rejects.toThrow(/192.0.2.1 is no address of this machine/)
  })
})

it('a stop that one asks for reaches all ranks', async () => {
  const at = await store(2)
  const heard: unknown[] = []
  const onStop = (...said: unknown[]) => void heard.push(said)
  const ranks = await Promise.all([0, 1].map((rank) => member(at, rank, 2, { onStop })))
  ranks[1].askToStop('SIGTERM')
  await Promise.all(ranks.map((each) => each.gather('then', 0)))
  at.stop('SIGINT', true)
  await Promise.all(ranks.map((each) => each.gather('then', 0)))
  const [orderly, urgent] = [['SIGTERM', false], ['SIGINT', true]] // biome-ignore format: a table
  expect(heard).toEqual([orderly, orderly, urgent, urgent])
})

describe('a rank that gives its work up', () => {
  const giveUp = async (isAsked: boolean) => {
    const { ranks } = await meet(3)
    await Promise.all(ranks.map((each) => each.gather('step 0', 0)))
    if (isAsked) ranks[1].askToStop('SIGTERM')
    const works = [
      () => ranks[0].gather('step 1', 0),
      () => Promise.reject(new AbortedError('enough')),
      async () => {
        await sleep(200)
        await ranks[2].gather('step 1', 0)
      },
    ]
    const ended = await Promise.allSettled(ranks.map((each) => together<unknown>(each, works[each.rank])))
    return ended.map((each) => (each.status === 'rejected' ? each.reason : undefined))
  }

  it('has not failed where all were asked to stop: nobody waits for it any longer', async () => {
    const stopped = { code: 'ERR_FIRE_ABORTED', message: 'Another rank was asked to stop' }
    expect(await giveUp(true)).toMatchObject([stopped, { code: 'ERR_FIRE_ABORTED', message: 'enough' }, stopped])
  })

  it('has failed where nobody asked for a stop', async () => {
    const failure = { code: 'ERR_FIRE_RANKS', message: expect.stringMatching(/^Rank 1 \(.+\) failed: enough$/) }
    expect(await giveUp(false)).toMatchObject([failure, { code: 'ERR_FIRE_ABORTED', message: 'enough' }, failure])
  })

  it('is told of by a training where nobody asked all of them', async () => {
    const fail = vi.fn()
    const error = new AbortedError()
    expect(await endTogether({ ...alone, fail, isStopping: true }, error)).toBe(error)
    expect(fail).not.toHaveBeenCalled()
    expect(await endTogether({ ...alone, fail }, error)).toBe(error)
    expect(fail).toHaveBeenCalledWith(error)
  })
})

describe('what must be the same', () => {
  const check = async (facts: object[]): Promise<unknown[]> => {
    const { ranks } = await meet(facts.length)
    const calls = ranks.map((each) => requireSame(each, 'the settings', facts[each.rank] as Record<string, unknown>))
    return (await Promise.allSettled(calls)).map((each) => (each.status === 'rejected' ? each.reason : undefined))
  }

  it('passes where it is, in whatever order', async () => {
    expect(
      await check([
        { a: 1, b: [2] },
        { b: [2], a: 1 },
      ]),
    ).toEqual([undefined, undefined])
  })

  it('is named key by key, with both values and their ranks', async () => {
    const same = { lr: 1e-5, seed: 1 }
    const reasons = await check([same, same, { lr: 1e-6, seed: 1 }, { lr: 1e-5, seed: 1, more: true }])
    for (const reason of reasons) {
      expect(reason).toBeInstanceOf(RankError)
      expect((reason as RankError).message).toBe(
        'The ranks differ in the settings: lr is 0.00001 on ranks 0, 1 and 3, 0.000001 on rank 2; ' +
          'more is not set on ranks 0 to 2, true on rank 3',
      )
    }
  })

  it('says ranks in words', () => {
    expect(rankWords([4])).toBe('rank 4')
    expect(rankWords([0, 1, 2, 5, 7, 8])).toBe('ranks 0 to 2, 5, 7 and 8')
  })
})

describe('a group for gradients', () => {
  const native = (missing?: string): Pick<NativeModule, 'transports' | 'groupId'> => {
    const fact = missing === undefined ? { version: '1' } : { missing }
    return { transports: () => ({ nccl: fact, mpi: fact }), groupId: () => 'id of rank 0' }
  }
  const form = async (natives: Pick<NativeModule, 'transports' | 'groupId'>[], onGpu: boolean[]) => {
    const { ranks } = await meet(natives.length)
    return Promise.allSettled(ranks.map((each) => groupOf(each, onGpu[each.rank], natives[each.rank])))
  }

  it('has the id of rank 0 with NCCL, and none with MPI', async () => {
    expect(await form([native(), native()], [true, true])).toMatchObject([
      { value: { transport: 'nccl', rank: 0, size: 2, id: 'id of rank 0' } },
      { value: { transport: 'nccl', rank: 1, size: 2, id: 'id of rank 0' } },
    ])
    expect(await form([native(), native()], [false, false])).toMatchObject([
      { value: { transport: 'mpi', rank: 0, id: '' } },
      { value: { transport: 'mpi', rank: 1, id: '' } },
    ])
  })

  it('says where the transport is missing, and that GPUs and CPUs do not mix', async () => {
    for (const { reason } of (await form([native(), native('no libnccl')], [true, true])) as PromiseRejectedResult[]) {
      expect(reason.message).toBe('nccl is not there on rank 1: no libnccl')
    }
    for (const { reason } of (await form([native(), native()], [true, false])) as PromiseRejectedResult[]) {
      expect(reason.message).toMatch(/rank 0 would train with nccl and rank 1 with mpi/)
    }
  })

  it('is refused where the environment would have gradients added up differently', async () => {
    const { ranks } = await meet(2)
    const calls = ranks.map((each) => {
      vi.stubEnv('FIRE_BUCKET_BYTES', each.rank === 0 ? undefined : '1')
      return groupOf(each, false, native())
    })
    vi.unstubAllEnvs()
    for (const { reason } of (await Promise.allSettled(calls)) as PromiseRejectedResult[]) {
      expect(reason.message).toBe(
        'The ranks differ in how gradients are added up: FIRE_BUCKET_BYTES is not set on rank 0, "1" on rank 1',
      )
    }
  })

  it('is none for a rank alone', async () => {
    expect(await groupOf(alone, true, native())).toBeNull()
  })
})
