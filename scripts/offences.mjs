/** What the lints of this folder share: which files they read, and how offences are said. */
import { existsSync, readdirSync } from 'node:fs'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

/** @returns {string[]} files below `folder` whose names fit, as seen from there, with / between folders */
export function filesUnder(folder, pattern) {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && pattern.test(entry.name))
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)).split(sep).join('/'))
    .sort()
}

/** Runs the lint whose module has this `url`, if that was started as a program: `node scripts/lint-….mjs [root]`. */
export function runLint(url, findOffences, title, whenNone) {
  const file = fileURLToPath(url)
  if (!process.argv[1] || resolve(process.argv[1]) !== file) return
  const offences = findOffences(resolve(process.argv[2] ?? join(dirname(file), '..')))
  for (const offence of offences) console.error(offence)
  console.log(`${title}: ${offences.length === 0 ? whenNone : `${offences.length} offences`}`)
  process.exitCode = offences.length === 0 ? 0 : 1
}
