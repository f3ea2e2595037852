import { describe, expect, it } from 'vitest'
// @ts-expect-error a plain script without types
import { countCtest, countVitest } from '../../scripts/test-counts.mjs'

describe('test counts', () => {
  it('adds up what C++ test programs print, and counts silent ones as one', () => {
    const junit = `<testsuite><testcase name="a" status="run"><system-out>ok
12 passed, 0 failed
</system-out></testcase><testcase name="b" status="fail"><failure message=""/><system-out>3 passed, 2 failed
</system-out></testcase><testcase name="c" status="run"><system-out></system-out></testcase><testcase name="d" status="fail"><system-out>boom</system-out></testcase></testsuite>`
    expect(countCtest(junit)).toEqual({ passed: 16, failed: 3 })
  })

  it('reads the summary of vitest, a file that did not load included', () => {
    expect(countVitest('{"numPassedTests": 5, "numFailedTests": 0, "numFailedTestSuites": 1}')).toEqual({
      passed: 5,
      failed: 1,
    })
    expect(countVitest('')).toEqual({ passed: 0, failed: 0 })
  })
})
