/** `npm run docs`: writes the pages that are made from the code. `--check` only says which are not up to date. Needs a build. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { referencePages } from '../dist/cli/reference.js'

const docs = fileURLToPath(new URL('../docs', import.meta.url))
const stale = [...referencePages()]
  .map(([name, content]) => ({ name, path: join(docs, name), content }))
  .filter(({ path, content }) => !existsSync(path) || readFileSync(path, 'utf8') !== content)

if (process.argv.includes('--check')) {
  for (const { name } of stale) console.error(`docs/${name} is not what the code says: npm run docs`)
  process.exit(stale.length === 0 ? 0 : 1)
}
for (const { path, content } of stale) {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, content)
}
