import { describe, expect, it, vi } from 'vitest'
import { formatBytes, formatCount, formatDifference, formatTable } from '../../src/cli/format.js'
import { createProgress, describeRate } from '../../src/cli/progress.js'
import { titled } from '../../src/stage/progress.js'
import { duration } from '../../src/text/duration.js'

function fakeStream(isTTY: boolean) {
  const written: string[] = []
  const stream = { isTTY, columns: 80, write: (text: string) => written.push(text), on: () => {} }
  return { written, stream: stream as unknown as NodeJS.WriteStream }
}

describe('progress', () => {
  it('prints plain lines, not too many, when the stream is no terminal', () => {
    vi.useFakeTimers()
    const { written, stream } = fakeStream(false)
    const progress = createProgress('text', stream)
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

  it('does not count what an earlier run did as speed', () => {
    vi.useFakeTimers()
    const { written, stream } = fakeStream(false)
    const progress = createProgress('text', stream)
    progress.start('training', 100, 'steps', 90)
    vi.advanceTimersByTime(6000)
    progress.update(92)
    progress.end()
    vi.useRealTimers()
    expect(written.slice(0, 2)).toEqual([
      'training: 100 steps, 90 done before\n',
      'training: 92/100 steps, 3.0 s per step, 24.0 s left\n',
    ])
    expect(written[2]).toBe('training: 2 steps in 6.0 s, 90 done before\n')
  })

  it('gives machines the numbers of an evaluation, and the level of a warning', () => {
    const { written, stream } = fakeStream(false)
    const progress = titled(createProgress('json', stream), { stage: 'train' })
    progress.start('', 4, 'steps', 2)
    progress.evaluated?.({ step: 2, eval_loss: 0.5 })
    progress.log('warning: 6 pairs\nleft out')
    const lines = written.map((line) => JSON.parse(line)).map(({ time: _, ...line }) => line)
    expect(lines.slice(1)).toEqual([
      {
        ...{ event: 'evaluation', stage: 'train', step: 2, total: 4, unit: 'steps' },
        metrics: { step: 2, eval_loss: 0.5 },
      },
      { event: 'log', level: 'warning', message: '6 pairs\nleft out' },
    ])
  })

  it('writes one JSON object a line for machines', () => {
    vi.useFakeTimers({ now: 1_800_000_000_000 })
    const { written, stream } = fakeStream(false)
    const progress = createProgress('json', stream)
    progress.log('a note\u001b[2J of\ntwo lines')
    progress.start('training', 4, 'steps', 1)
    vi.advanceTimersByTime(2000)
    progress.update(2, 'loss 0.5', { step: 2, loss: 0.5 })
    vi.advanceTimersByTime(10)
    progress.update(3)
    progress.update(4)
    progress.end()
    progress.start('import', 0, 'records')
    progress.end('none')
    vi.useRealTimers()
    const lines = written.map((line) => JSON.parse(line))
    for (const line of written) expect(line).toMatch(/^\{.*\}\n$/)
    expect(written.join('')).not.toContain('\u001b')
    const time = '2027-01-15T08:00:00.000Z'
    const training = { stage: 'training', total: 4, unit: 'steps' }
    expect(lines.slice(0, 3)).toEqual([
      { time, event: 'log', level: 'info', message: 'a note\u001b[2J of\ntwo lines' },
      { time, event: 'start', ...training, step: 1 },
      {
        ...{ time: '2027-01-15T08:00:02.000Z', event: 'progress', ...training, step: 2, rate: 0.5, eta: 4 },
        ...{ status: 'loss 0.5', metrics: { step: 2, loss: 0.5 } },
      },
    ])
    // Step 3 came within the same second; the last step is always told.
    expect(lines.slice(3).map(({ event, step, total }) => [event, step, total])).toEqual([
      ['progress', 4, 4],
      ['end', 4, 4],
      ['start', 0, null],
      ['end', 0, null],
    ])
    expect(lines.at(-1)).toMatchObject({ stage: 'import', rate: null, summary: 'none' })
  })

  it('tells machines the stage by its name, its part and its place among the others', () => {
    const { written, stream } = fakeStream(false)
    const progress = titled(createProgress('json', stream), { stage: 'round-1/pairs', number: 3, count: 11 })
    progress.start('', 2, 'answers')
    progress.start('perplexity', 2, 'pairs')
    const lines = written.map((line) => JSON.parse(line))
    const place = { stage: 'round-1/pairs', stageNumber: 3, stageCount: 11 }
    expect(lines[0]).toEqual({ time: lines[0].time, event: 'start', ...place, step: 0, total: 2, unit: 'answers' })
    expect(lines.map(({ stage, part }) => [stage, part])).toEqual([
      ['round-1/pairs', undefined],
      ['round-1/pairs', undefined],
      ['round-1/pairs', 'perplexity'],
    ])
    const people = fakeStream(false)
    titled(createProgress('text', people.stream), { stage: 'round-1/pairs' }).start('', 2, 'answers')
    titled(createProgress('text', people.stream), { stage: 'pairs', number: 3, count: 11 }).start('perplexity', 2)
    expect(people.written).toEqual(['round-1/pairs: 2 answers\n', '3/11 pairs: perplexity: 2 items\n'])
  })

  it('ends a bar with a line that stays', () => {
    const cursor = { cursorTo: () => {}, clearLine: () => {}, clearScreenDown: () => {}, moveCursor: () => {} }
    const { written, stream } = fakeStream(true)
    const progress = createProgress('text', Object.assign(stream, cursor))
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
    expect(describeRate({ rate: null, left: null, unit: 'pairs' })).toBe('starting')
    expect(describeRate({ rate: 5, left: 1, unit: 'pairs' })).toBe('5.0 pairs/s, 1.0 s left')
    expect(describeRate({ rate: 0.25, left: 8, unit: 'steps' })).toBe('4.0 s per step, 8.0 s left')
    expect(describeRate({ rate: 2, left: null, unit: 'groups' })).toBe('2.0 groups/s')
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
