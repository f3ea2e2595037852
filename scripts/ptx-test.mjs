/**
 * Runs nvcc's own PTX of every kernel under the emulator, with the tests of the operations (test/simt/README.md): what inline
 * assembly, shared addresses and `__CUDA_ARCH__` became is then executed before a GPU does. The wrappers of inline PTX are also
 * held against their C++ twins, and with two operands of an instruction exchanged, which must be noticed. Needs nvcc and g++,
 * not a GPU. The last line is `N passed, N failed`.
 *
 * Usage: node scripts/ptx-test.mjs [--require] [--build <folder>] [--only <name>]... [--all-mutants] [<word>...]
 *   --require       fail where nvcc is not found (as with CI=true), instead of saying so
 *   --build         a configured build folder (build)
 *   --only          the kernels of cuda/<name>.cu only
 *   --all-mutants   every pair of operands, not only the last one of an instruction
 *   <word>          the tests whose names have it, instead of all
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { cudaFiles, root } from './cuda-sources.mjs'
import { compilePtx, findNvcc, inParallel, run } from './nvcc.mjs'
import { findBranches, findInstructions, findSwaps } from './ptx-mutations.mjs'
import { translate } from './ptx-to-cpp.mjs'

/** Of all architectures the one with most instructions of its own. */
const chip = '90a'

/** The program with a kernel for each wrapper of inline PTX: it compares with what the sources answer. */
const wrappers = 'wrapper_goldens'
const wrapperSource = 'test/gpu/wrapper_goldens.cu'
const wrapperHeaders = ['cuda/ptx.cuh', 'cuda/hopper.cuh', 'cuda/wgmma.cuh']
const modes = ['fifo', 'lifo', 'random:1'].flatMap((schedule) =>
  ['lazy', 'eager'].map((async) => ({ schedule, async })),
)

/** Programs that run beside each other: the words of their tests. */
const halves = [
  ['op/lora_linear', 'op/linear_branches'],
  ['-op/lora_linear', '-op/linear_branches'],
]

/** The translation of one source into a folder; files that stay the same are not touched. */
async function translateInto(folder, compiler, source, overlay) {
  const ptx = readFileSync(await compilePtx(compiler, source, chip, overlay), 'utf8')
  let files
  try {
    files = translate(ptx)
  } catch (error) {
    throw new Error(`${source}: ${error.message}`, { cause: error })
  }
  mkdirSync(folder, { recursive: true })
  const names = files.map((cpp, i) => {
    const path = join(folder, `${basename(source, '.cu')}_${i}.cpp`)
    if (!existsSync(path) || readFileSync(path, 'utf8') !== cpp) writeFileSync(path, cpp)
    return path
  })
  return names
}

function removeOthers(folder, keep) {
  for (const name of existsSync(folder) ? readdirSync(folder) : []) {
    if (!keep.has(join(folder, name))) rmSync(join(folder, name), { recursive: true })
  }
}

/** @returns {Promise<{ name: string, id: string }[]>} the mutants */
async function translateAll(compiler, folder, kernels, allMutants) {
  const tasks = kernels.map((source) => () => translateInto(join(folder, 'kernels'), compiler, source))
  const headers = wrapperHeaders.map((header) => ({ header, text: readFileSync(join(root, header), 'utf8') }))
  tasks.push(async () => {
    checkInstructions(readFileSync(await compilePtx(compiler, wrapperSource, chip), 'utf8'), headers)
    return translateInto(join(folder, wrappers), compiler, wrapperSource)
  })
  const mutants = headers
    .flatMap(({ header, text }) =>
      [...findSwaps(header, text), ...findBranches(header, text)].map((change) => ({ header, ...change })),
    )
    .map((change, i) => ({ ...change, name: `${wrappers}_mutant_${i}` }))
    .filter(({ last }) => last || allMutants)
  for (const { name, header, text } of mutants) {
    const overlay = join(compiler.cache, name)
    mkdirSync(join(overlay, dirname(header)), { recursive: true })
    writeFileSync(join(overlay, header), text)
    tasks.push(() => translateInto(join(folder, name), compiler, wrapperSource, overlay))
  }
  const made = await inParallel(tasks)
  removeOthers(join(folder, 'kernels'), new Set(made.flat()))
  const names = ['kernels', wrappers, ...mutants.map(({ name }) => name)]
  removeOthers(folder, new Set(names.map((name) => join(folder, name))))
  return mutants
}

