/**
 * Makes a fresh clone ready: compilers, npm packages, the addon, the compiled TypeScript. What is there already is left
 * alone, so running it again costs a second. Used by `npm run demo` and `npm test`; needs Node and npm, nothing else.
 */
import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, rmSync, symlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')

/** Debian's package for each program the build runs. */
const tools = { 'g++': 'g++', cmake: 'cmake', ninja: 'ninja-build' }

/** `--lint`: what the tests check formatting and pages with, and start ranks with; where they cannot be had those are skipped. */
const lintTools = {
  'clang-format': 'clang-format',
  chromium: 'chromium',
  mpicc: 'libopenmpi-dev',
  mpirun: 'openmpi-bin',
}

const install = ['install', '-y', '-qq', '--no-install-recommends']

function has(program) {
  return spawnSync(program, ['--version'], { stdio: 'ignore' }).status === 0
}

function attempt(command, args) {
  return spawnSync(command, args, { cwd: root, stdio: 'inherit' })
}

function run(command, args) {
  const { status, error } = attempt(command, args)
  if (status !== 0) fail(`${command} ${args.join(' ')} failed${error ? `: ${error.message}` : ''}`)
}

function fail(message) {
  console.error(message)
  process.exit(1)
}

/** Installs what is missing where we may (root on Debian or Ubuntu), else asks for it in one line. */
function installTools() {
  const missing = packagesOf(tools)
  const wished = process.argv.includes('--lint') ? packagesOf(lintTools) : []
  if (missing.length + wished.length === 0) return
  if (process.getuid?.() !== 0 || !has('apt-get')) {
    if (missing.length === 0) return
    fail(`${missing.join(', ')} not found. Install and run this again:  sudo apt-get install -y ${missing.join(' ')}`)
  }
  run('apt-get', ['update', '-qq'])
  if (missing.length > 0) run('apt-get', [...install, ...missing])
  // Ubuntu has no package of some.
  for (const name of wished) attempt('apt-get', [...install, name])
}

function packagesOf(wanted) {
  return Object.keys(wanted)
    .filter((program) => !has(program))
    .map((program) => wanted[program])
}

/** For `npx fire-train` in the clone. Without it npx looks into its cache, which has no command if it was filled before the build. */
function linkCommand() {
  const link = join(root, 'node_modules', '.bin', 'fire-train')
  const command = join('..', '..', 'dist', 'cli', 'main.js')
  chmodSync(join(dirname(link), command), 0o755)
  if (existsSync(link)) return
  rmSync(link, { force: true })
  symlinkSync(command, link)
}

installTools()
if (!existsSync(join(root, 'node_modules', '.package-lock.json'))) run('npm', ['ci', '--no-audit', '--no-fund'])
run('npm', ['run', '--silent', 'build'])
linkCommand()
