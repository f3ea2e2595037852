/** Compiles the engine from the sources in this package, for machines that no prebuilt package fits. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants, mkdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { asFileError, NativeBindingError } from '../errors.js'
import { packageRoot } from './load.js'

export interface BuildOptions {
  /** Where to build; the addon is then in its `Release`. */
  out: string
  /** `auto`: the GPU backend where nvcc is. */
  cuda: 'auto' | 'on' | 'off'
  /** Lines of the compilers, as they come. */
  onLine?: (line: string) => void
}

/** A program that a build runs: any of its names will do. */
interface Tool {
  what: string
  names: readonly string[]
  /** Debian's package. */
  debian: string
  least?: number
}

/** Where `loadNative` looks first. */
export const defaultBuildFolder = join(packageRoot, 'build')

function tools(env: NodeJS.ProcessEnv): Tool[] {
  const compilers = env.CXX ? [env.CXX] : ['c++', 'g++', 'clang++']
  return [
    { what: 'a C++20 compiler', names: compilers, debian: 'g++' },
    { what: 'cmake 3.24 or newer', names: ['cmake'], debian: 'cmake', least: 3.24 },
    { what: 'ninja or make', names: ['ninja', 'make'], debian: 'ninja-build' },
  ]
}

function has({ names, least }: Tool, env: NodeJS.ProcessEnv): boolean {
  return names.some((name) => {
    const { status, stdout } = spawnSync(name, ['--version'], { encoding: 'utf8', env })
    return status === 0 && (least === undefined || versionOf(stdout) >= least)
  })
}

/** "cmake version 3.9.6" is older than 3.24: the second number counts as hundredths. */
function versionOf(text: string): number {
  const [, major = 0, minor = 0] = /(\d+)\.(\d+)/.exec(text) ?? []
  return Number(major) + Number(minor) / 100
}

/**
 * What a build needs and this machine lacks.
 * @throws {NativeBindingError} naming every program, and the command that installs them.
 */
export function checkTools({ cuda }: Pick<BuildOptions, 'cuda'>, env: NodeJS.ProcessEnv = process.env): void {
  const missing = tools(env).filter((tool) => !has(tool, env))
  const nvcc: Tool = { what: 'nvcc', names: [env.CUDACXX || 'nvcc'], debian: '' }
  const lacksCuda = cuda === 'on' && !has(nvcc, env)
  if (missing.length === 0 && !lacksCuda) return
  const names = [...missing, ...(lacksCuda ? [nvcc] : [])].map(({ what }) => what)
  const packages = missing.map(({ debian }) => debian).join(' ')
  const hints = [
    ...(packages ? [`On Debian or Ubuntu: sudo apt-get install -y ${packages}.`] : []),
    ...(lacksCuda ? ['Install the CUDA toolkit 13 and put its bin folder into PATH, or set CUDACXX.'] : []),
  ]
  throw new NativeBindingError(`The engine cannot be compiled here: ${names.join(', ')} not found`, {
    hint: hints.join(' '),
    detail: { missing: names },
  })
}

/**
 * Builds the addon; minutes of work on every core. An unfinished build is continued.
 * @returns the path of the addon.
 * @throws {NativeBindingError} if programs are missing or the build fails; `detail.output` ends with the compiler's words.
 * @throws {FileError} if the folder cannot be written.
 */
export async function buildNative({ out, cuda, onLine }: BuildOptions): Promise<string> {
  checkTools({ cuda })
  openFolder(out)
  const output: string[] = []
  const keep = (line: string): void => {
    output.push(line)
    if (output.length > keptLines) output.shift()
    onLine?.(line)
  }
  const folders = ['--directory', packageRoot, '--out', out]
  const addon = join(out, 'Release', 'fire.node')
  // By itself `build` would take the settings of an earlier build in that folder.
  const steps = [
    ['configure', ...folders, `--CDFIRE_CUDA=${cuda.toUpperCase()}`],
    ['build', ...folders],
  ]
  for (const step of steps) {
    if (await runCmakeJs(step, keep)) continue
    throw new NativeBindingError(`Compiling the engine failed:\n${output.join('\n')}`, {
      hint: `If that folder was used with another compiler before, delete ${out} and try again.`,
      detail: { out, output },
    })
  }
  return addon
}

/** Of the compiler's words: the errors are at the end. */
const keptLines = 40

async function runCmakeJs(args: readonly string[], onLine: (line: string) => void): Promise<boolean> {
  const cmakeJs = createRequire(import.meta.url).resolve('cmake-js/bin/cmake-js')
  const child = spawn(process.execPath, [cmakeJs, ...args], { cwd: packageRoot, stdio: ['ignore', 'pipe', 'pipe'] })
  for (const stream of [child.stdout, child.stderr]) createInterface(stream).on('line', onLine)
  const [status] = await once(child, 'close')
  return status === 0
}

function openFolder(out: string): void {
  try {
    mkdirSync(out, { recursive: true })
    accessSync(out, constants.W_OK)
  } catch (error) {
    asFileError('Writing to', out)(error)
  }
}
