/** `npm run docs`: writes the pages that are made from the code. Needs a build. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { referencePages } from '../dist/cli/reference.js'

const docs = fileURLToPath(new URL('../docs', import.meta.url))
for (const [path, content] of referencePages()) {
  mkdirSync(dirname(join(docs, path)), { recursive: true })
  writeFileSync(join(docs, path), content)
}
