/**
 * `npm run test:kernels`: the slow proof of the GPU kernels, without a GPU. Every schedule of the emulator, then
 * AddressSanitizer with UndefinedBehaviorSanitizer, then ThreadSanitizer with blocks in order and all at once; the
 * emulator's own planted faults under each; nvcc's own PTX where nvcc is. `--mutations` removes each barrier in turn on top
 * (see simt-mutations.mjs; the arguments behind it go there). The last line is `N passed, N failed`.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const build = join(root, 'build', 'kernels')
const total = { passed: 0, failed: 0 }

function run(title, command, args, env = {}) {
  console.log(`\n── ${title}`)
  const { status, stdout, error } = spawnSync(command, args, {
    cwd: root,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  })
  const lines = (stdout ?? '').trimEnd().split('\n')
  console.log(lines.slice(-40).join('\n'))
  if (error) console.error(error.message)
  const [, passed, failed] = /^(\d+) passed, (\d+) failed$/.exec(lines.at(-1)) ?? [null, '0', '0']
  total.passed += Number(passed)
  total.failed += Math.max(Number(failed), status === 0 ? 0 : 1)
  return status === 0
}

const suffixes = ['', '_asan', '_tsan']
const programs = suffixes.flatMap((suffix) => [`simt_test${suffix}`, `simt_selftest${suffix}`])
const configured = run('configure', 'cmake', ['-S', root, '-B', build, '-G', 'Ninja', '-DFIRE_CUDA=OFF'])
if (configured && run('build', 'cmake', ['--build', build, '--target', 'simt_verify', ...programs])) {
  const program = (name) => join(build, name)
  for (const suffix of suffixes) run(`planted faults${suffix}`, program(`simt_selftest${suffix}`), [])
  for (const schedule of ['fifo', 'lifo', 'random:1', 'random:2']) {
    for (const async of ['lazy', 'eager']) {
      const env = { FIRE_SIMT_SCHEDULE: schedule, FIRE_SIMT_ASYNC: async }
      run(`kernels, ${schedule}, ${async} copies`, program('simt_test'), [], env)
    }
  }
  run('kernels under address and undefined behaviour sanitizers', program('simt_test_asan'), [], {
    ASAN_OPTIONS: 'detect_leaks=0',
    UBSAN_OPTIONS: 'print_stacktrace=1',
  })
  for (const blocks of ['ordered', 'unordered']) {
    const env = { FIRE_SIMT_SCHEDULE: 'random:1', FIRE_SIMT_BLOCKS: blocks }
    run(`kernels under the thread sanitizer, blocks ${blocks}`, program('simt_test_tsan'), [], env)
  }
  const ptx = [join(root, 'scripts', 'ptx-test.mjs'), '--build', build, '--all-mutants']
  run("nvcc's own PTX, lifo, eager copies", process.execPath, ptx, {
    FIRE_SIMT_SCHEDULE: 'lifo',
    FIRE_SIMT_ASYNC: 'eager',
  })
  const golden = join(root, 'test', 'golden')
  const folders = readdirSync(golden)
    .map((name) => join(golden, name))
    .filter((folder) => existsSync(join(folder, 'golden.json')))
  for (const dtype of ['f32', 'bf16']) {
    const env = { FIRE_SIMT_SCHEDULE: 'lifo' }
    run(`golden folders, ${dtype}`, program('simt_verify'), [...folders, '--device', 'cuda', '--dtype', dtype], env)
  }
}
const at = process.argv.indexOf('--mutations')
if (at >= 0) {
  const args = [join(root, 'scripts', 'simt-mutations.mjs'), ...process.argv.slice(at + 1)]
  run('barriers removed in turn', process.execPath, args)
}
console.log(`\n${total.passed} passed, ${total.failed} failed`)
process.exitCode = total.failed === 0 ? 0 : 1
