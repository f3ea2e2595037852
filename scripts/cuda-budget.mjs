/**
 * Holds every compiled kernel against test/cuda/budget.json: registers, blocks per multiprocessor, no spills, no local
 * memory, no atomics, the instructions that make it fast, nothing read before the kernels before it are done. Needs nvcc, not a GPU. Ends with `N passed, N failed`.
 *
 * Usage: node scripts/cuda-budget.mjs [--require] [--cache <folder>] [--only <name>] [--suggest]
 *   --require   fail where nvcc is not found (as with CI=true), instead of saying so
 *   --cache     keep compiled kernels there; what has not changed is not compiled again
 *   --only      kernels of cuda/<name>.cu only
 *   --suggest   print rows for the kernels that have none
 *
 * A row of budget.json:
 *   kernel         regular expression for the whole name, without namespaces: "norm<float, .*>"
 *   threads        of the largest block it is launched with: its __launch_bounds__
 *   dynamicShared  bytes of the largest launch; 0 unless given
 *   registersMax   per thread
 *   blocksMin      per multiprocessor, a number or one per architecture: { "sm_80": 1, "sm_90a": 2 }
 *   need           instructions that must occur, for instance ["HMMA", "LDSM", "LDGSTS"]
 *   only           the one architecture that it has a body for; for others it must be empty, and a block of it so small
 *                  that a launch is refused
 *   allow          instructions that are otherwise forbidden: "LDL", "STL" (local memory), "ATOMG", "ATOMS", "RED" (sums in
 *                  no fixed order); with a `reason`
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { architectures, blocksPerMultiprocessor, operationNames, readKernels, readPtxas, shortName } from './cubin.mjs'
import { cudaFiles, root } from './cuda-sources.mjs'
import { compilePtx, findNvcc, inParallel, run } from './nvcc.mjs'

const budgetFile = join('test', 'cuda', 'budget.json')
const flags = ['-O3', '-lineinfo', '-Xptxas', '-v', '-Werror', 'all-warnings', '-cubin']

const local = ['LDL', 'STL']
const atomics = ['ATOMG', 'ATOMS', 'RED']
/** Warnings that ptxas prints as information: wgmma was serialised or waited for, setmaxnreg was ignored, and their like. */
const ptxasComplaints = /\(C75\d\d\)|ptxas warning/

/**
 * @typedef {object} Kernel one instance for one architecture
 * @property {string} name @property {string} architecture @property {number} registers @property {number} stack
 * @property {number} spills @property {number} shared @property {number | undefined} maxThreads
 * @property {Record<string, number>} instructions @property {string[]} beforeWait
 */

/** The row for a kernel: the only one that matches its name. */
export function rowFor(kernel, rows) {
  const matching = rows.filter((row) => new RegExp(`^(?:${row.kernel})$`).test(kernel.name))
  if (matching.length === 0) return { problem: `no row of ${budgetFile} is for this kernel` }
  if (matching.length > 1)
    return { problem: `rows ${matching.map((row) => `"${row.kernel}"`).join(' and ')} both match` }
  return { row: matching[0] }
}

/**
 * @param {Kernel} kernel
 * @returns {{ blocks: number | undefined, problems: string[] }}
 */
export function examine(kernel, rows) {
  const { row, problem } = rowFor(kernel, rows)
  if (row?.only && row.only !== kernel.architecture) return { blocks: undefined, problems: notEmpty(kernel, row) }
  const problems = problem ? [problem] : []
  const has = (name) => (kernel.instructions[name] ?? 0) > 0
  const forbidden = (name) => has(name) && !row?.allow?.includes(name)
  if (kernel.spills > 0) problems.push(`${kernel.spills} bytes of register spills`)
  for (const name of local.filter(forbidden)) problems.push(`${kernel.instructions[name]} ${name} (local memory)`)
  for (const name of atomics.filter(forbidden)) problems.push(`${name}: the order of its sums is not fixed`)
  problems.push(...begins(kernel))
  if (!row) return { blocks: undefined, problems }

  if (kernel.registers > row.registersMax) problems.push(`${kernel.registers} registers, at most ${row.registersMax}`)
  if (kernel.maxThreads === undefined) problems.push('no __launch_bounds__')
  else if (row.threads > kernel.maxThreads) {
    problems.push(`${row.threads} threads, but __launch_bounds__(${kernel.maxThreads})`)
  }
  const shared = kernel.shared + (row.dynamicShared ?? 0)
  const blocks = blocksPerMultiprocessor(kernel.architecture, { ...kernel, threads: row.threads, shared })
  const least = row.blocksMin[kernel.architecture] ?? row.blocksMin
  if (blocks < least) problems.push(`${blocks} blocks per multiprocessor, at least ${least}`)
  for (const name of row.need ?? []) if (!has(name)) problems.push(`no ${name}`)
  return { blocks, problems }
}

