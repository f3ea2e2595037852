/**
 * No file of code, tests or scripts is longer than a reader keeps in mind. Data do not count.
 *
 * Usage: node scripts/lint-length.mjs [root]
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { filesUnder, runLint } from './offences.mjs'

export const most = 500

const folders = ['bench', 'cmake', 'cuda', 'docs', 'models', 'native', 'scripts', 'src', 'test']
const sources = /\.(ts|mjs|cjs|js|h|cpp|cu|cuh|cmake|py|sh)$/

/** @returns {string[]} one `file:line: message` per offence */
export function findOffences(root) {
  return folders.flatMap((folder) =>
    filesUnder(join(root, folder), sources)
      .map((path) => ({ path: `${folder}/${path}`, count: linesOf(join(root, folder, path)) }))
      .filter(({ count }) => count > most)
      .map(
        ({ path, count }) => `${path}:${most + 1}: ${count} lines, ${most} at the most; split it by what it is about`,
      ),
  )
}

function linesOf(path) {
  return readFileSync(path, 'utf8').trimEnd().split('\n').length
}

runLint(import.meta.url, findOffences, 'length', `no file over ${most} lines`)
