import { describe, expect, it } from 'vitest'
import { toCsv } from '../../src/evaluate/page/csv.js'

describe('CSV', () => {
  it.each([
    ['a,b', '"a,b"'],
    ['say "no"', '"say ""no"""'],
    ['two\nlines', '"two\nlines"'],
    ['=1+1', "'=1+1"],
    ['@SUM(A1)', "'@SUM(A1)"],
    ['-x', "'-x"],
    ['\t=1', "'\t=1"],
    ['+1,2', '"\'+1,2"'],
    [-0.5, '-0.5'],
    [Number.NaN, ''],
    [null, ''],
  ])('writes %j as %s', (cell, written) => {
    expect(toCsv([{ text: cell, end: 1 }])).toBe(`text,end\r\n${written},1\r\n`)
  })
})
