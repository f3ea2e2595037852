/**
 * `npm test`: builds what is missing, then lint, types, pages of the library, C++ tests (GPU kernels under the emulator among
 * them), the kernels' resource budget and their PTX where nvcc is, and TypeScript tests; every part runs even when one before it
 * failed. The last line is `N passed, N failed`, where each check, C++ test and TypeScript test counts as one.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { countCtest, countVitest } from './test-counts.mjs'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const scratch = mkdtempSync(join(tmpdir(), 'fire-train-counts-'))
const bin = (name) => join(root, 'node_modules', '.bin', name)
const total = { passed: 0, failed: 0 }

function heading(title) {
  console.log(`\n── ${title}`)
}

function execute(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit' })
  if (error) console.error(error.message)
  return status === 0
}

function add(counts) {
  total.passed += counts.passed
  total.failed += counts.failed
}

/** A step with no count of its own. */
function check(title, command, args) {
  heading(title)
  const passed = execute(command, args)
  add(passed ? { passed: 1, failed: 0 } : { passed: 0, failed: 1 })
}

/** A test runner that reports counts; a runner that broke down counts as one failure. */
function suite(title, command, args, read) {
  heading(title)
  const passed = execute(command, args)
  const counts = read()
  if (!passed && counts.failed === 0) counts.failed = 1
  add(counts)
}

check('lint', process.execPath, [join(root, 'scripts', 'lint.mjs')])
check('types', bin('tsc'), ['--noEmit'])
check('build: typescript', bin('tsc'), ['-p', 'tsconfig.build.json'])
check('api pages: comments and links', bin('typedoc'), ['--emit', 'none'])
if (existsSync(join(root, 'CMakeLists.txt'))) {
  check('build: native', bin('cmake-js'), ['build'])
  check('build: c++ tests', 'cmake', ['--build', 'build', '--target', 'fire_tests'])
  const junit = join(scratch, 'ctest.xml')
  const sizes = ['--test-output-size-passed', '1000000', '--test-output-size-failed', '1000000']
  const ctest = ['--test-dir', 'build', '--output-on-failure', '--no-tests=error', ...sizes, '--output-junit', junit]
  suite('c++ tests', 'ctest', ctest, () => countCtest(readText(junit)))
}
check('kernels for sm_80 and sm_90a: warnings, registers, spills, instructions', process.execPath, [
  join(root, 'scripts', 'cuda-budget.mjs'),
  '--cache',
  join(root, 'build', 'budget'),
])
check("nvcc's own PTX of the kernels under the emulator", process.execPath, [join(root, 'scripts', 'ptx-test.mjs')])
const json = join(scratch, 'vitest.json')
const vitest = ['run', '--reporter=default', '--reporter=json', `--outputFile.json=${json}`]
suite('typescript tests', bin('vitest'), vitest, () => countVitest(readText(json)))

rmSync(scratch, { recursive: true, force: true })
console.log(`\n${total.passed} passed, ${total.failed} failed`)
process.exitCode = total.failed === 0 ? 0 : 1

function readText(path) {
  return existsSync(path) ? readFileSync(path, 'utf8') : ''
}