/** Every instruction of the headers has to be in the program of their wrappers, and its kernels are launched as all are. */
function checkInstructions(ptx, headers) {
  for (const { header, text } of headers) {
    const missing = findInstructions(text).filter((opcode) => !ptx.includes(opcode))
    const but = missing.length === 0 ? '' : `, but not ${missing.join(', ')}`
    tell(missing.length === 0, `${wrapperSource} has every instruction of ${header}${but}`)
  }
  const hasty = ptx
    .split('.entry ')
    .slice(1)
    .filter((kernel) => !kernel.includes('griddepcontrol.wait'))
  const but =
    hasty.length === 0 ? '' : `, but not ${hasty.map((kernel) => kernel.slice(0, kernel.indexOf('('))).join(', ')}`
  tell(hasty.length === 0, `every kernel of ${wrapperSource} begins with gpu::begin_kernel${but}`)
}

const count = { passed: 0, failed: 0 }

function tell(passed, text) {
  count[passed ? 'passed' : 'failed']++
  console.log(`${passed ? 'ok    ' : 'FAILED'} ${text}`)
}

/** Adds the counts of a program to ours. */
function add({ status, output }) {
  console.log(output.trimEnd())
  const [, passed, failed] = /(\d+) passed, (\d+) failed\s*$/.exec(output) ?? [null, '0', '0']
  count.passed += Number(passed)
  count.failed += Math.max(Number(failed), status === 0 ? 0 : 1)
}

/** The wrappers as they are must be right in every mode, and no mutant may be. */
async function checkWrappers(build, mutants) {
  const goldens = join(build, 'ptx', `${wrappers}.txt`)
  const { status, output } = await run(join(build, `simt_${wrappers}`), ['--out', goldens])
  if (status !== 0) throw new Error(output)
  const check = (program, options) => run(join(build, `ptx_${program}`), ['--check', goldens], options)
  for (const { schedule, async } of modes) {
    const env = { ...process.env, FIRE_SIMT_SCHEDULE: schedule, FIRE_SIMT_ASYNC: async }
    const { status, output } = await check(wrappers, { env })
    tell(status === 0, `${wrapperSource}, ${schedule}, ${async} copies${status === 0 ? '' : `:\n${output}`}`)
  }
  const tasks = mutants.map(({ name, id }) => async () => {
    const { status } = await check(name, { timeout: 120_000 })
    tell(status !== 0, `${id}: ${status !== 0 ? 'noticed' : 'NOT NOTICED'}`)
  })
  await inParallel(tasks)
}

/** Tells how long each step took. */
function stopwatch() {
  let begin = Date.now()
  return (step) => {
    console.log(`${step}: ${((Date.now() - begin) / 1000).toFixed(0)} s`)
    begin = Date.now()
  }
}

async function main() {
  const { values, positionals } = parseArgs({
    options: {
      require: { type: 'boolean', default: process.env.CI === 'true' },
      build: { type: 'string', default: join(root, 'build') },
      only: { type: 'string', multiple: true },
      'all-mutants': { type: 'boolean', default: false },
    },
    allowPositionals: true,
  })
  const found = findNvcc()
  if (!found) {
    console.log('ptx: nvcc was not found (PATH, CUDACXX), so no PTX was run')
    return values.require ? 1 : 0
  }
  const sources = cudaFiles('.cu').filter((file) => !values.only || values.only.includes(basename(file, '.cu')))
  const cache = join(values.build, 'kernels')
  mkdirSync(cache, { recursive: true })
  const paths = sources.map((file) => join('cuda', file))
  const clock = stopwatch()
  const mutants = await translateAll(
    { ...found, cache },
    join(values.build, 'ptx', 'cpp'),
    paths,
    values['all-mutants'],
  )
  clock('nvcc and translation')
  const built = await run('cmake', ['--build', values.build, '--parallel', '2', '--target', 'ptx_programs'])
  if (built.status !== 0) throw new Error(built.output)
  clock('build')
  await checkWrappers(values.build, mutants)
  clock('wrappers')
  const words = positionals.length > 0 ? [positionals] : halves
  const runs = await inParallel(words.map((some) => () => run(join(values.build, 'ptx_kernels'), some)))
  for (const one of runs) add(one)
  clock('tests of operations')
  console.log(`${count.passed} passed, ${count.failed} failed`)
  return count.failed === 0 ? 0 : 1
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.exitCode = await main().catch((error) => {
    console.error(error.message)
    console.log('0 passed, 1 failed')
    return 1
  })
}
