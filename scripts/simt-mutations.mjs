/**
 * Would the tests notice a missing barrier? Takes one barrier, fence, arrival or wait for what is asynchronous out of the
 * kernels at a time and runs the family's tests under the emulator: three orders of threads, then ThreadSanitizer. A
 * mutant that no run notices fails, unless test/cuda/mutations.json says why nothing can change. Slow (a compilation and
 * up to five runs a mutant): for changed kernels, not for every commit. Ends with `N passed, N failed`.
 *
 * Usage: node scripts/simt-mutations.mjs [--only <file>]... [--list] [--build <folder>]
 *   --only    a file of cuda/, for instance gemm.cuh; may be given again
 *   --list    print the mutants and stop
 *   --build   keep the two builds (plain/ and thread/) there
 *
 * An entry of mutations.json: { "mutant": <as printed>, "reason": "..." }.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { cudaFiles, root, sourcesOf } from './cuda-sources.mjs'

const acceptedFile = join('test', 'cuda', 'mutations.json')

/** The wrappers themselves: what they do is the emulator's business (test/simt). */
const wrappers = ['gpu.h', 'ptx.cuh', 'hopper.cuh', 'wgmma.cuh']

/** Kernel families whose cases have other names. */
const casesOf = { gemm: ['matmul', 'lora', 'branches'], rope: ['rope', 'norm'] }

const runs = [
  { build: 'plain', schedule: 'fifo' },
  { build: 'plain', schedule: 'lifo' },
  { build: 'plain', schedule: 'random:1' },
  { build: 'thread', schedule: 'random:1' },
  { build: 'thread', schedule: 'fifo' },
]
const secondsForHang = 60

/** Names of cuda/ptx.cuh, hopper.cuh and wgmma.cuh, by what follows them: (), <groups>() or arguments. */
const bare = 'cp_async_commit|wgmma_fence|wgmma_commit|tma_store_commit|fence_async_shared|fence_mbarrier_init'
const waits = 'cp_async_wait|wgmma_wait|tma_store_wait|tma_store_wait_read'
const others = 'mbarrier_wait|mbarrier_arrive|named_barrier_sync|named_barrier_arrive'
const nested = '(?:[^()]|\\((?:[^()]|\\([^()]*\\))*\\))*'
const barrier = new RegExp(
  [
    '__syncthreads\\s*\\(\\s*\\)',
    '__syncwarp\\s*\\([^()]*\\)',
    `(?:ptx::)?\\b(?:${bare})\\s*\\(\\s*\\)`,
    `(?:ptx::)?\\b(?:${waits})\\s*<([^<>]*)>\\s*\\(\\s*\\)`,
    `(?:ptx::)?\\b(?:${others})\\s*\\(${nested}\\)`,
  ].join('|'),
  'g',
)

/**
 * @typedef {{ file: string, id: string, text: string }} Mutant `text` is the whole changed file
 *
 * @param {string} file as printed
 * @param {string} source
 * @returns {Mutant[]}
 */
export function findMutants(file, source) {
  const mutants = []
  const seen = new Map()
  const add = (at, call, replacement, change) => {
    const plain = `${file}: ${change} after "${codeBefore(source, at)}"`
    const count = (seen.get(plain) ?? 0) + 1
    seen.set(plain, count)
    const id = count === 1 ? plain : `${plain} (${count})`
    mutants.push({ file, id, text: source.slice(0, at) + replacement + source.slice(at + call.length) })
  }
  for (const match of source.matchAll(barrier)) {
    const [call, waitFor] = match
    if (isInComment(source, match.index)) continue
    add(match.index, call, 'static_cast<void>(0)', `no ${call}`)
    if (waitFor !== undefined) {
      const relaxed = call.replace(`<${waitFor}>`, `<(${waitFor.trim()}) + 1>`)
      add(match.index, call, relaxed, `${relaxed} for ${call}`)
    }
  }
  return mutants
}

function isInComment(source, at) {
  return source.slice(source.lastIndexOf('\n', at) + 1, at).includes('//')
}

/** What stands in front on the same line, or else the last line of code before it: it moves with the code. */
function codeBefore(source, at) {
  const lines = source.slice(0, at).split('\n')
  return lines.map((line) => line.replace(/\/\/.*/, '').trim()).findLast((line) => line !== '') ?? ''
}

