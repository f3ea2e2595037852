import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { describe, expect, it, vi } from 'vitest'
import { LivePage } from '../../src/page/live.js'
import { temporaryFolder } from '../fakes/world.js'

describe('LivePage', () => {
  it('draws at once, then not at every step, and last what it is told', async () => {
    const live = new LivePage(join(await temporaryFolder(), 'report.html'))
    const drawn: number[] = []
    const draw = (step: number) => async () => {
      drawn.push(step)
      return `step ${step}`
    }
    live.update(draw(1))
    live.update(draw(2))
    await setTimeout(300)
    expect(await readFile(live.path, 'utf8')).toBe('step 1')
    live.update(draw(3))
    await live.write(draw(4))
    expect(drawn).toEqual([1, 4])
    expect(await readFile(live.path, 'utf8')).toBe('step 4')
  })

  it('that takes long to draw waits before the next step, and less before an evaluation', async () => {
    const live = new LivePage(join(await temporaryFolder(), 'report.html'))
    let now = 0
    const clock = vi.spyOn(performance, 'now').mockImplementation(() => now)
    const drawn: string[] = []
    const draw = (name: string) => async () => {
      drawn.push(name)
      now += 1000
      return name
    }
    try {
      await live.write(draw('start'))
      now += 3000
      live.updateSooner(draw('too soon'))
      now += 2000
      live.update(draw('a step'))
      live.updateSooner(draw('an evaluation'))
      await live.settle()
      now += 20_000
      live.update(draw('a later step'))
      await live.settle()
      expect(drawn).toEqual(['start', 'an evaluation', 'a later step'])
    } finally {
      clock.mockRestore()
    }
  })

  it('is kept alive through a long step, until it is told what is last', async () => {
    const live = new LivePage(join(await temporaryFolder(), 'report.html'))
    let drawn = 0
    const draw = async () => `drawn ${++drawn} times`
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    try {
      live.keepAlive(draw)
      for (let minute = 1; minute <= 3; minute += 1) {
        vi.advanceTimersByTime(60_000)
        await live.settle()
        expect(await readFile(live.path, 'utf8')).toBe(`drawn ${minute} times`)
      }
      await live.write(async () => 'the end')
      vi.advanceTimersByTime(600_000)
      await live.settle()
      expect([drawn, await readFile(live.path, 'utf8')]).toEqual([3, 'the end'])
    } finally {
      vi.useRealTimers()
    }
  })

  it('ends no work for a page that cannot be drawn, but says so when it must be', async () => {
    const live = new LivePage(join(await temporaryFolder(), 'report.html'))
    const fail = async (): Promise<string> => {
      throw new Error('no page')
    }
    live.update(fail)
    await setTimeout(50)
    await expect(live.write(fail)).rejects.toThrow('no page')
  })
})
