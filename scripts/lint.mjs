/**
 * All static checks: Biome, unused code (knip), the dependency arrows, names, returned promises, lengths of files, clang-format
 * where it is installed.
 * `--fix-native` formats the C++ instead of checking it.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const bin = (name) => join(root, 'node_modules', '.bin', name)

function run(title, command, args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit' })
  if (error) console.error(`${title}: ${error.message}`)
  return status === 0
}

function nativeFiles() {
  return [
    'native',
    'cuda',
    'bench/gpu',
    'test/cuda',
    'test/gpu',
    'test/mpi',
    'test/native',
    'test/nccl',
    'test/ops',
    'test/simt',
  ]
    .filter((folder) => existsSync(join(root, folder)))
    .flatMap((folder) =>
      readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile() && /\.(h|cpp|cu|cuh)$/.test(entry.name))
        .map((entry) => join(entry.parentPath, entry.name)),
    )
}

/** Versions of clang-format disagree about details; Debian 12's is ours. */
const clangFormatVersion = 14

function hasClangFormat() {
  const { stdout } = spawnSync('clang-format', ['--version'], { encoding: 'utf8' })
  return Number(/version (\d+)/.exec(stdout ?? '')?.[1]) === clangFormatVersion
}

if (process.argv.includes('--fix-native')) {
  process.exit(run('clang-format', 'clang-format', ['-i', ...nativeFiles()]) ? 0 : 1)
}

const results = [
  run('biome', bin('biome'), ['check', '--error-on-warnings', '.']),
  run('knip', bin('knip'), ['--no-progress']),
  run('dependencies', process.execPath, [join(root, 'scripts', 'lint-dependencies.mjs')]),
  run('names', process.execPath, [join(root, 'scripts', 'lint-names.mjs')]),
  run('returns', process.execPath, [join(root, 'scripts', 'lint-returns.mjs')]),
  run('length', process.execPath, [join(root, 'scripts', 'lint-length.mjs')]),
]
const sources = nativeFiles()
if (sources.length > 0 && hasClangFormat()) {
  results.push(run('clang-format', 'clang-format', ['--dry-run', '-Werror', ...sources]))
} else if (sources.length > 0) {
  console.log(`clang-format ${clangFormatVersion} is not installed: C++ formatting was not checked`)
}
process.exit(results.every(Boolean) ? 0 : 1)