/** From compute capability 9.0 on a kernel is let in while those before it end, and waits for them itself (cuda/gpu.h). */
function begins({ architecture, instructions, beforeWait }) {
  if (architecture !== 'sm_90a') return []
  if (!instructions.ACQBULK) return ['it does not wait for the kernels before it: begin with gpu::begin_kernel']
  const early = beforeWait.map((name) => `${name} before it waits for the kernels before it`)
  return instructions.PREEXIT ? early : [...early, 'it does not let the next kernel in']
}

/** A kernel for another architecture: whoever launches it here must be told. */
function notEmpty({ architecture, instructions, maxThreads }, row) {
  const problems = []
  const found = Object.keys(instructions).filter((name) => !['EXIT', 'BRA'].includes(name)) // the end of every kernel
  if (found.length > 0) problems.push(`${found.join(', ')} on ${architecture}, only ${row.only} has a body`)
  if (!(maxThreads < row.threads)) problems.push(`could be launched on ${architecture} with ${row.threads} threads`)
  return problems
}

/** Faults of budget.json itself, and rows that no kernel uses any more. */
export function examineRows(rows, kernels) {
  return rows.flatMap((row) => {
    const problems = []
    const positive = (value) => Number.isInteger(value) && value > 0
    const least = typeof row.blocksMin === 'object' ? architectures.map((a) => row.blocksMin[a]) : [row.blocksMin]
    if (!positive(row.threads) || !positive(row.registersMax) || !least.every(positive)) {
      problems.push('threads, registersMax and blocksMin must be positive whole numbers')
    }
    for (const name of [...(row.need ?? []), ...(row.allow ?? [])]) {
      if (!operationNames.has(name)) problems.push(`the instruction ${name} is not known`)
    }
    if (row.only && !architectures.includes(row.only)) problems.push(`nothing is compiled for ${row.only}`)
    if (row.allow?.length && !row.reason) problems.push('`allow` needs a `reason`')
    if (!kernels.some((kernel) => new RegExp(`^(?:${row.kernel})$`).test(kernel.name))) {
      problems.push('no kernel has this name')
    }
    return problems.map((problem) => `"${row.kernel}": ${problem}`)
  })
}

/** Rows for kernels that have none, one per template, from what was measured. */
export function suggest(kernels, rows) {
  const families = groupBy(
    kernels.filter((kernel) => !rowFor(kernel, rows).row),
    family,
  )
  return [...families].map(([name, members]) => {
    const threads = Math.max(...members.map((kernel) => kernel.maxThreads ?? 1024))
    const most = Math.max(...members.map((kernel) => kernel.registers))
    const registersMax = Math.ceil((most + 1) / 8) * 8
    const blocksMin = Math.min(
      ...members.map((k) => blocksPerMultiprocessor(k.architecture, { ...k, threads, registers: registersMax })),
    )
    const need = ['HMMA', 'LDSM', 'LDGSTS'].filter((i) => members.every((kernel) => kernel.instructions[i] > 0))
    return { kernel: name, threads, registersMax, blocksMin, ...(need.length > 0 && { need }) }
  })
}

function family({ name }) {
  const bracket = name.indexOf('<')
  return bracket < 0 ? name : `${name.slice(0, bracket)}<.*>`
}

function groupBy(items, key) {
  const groups = new Map()
  for (const item of items) groups.set(key(item), [...(groups.get(key(item)) ?? []), item])
  return groups
}

/** Compiles one file for one architecture, or takes it from the cache. */
async function compile(compiler, file, architecture) {
  const source = join('cuda', file)
  const chip = architecture.slice('sm_'.length)
  try {
    const ptx = await compilePtx(compiler, source, chip)
    const target = ptx.replace(/ptx$/, 'cubin')
    if (!existsSync(`${target}.log`)) {
      const gencode = ['-gencode', `arch=compute_${chip},code=${architecture}`]
      const { status, output } = await run(compiler.nvcc, [...flags, ...gencode, ptx, '-o', `${target}.part`])
      if (status !== 0) throw new Error(`${source} for ${architecture} does not compile:\n${output.trim()}`)
      renameSync(`${target}.part`, target)
      writeFileSync(`${target}.log`, output)
    }
    return { source, architecture, log: readFileSync(`${target}.log`, 'utf8'), elf: readFileSync(target) }
  } catch (error) {
    return { source, architecture, failure: error.message }
  }
}

