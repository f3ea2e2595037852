/** Builds of the C++: for this machine, and for arm64 by the cross compiler (cmake/aarch64.cmake). */
import { spawnSync } from 'node:child_process'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = join(dirname(fileURLToPath(import.meta.url)), '..')

/** A program can be started. */
export function has(program) {
  return spawnSync(program, ['--version'], { stdio: 'ignore' }).status === 0
}

export const crossCompiler = 'aarch64-linux-gnu-g++'

/**
 * A build tree: its folder, and what CMake is told. `tools` is the prefix of binutils.
 * @typedef {{ folder: string, options: string[], tools: string }} Tree
 */

/** @type {Tree} */
export const hostTree = { folder: join(root, 'build'), options: [], tools: '' }

/** @type {Tree} */
export const arm64Tree = {
  folder: join(root, 'build', 'arm64'),
  options: [`--CDCMAKE_TOOLCHAIN_FILE=${join(root, 'cmake', 'aarch64.cmake')}`, '--CDFIRE_CUDA=OFF'],
  tools: 'aarch64-linux-gnu-',
}

/** Configures and builds. Node's headers come from node-api-headers, which are the same for every processor. */
export function buildTarget({ folder, options }, target) {
  return (
    runCmakeJs('configure', '--out', folder, ...options) && runCmakeJs('build', '--out', folder, '--target', target)
  )
}

function runCmakeJs(...args) {
  const cmakeJs = join(root, 'node_modules', '.bin', 'cmake-js')
  return spawnSync(cmakeJs, args, { cwd: root, stdio: 'inherit' }).status === 0
}
