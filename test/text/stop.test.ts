import { describe, expect, it } from 'vitest'
import { StopCutter } from '../../src/text/stop.js'

const cut = (stops: string[], pieces: string[]): string[] => {
  const cutter = new StopCutter(stops)
  return [...pieces.map((piece) => cutter.push(piece)), cutter.end()]
}

describe('StopCutter', () => {
  it.each([
    [['\n\n'], ['a\n', '\nb'], ['a', '', '']],
    [['\n\n'], ['a\n', 'b\n'], ['a', '\nb', '\n']],
    [['stop'], ['no st', 'art, s', 'to', 'p here'], ['no ', 'start, ', '', '']],
    [
      ['abcd', 'bc'],
      ['a', 'bc', 'd'],
      ['', 'a', ''],
    ],
    [
      ['bc', 'ab'],
      ['xabc', 'more'],
      ['x', ''],
    ],
    [[], ['a', 'b'], ['a', 'b']],
  ])('%j in %j', (stops, pieces, out) => {
    expect(cut(stops, pieces).slice(0, out.length)).toEqual(out)
    expect(cut(stops, pieces).slice(out.length).join('')).toBe('')
  })

  it('gives the same text whether characters come one by one or two by two', () => {
    const text = 'the left lung and the right'
    for (const [stop, left] of [
      ['lung', 'the left '],
      ['the', ''],
      ['ght', 'the left lung and the ri'],
      ['none', text],
    ]) {
      expect(cut([stop], [...text]).join('')).toBe(left)
      expect(cut([stop], text.match(/..?/g) as string[]).join('')).toBe(left)
    }
  })
})
