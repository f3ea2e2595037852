/** nvcc, and processes beside each other. */
import { spawn, spawnSync } from 'node:child_process'
import { root } from './cuda-sources.mjs'

const parallel = 2

/** @returns {string | undefined} */
export function findNvcc() {
  const chosen = process.env.CUDACXX
  const candidates = chosen ? [chosen] : ['nvcc', '/usr/local/cuda/bin/nvcc']
  return candidates.find((nvcc) => spawnSync(nvcc, ['--version']).status === 0)
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
