/** nvcc, and processes beside each other. */
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, renameSync } from 'node:fs'
import { basename, join } from 'node:path'
import { root, sourcesOf } from './cuda-sources.mjs'

const parallel = 2

/** @returns {{ nvcc: string, version: string } | undefined} with what it says of itself */
export function findNvcc() {
  const chosen = process.env.CUDACXX
  for (const nvcc of chosen ? [chosen] : ['nvcc', '/usr/local/cuda/bin/nvcc']) {
    const { status, stdout } = spawnSync(nvcc, ['--version'], { encoding: 'utf8' })
    if (status === 0) return { nvcc, version: stdout }
  }
  return undefined
}

/** @returns {Promise<{ status: number, output: string }>} with what it printed */
export function run(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, ...options })
    let output = ''
    child.stdout.on('data', (text) => (output += text))
    child.stderr.on('data', (text) => (output += text))
    child.on('error', reject)
    child.on('close', (status, signal) =>
      resolve({ status: status ?? 1, output: signal ? `${output}\n${signal}` : output }),
    )
  })
}

const ptxFlags = ['-std=c++17', '-O3', '-lineinfo', '-Werror', 'all-warnings', '-ptx']

/**
 * The PTX of a source, which the budget of kernels goes on from and the emulator runs, compiled once.
 *
 * @param {{ nvcc: string, version: string, cache: string }} compiler as findNvcc has it, and a folder
 * @param {string} source path from the root
 * @param {string} chip "90a"
 * @param {string} [overlay] a folder whose headers come first
 * @returns {Promise<string>} its file, in the cache
 * @throws {Error} with what nvcc printed
 */
export async function compilePtx({ nvcc, version, cache }, source, chip, overlay) {
  const architecture = `compute_${chip}`
  const flags = [...ptxFlags, '-gencode', `arch=${architecture},code=${architecture}`]
  const key = createHash('sha256').update([version, ...flags].join(' '))
  for (const path of [...sourcesOf(source)].sort()) {
    const changed = overlay && join(overlay, path)
    key.update(path).update(readFileSync(changed && existsSync(changed) ? changed : join(root, path)))
  }
  const target = join(cache, `${basename(source, '.cu')}-${architecture}-${key.digest('hex').slice(0, 16)}.ptx`)
  if (existsSync(target)) return target
  const include = [...(overlay ? [`-I${overlay}`] : []), '-Inative', '-I.']
  const { status, output } = await run(nvcc, [...flags, ...include, source, '-o', `${target}.part`])
  if (status !== 0) throw new Error(`${source} for ${architecture} does not compile:\n${output.trim()}`)
  renameSync(`${target}.part`, target)
  return target
}

/** Runs tasks, a few at a time; their results in order. */
export async function inParallel(tasks) {
  const results = []
  let next = 0
  const worker = async () => {
    while (next < tasks.length) {
      const index = next++
      results[index] = await tasks[index]()
    }
  }
  await Promise.all(Array.from({ length: parallel }, worker))
  return results
}
