/**
 * `npm run test:arm64`: the C++ tests and the golden folders for arm64 (the NEON kernels), f32 and bf16: compiled by the cross
 * compiler, run under qemu-user. Where those are not installed it says so and ends well; with CI=true it fails. The last
 * line is `N passed, N failed`.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { arm64Tree, buildTarget, crossCompiler, has, root } from './native.mjs'
import { countCtest } from './test-counts.mjs'

const debian = { [crossCompiler]: 'g++-aarch64-linux-gnu', 'qemu-aarch64': 'qemu-user' }
const missing = Object.keys(debian).filter((program) => !has(program))
if (missing.length > 0) {
  const packages = missing.map((program) => debian[program]).join(' ')
  console.log(`skipped: ${missing.join(' and ')} not found. Debian: sudo apt-get install -y ${packages}`)
  process.exit(process.env.CI ? 1 : 0)
}

const junit = join(arm64Tree.folder, 'ctest.xml')
const sizes = ['--test-output-size-passed', '1000000', '--test-output-size-failed', '1000000']
// An emulated processor on a busy machine takes longer than the 25 minutes that ctest allows a program.
const flags = ['--output-on-failure', '--no-tests=error', '--timeout', '7200', ...sizes]
const ctest = ['--test-dir', arm64Tree.folder, ...flags, '--output-junit', junit]
const passed =
  buildTarget(arm64Tree, 'fire_tests') && spawnSync('ctest', ctest, { cwd: root, stdio: 'inherit' }).status === 0
const counts = existsSync(junit) ? countCtest(readFileSync(junit, 'utf8')) : { passed: 0, failed: 0 }
if (!passed && counts.failed === 0) counts.failed = 1
console.log(`\n${counts.passed} passed, ${counts.failed} failed`)
process.exitCode = counts.failed === 0 ? 0 : 1
