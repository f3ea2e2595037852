import { describe, expect, it, vi } from 'vitest'
import { formatBytes, formatCount, formatDifference, formatTable } from '../../src/cli/format.js'
import { createProgress, describeRate } from '../../src/cli/progress.js'
import { duration } from '../../src/report/words.js'

function fakeStream(isTTY: boolean) {
  const written: string[] = []
  const stream = { isTTY, columns: 80, write: (text: string) => written.push(text), on: () => {} }
  return { written, stream: stream as unknown as NodeJS.WriteStream }
}

describe('progress', () => {
  it('prints plain lines, not too many, when the stream is no terminal', () => {
    vi.useFakeTimers()
    const { written, stream } = fakeStream(false)
    const progress = createProgress(stream)
    progress.start('training', 100, 'steps')
    for (let step = 1; step <= 100; step += 1) {
      vi.advanceTimersByTime(100)
      progress.update(step, 'loss 0.5')
    }
    progress.end()
    vi.useRealTimers()
    expect(written).toEqual([
      'training: 100 steps\n',
      'training: 50/100 steps, 10.0 steps/s, 5.0 s left · loss 0.5\n',
      'training: 100/100 steps, 10.0 steps/s, 0.0 s left · loss 0.5\n',
      'training: 100 steps in 10.0 s · loss 0.5\n',
    ])
  })

  it('ends a bar with a line that stays', () => {
    const cursor = { cursorTo: () => {}, clearLine: () => {}, clearScreenDown: () => {}, moveCursor: () => {} }
    const { written, stream } = fakeStream(true)
    const progress = createProgress(Object.assign(stream, cursor))
    progress.start('a', 2)
    progress.update(1)
    progress.log('note')
    progress.update(2)
    progress.end('done')
    const text = written.join('')
    expect(text).toContain('note\n')
    expect(text).toMatch(/a: 2 items in .* · done\n$/)
  })

  it('words rates and durations', () => {
    expect(describeRate(0, 10, 0, 'pairs')).toBe('starting')
    expect(describeRate(5, 10, 1, 'pairs')).toBe('5.0 pairs/s, 1.0 s left')
    expect(describeRate(1, 3, 4, 'steps')).toBe('4.0 s per step, 8.0 s left')
    expect(describeRate(4, 0, 2, 'groups')).toBe('2.0 groups/s')
    expect([4.21, 59.96, 185, 4320].map(duration)).toEqual(['4.2 s', '1 min 00 s', '3 min 05 s', '1 h 12 min'])
  })
})

describe('formatting', () => {
  it('aligns tables', () => {
    expect(
      formatTable(
        ['name', 'n'],
        [
          ['a', 1],
          ['long name', 20],
        ],
      ),
    ).toBe('name        n\n---------  --\na           1\nlong name  20')
  })

  it('shortens numbers', () => {
    expect([0, 512, 1536, 5 * 1024 ** 3].map(formatBytes)).toEqual(['0 B', '512 B', '1.5 KiB', '5.0 GiB'])
    expect(formatCount(1234567)).toBe('1 234 567')
    expect([0, 1.234e-5, Number.NaN, Number.POSITIVE_INFINITY].map(formatDifference)).toEqual([
      '0',
      '1.23e-5',
      '-',
      'Infinity',
    ])
  })
})