/** @returns {Kernel[]} */
function kernelsOf({ architecture, log, elf }) {
  const resources = readPtxas(log)
  const compiled = [...readKernels(elf)].filter(([mangled]) => resources.has(mangled))
  const names = demangle(compiled.map(([mangled]) => mangled))
  return compiled.map(([mangled, code], i) => ({
    name: shortName(names[i]),
    architecture,
    ...resources.get(mangled),
    ...code,
  }))
}

/** With binutils, which a C++ compiler cannot do without. */
function demangle(names) {
  if (names.length === 0) return []
  const { stdout, error } = spawnSync('c++filt', [], { input: names.join('\n'), encoding: 'utf8' })
  if (error) throw error
  return stdout.trimEnd().split('\n')
}

function line(kernel, blocks, problems) {
  const { name, architecture, registers, stack, spills, shared, maxThreads, instructions } = kernel
  const shown = ['HMMA', 'HGMMA', 'LDSM', 'LDGSTS', 'UTMALDG', 'BAR', ...local, ...atomics]
  const counts = shown.filter((i) => instructions[i]).map((i) => `${i} ${instructions[i]}`)
  const numbers = [registers, stack, spills, shared, maxThreads ?? '-', blocks ?? '-']
  const columns = numbers.map((value, i) => String(value).padStart([5, 6, 6, 7, 5, 7][i])).join('')
  return `${name.padEnd(56)} ${architecture.padEnd(7)}${columns}  ${counts.join(', ')}${problems.map((p) => `\n    FAILED: ${p}`).join('')}`
}

async function main() {
  const { values } = parseArgs({
    options: {
      require: { type: 'boolean', default: process.env.CI === 'true' },
      cache: { type: 'string' },
      only: { type: 'string' },
      suggest: { type: 'boolean', default: false },
    },
  })
  const found = findNvcc()
  if (!found) {
    console.log('cuda budget: nvcc was not found (PATH, CUDACXX), so no kernel was compiled or checked')
    return values.require ? 1 : 0
  }
  const chosen = cudaFiles('.cu').filter((file) => !values.only || basename(file, '.cu') === values.only)
  if (chosen.length === 0) {
    console.error(`cuda budget: there is no cuda/${values.only ?? '*'}.cu`)
    return 1
  }
  const { kernels: rows } = JSON.parse(readFileSync(join(root, budgetFile), 'utf8'))
  const folder = values.cache ?? mkdtempSync(join(tmpdir(), 'fire-train-budget-'))
  mkdirSync(folder, { recursive: true })
  try {
    const compiler = { ...found, cache: folder }
    const jobs = chosen.flatMap((file) => architectures.map((a) => () => compile(compiler, file, a)))
    return report(await inParallel(jobs), rows, values)
  } finally {
    if (!values.cache) rmSync(folder, { recursive: true, force: true })
  }
}

function report(compiled, rows, { only, suggest: wantsRows }) {
  const count = { passed: 0, failed: 0 }
  const kernels = compiled.flatMap((result) => (result.failure ? [] : kernelsOf(result)))
  if (wantsRows) {
    for (const row of suggest(kernels, rows)) console.log(`${JSON.stringify(row)},`)
    return 0
  }
  const titles = ['regs', 'stack', 'spills', 'shared', 'thr', 'blk/SM']
  const heading = titles.map((title, i) => title.padStart([5, 6, 7, 7, 5, 7][i])).join('')
  console.log(`${'kernel'.padEnd(56)} ${'chip'.padEnd(7)}${heading}  instructions`)
  kernels.sort((a, b) => a.name.localeCompare(b.name) || a.architecture.localeCompare(b.architecture))
  for (const kernel of kernels) {
    const { blocks, problems } = examine(kernel, rows)
    console.log(line(kernel, blocks, problems))
    count[problems.length === 0 ? 'passed' : 'failed']++
  }
  const faults = compiled.flatMap(({ source, architecture, failure, log }) => {
    if (failure) return [failure]
    const complaint = log.split('\n').find((text) => ptxasComplaints.test(text))
    return complaint ? [`${source} for ${architecture}: ${complaint.trim()}`] : []
  })
  if (!only) faults.push(...examineRows(rows, kernels).map((problem) => `${budgetFile}: ${problem}`))
  for (const fault of faults) console.log(`FAILED: ${fault}`)
  count.failed += faults.length
  console.log(`${count.passed} passed, ${count.failed} failed`)
  return count.failed === 0 ? 0 : 1
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = await main()