/** Compiled once: the emulator and the kernels, as in the ordinary build. */
function build(kind, folder) {
  const directory = join(folder, kind)
  const flags = kind === 'plain' ? [] : [`-fsanitize=${kind}`, '-g']
  must('cmake', ['-S', root, '-B', directory, '-G', 'Ninja', '-DFIRE_CUDA=OFF', `-DCMAKE_CXX_FLAGS=${flags.join(' ')}`])
  must('cmake', ['--build', directory, '--target', 'fire_simt', 'fire_core'])
  const commands = JSON.parse(readFileSync(join(directory, 'compile_commands.json'), 'utf8'))
  return { kind, directory, commands, flags }
}

function must(command, args, options = {}) {
  const { status, error, stdout, stderr } = spawnSync(command, args, { cwd: root, encoding: 'utf8', ...options })
  if (error) throw error
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} failed:\n${stdout}${stderr}`)
}

/**
 * `gemm.cu` and `gemm_wide.cu` are tested by test/ops/cases/gemm.cpp and, where they are there, test/ops/gemm_test.cpp,
 * test/cuda/gemm_test.cpp and test/cuda/gemm_<anything>_test.cpp.
 */
function testObjects({ directory }, kernels) {
  const families = new Set(kernels.map((kernel) => basename(kernel, '.cu').split('_')[0]))
  const names = [...families].flatMap((family) => casesOf[family] ?? [family])
  const ops = join('test', 'ops')
  const cases = names.map((name) => join(ops, 'cases', `${name}.cpp`))
  const missing = cases.find((file) => !existsSync(join(root, file)))
  if (missing) throw new Error(`${missing} is not there, so nothing tests ${kernels.join(', ')}`)
  const below = readdirSync(join(root, 'test', 'cuda')).filter(
    (file) => file.endsWith('_test.cpp') && families.has(file.split('_')[0]),
  )
  const tests = [
    ...names.map((name) => join(ops, `${name}_test.cpp`)).filter((file) => existsSync(join(root, file))),
    ...below.map((file) => join('test', 'cuda', file)),
  ]
  const object = (target, file) => join('CMakeFiles', `${target}.dir`, `${file}.o`)
  const objects = [
    ...[join(ops, 'case.cpp'), ...cases].map((file) => object('fire_op_cases', file)),
    ...[join(ops, 'run.cpp'), join('test', 'native', 'check_main.cpp'), ...tests].map((file) =>
      object('simt_test', file),
    ),
    object('fire_device_simt', join('native', 'engine', 'device.cpp')),
  ]
  must('cmake', ['--build', directory, '--target', ...objects])
  return objects.map((file) => join(directory, file))
}

/**
 * The tests of these kernels with the kernels compiled anew, files under `overlay` first. Their objects stand in front of
 * the library that holds the originals, so the linker never looks at those.
 */
function link(made, kernels, overlay, program) {
  const objects = kernels.map((kernel) => {
    const wrapper = join(made.directory, 'simt', `${basename(kernel, '.cu')}.cpp`)
    const entry = made.commands.find(({ file }) => file === wrapper)
    if (!entry) throw new Error(`${wrapper} is not compiled for the emulator`)
    const object = join(overlay, `${basename(kernel)}.${made.kind}.o`)
    const command = entry.command.replace(/^(\S+)/, `$1 -I${overlay}`).replace(/ -o \S+/, ` -o ${object}`)
    must('sh', ['-c', command], { cwd: entry.directory })
    return object
  })
  const libraries = ['libfire_simt.a', 'libfire_core.a'].map((name) => join(made.directory, name))
  must('c++', [
    ...made.flags,
    ...objects,
    ...testObjects(made, kernels),
    ...libraries,
    '-lpthread',
    '-ldl',
    '-o',
    program,
  ])
}

/** @returns {string | undefined} how the run noticed, or undefined when all tests passed */
function noticed(program, { schedule }, seconds) {
  const { status, signal, error } = spawnSync(program, [], {
    env: {
      ...process.env,
      FIRE_SIMT_SCHEDULE: schedule,
      FIRE_SIMT_ASYNC: 'lazy',
      TSAN_OPTIONS: 'halt_on_error=1:report_signal_unsafe=0',
    },
    stdio: 'ignore',
    timeout: seconds * 1000,
    killSignal: 'SIGKILL',
  })
  if (error && error.code !== 'ETIMEDOUT') throw error
  if (signal) return error ? 'hangs' : signal
  if (status === 0) return undefined
  return status === 66 ? 'race' : 'wrong'
}

function main() {
  const { values } = parseArgs({
    options: {
      only: { type: 'string', multiple: true },
      list: { type: 'boolean', default: false },
      build: { type: 'string' },
    },
  })
  const files = cudaFiles('.cu', '.cuh').filter((file) => !wrappers.includes(file))
  const unknown = (values.only ?? []).find((file) => !files.includes(file))
  if (unknown) {
    console.error(`there is no kernel source cuda/${unknown}`)
    return 1
  }
  const chosen = files.filter((file) => !values.only || values.only.includes(file))
  const mutants = chosen.flatMap((file) => findMutants(file, readFileSync(join(root, 'cuda', file), 'utf8')))
  if (values.list) {
    for (const { id } of mutants) console.log(id)
    return 0
  }
  const folder = values.build ?? mkdtempSync(join(tmpdir(), 'fire-train-mutations-'))
  mkdirSync(folder, { recursive: true })
  try {
    return judge(
      mutants,
      ['plain', 'thread'].map((kind) => build(kind, folder)),
      folder,
      !values.only,
    )
  } finally {
    if (!values.build) rmSync(folder, { recursive: true, force: true })
  }
}

function judge(mutants, builds, folder, complete) {
  const { equivalent } = JSON.parse(readFileSync(join(root, acceptedFile), 'utf8'))
  const reasons = new Map(equivalent.map(({ mutant, reason }) => [mutant, reason]))
  const includers = new Map()
  const kernelsWith = (file) => {
    if (!includers.has(file)) {
      includers.set(
        file,
        cudaFiles('.cu').filter((kernel) => sourcesOf(join('cuda', kernel)).has(join('cuda', file))),
      )
    }
    return includers.get(file)
  }
  const limits = new Map()
  const count = { passed: 0, failed: 0 }
  const tell = (passed, text) => {
    count[passed ? 'passed' : 'failed']++
    console.log(`${passed ? 'ok    ' : 'FAILED'} ${text}`)
  }
  for (const mutant of mutants) {
    const kernels = kernelsWith(mutant.file)
    if (kernels.length === 0) {
      tell(false, `${mutant.id}: no kernel includes this file`)
      continue
    }
    // The tests must pass with the originals, and how long they take says what a hang is.
    if (!limits.has(mutant.file)) limits.set(mutant.file, timeOriginals(builds, kernels, folder))
    const how = firstNotice(mutant, kernels, builds, folder, limits.get(mutant.file))
    const reason = reasons.get(mutant.id)
    if (how && reason) tell(false, `${mutant.id}: listed as equivalent, but noticed (${how})`)
    else if (how) tell(true, `${mutant.id}: ${how}`)
    else tell(Boolean(reason), `${mutant.id}: ${reason ? `equivalent: ${reason}` : 'NOT NOTICED by any run'}`)
  }
  if (complete) {
    const ids = new Set(mutants.map(({ id }) => id))
    for (const id of reasons.keys()) if (!ids.has(id)) tell(false, `${acceptedFile}: no mutant is called ${id}`)
  }
  console.log(`${count.passed} passed, ${count.failed} failed`)
  return count.failed === 0 ? 0 : 1
}

/** Seconds after which a run counts as hanging, per run. */
function timeOriginals(builds, kernels, folder) {
  return withOverlay(folder, (overlay) =>
    runs.map((run) => {
      const made = builds.find(({ kind }) => kind === run.build)
      const program = join(overlay, `test-${run.build}`)
      link(made, kernels, overlay, program)
      const start = Date.now()
      const how = noticed(program, run, 3600)
      if (how)
        throw new Error(
          `${kernels.join(', ')}: the tests fail without any mutation (${run.build}, ${run.schedule}: ${how})`,
        )
      return secondsForHang + Math.ceil((5 * (Date.now() - start)) / 1000)
    }),
  )
}

function firstNotice(mutant, kernels, builds, folder, limits) {
  return withOverlay(folder, (overlay) => {
    mkdirSync(join(overlay, 'cuda'))
    writeFileSync(join(overlay, 'cuda', mutant.file), mutant.text)
    for (const made of builds) {
      const program = join(overlay, `test-${made.kind}`)
      link(made, kernels, overlay, program)
      for (const [i, run] of runs.entries()) {
        if (run.build !== made.kind) continue
        const how = noticed(program, run, limits[i])
        if (how) return `${how} (${run.build}, ${run.schedule})`
      }
    }
    return undefined
  })
}

function withOverlay(folder, body) {
  const overlay = mkdtempSync(join(folder, 'mutant-'))
  try {
    return body(overlay)
  } finally {
    rmSync(overlay, { recursive: true, force: true })
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = main()
