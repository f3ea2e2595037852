/** The sources of the GPU backend and what they include. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = join(dirname(fileURLToPath(import.meta.url)), '..')

/** Names in cuda/ with this ending, sorted. */
export function cudaFiles(...endings) {
  return readdirSync(join(root, 'cuda'))
    .filter((name) => endings.some((ending) => name.endsWith(ending)))
    .sort()
}

/**
 * A source and all headers of ours that it includes, as paths from the root.
 *
 * @returns {Set<string>}
 */
export function sourcesOf(file, found = new Set()) {
  if (found.has(file)) return found
  found.add(file)
  for (const [, name] of readFileSync(join(root, file), 'utf8').matchAll(/^#\s*include "([^"]+)"/gm)) {
    const path = [name, join('native', name)].find((candidate) => existsSync(join(root, candidate)))
    if (path) sourcesOf(path, found)
  }
  return found
}
