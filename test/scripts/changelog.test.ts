import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
// @ts-expect-error a plain script without types
import { changelogProblem, formProblem } from '../../scripts/changelog.mjs'

const changelog = readFileSync(new URL('../../CHANGELOG.md', import.meta.url), 'utf8')
const released =
  '# Changelog\n\n## [Unreleased]\n\n## [1.1.0] - 2026-02-01\n\n### Training\n\n- b\n\n## [1.0.0] - 2026-01-01\n\n- a\n'

describe('the changelog', () => {
  it('has the form that a release asks for', () => {
    expect(formProblem(changelog)).toBeUndefined()
    expect(formProblem(released)).toBeUndefined()
  })

  it.each([
    ['a heading without brackets', '## 1.0.0 (unreleased)\n\n- a\n', /heading/],
    ['a version without a date', '## [1.0.0]\n\n- a\n', /no date/],
    ['an empty version', '## [1.0.0] - 2026-01-01\n', /nothing/],
  ])('is refused with %s', (_what, text, problem) => {
    expect(formProblem(text)).toMatch(problem)
  })

  it('lets its newest version be released, once everything stands below it', () => {
    expect(changelogProblem(released, '1.1.0')).toBeUndefined()
    expect(changelogProblem(released, '1.2.0')).toMatch(/newest version is 1.1.0, not 1.2.0/)
    expect(changelogProblem(released.replace('[Unreleased]\n', '[Unreleased]\n\n- c\n'), '1.1.0')).toMatch(/move/)
  })
})
