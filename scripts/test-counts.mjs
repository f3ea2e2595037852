/** Reads how many tests passed and failed from what the runners write. */

/**
 * A C++ test program prints `N passed, N failed` as its last line; ctest keeps that output in its JUnit file. Programs
 * that print no such line count as one test each.
 */
export function countCtest(junit) {
  const counts = { passed: 0, failed: 0 }
  for (const [, status, body] of junit.matchAll(/<testcase\b[^>]*\bstatus="(\w+)"[^>]*>([\s\S]*?)<\/testcase>/g)) {
    const own = [...body.matchAll(/(?:^|>)(\d+) passed, (\d+) failed/gm)].at(-1)
    const failed = own ? Number(own[2]) : 0
    counts.passed += own ? Number(own[1]) : Number(status === 'run')
    counts.failed += status === 'fail' ? Math.max(1, failed) : failed
  }
  return counts
}

export function countVitest(json) {
  if (json === '') return { passed: 0, failed: 0 }
  const { numPassedTests, numFailedTests, numFailedTestSuites } = JSON.parse(json)
  return { passed: numPassedTests, failed: Math.max(numFailedTests, numFailedTestSuites > 0 ? 1 : 0) }
}
