/** The form of CHANGELOG.md (keepachangelog.com): newest first, `## [1.2.3] - 2026-01-31`, what is not released under `## [Unreleased]`. Below a version the sections are parts of the program. */

/** Versions in their order, `Unreleased` among them, each with its date and text. */
export function releasesOf(changelog) {
  const parts = changelog.split(/^## /m).slice(1)
  return parts.map((part) => {
    const [, version, date] = /^\[([^\]]+)\](?: - (\S+))?\n/.exec(part) ?? []
    return { version, date, text: part.slice(part.indexOf('\n') + 1).trim() }
  })
}

/** What hinders the release of a version, or undefined. */
export function changelogProblem(changelog, version) {
  const malformed = formProblem(changelog)
  if (malformed) return malformed
  const [first, second] = releasesOf(changelog)
  const newest = first?.version === 'Unreleased' ? second : first
  if (first?.version === 'Unreleased' && first.text !== '') return `move what is unreleased to "## [${version}] - DATE"`
  if (newest?.version !== version) return `its newest version is ${newest?.version}, not ${version}`
  return undefined
}

/** What is wrong with its form, or undefined. */
export function formProblem(changelog) {
  const releases = releasesOf(changelog)
  for (const { version, date, text } of releases) {
    if (version === undefined) return 'a heading is not "## [VERSION] - DATE"'
    if (version !== 'Unreleased' && !/^\d{4}-\d\d-\d\d$/.test(date ?? '')) return `${version} has no date`
    if (text === '' && version !== 'Unreleased') return `${version} says nothing`
  }
  return undefined
}
