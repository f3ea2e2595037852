/** Finds and loads the compiled addon, once per process (or worker thread), on first use only. */
import { createRequire } from 'node:module'
import { dirname, isAbsolute, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { NativeBindingError, NativeErrorFactory, reasonOf } from '../errors.js'
import type { NativeModule } from './native.js'
import { type Machine, packagesFor, type Requirements, thisMachine, unmetRequirement } from './prebuilt.js'

const require = createRequire(import.meta.url)

export const packageRoot = join(dirname(fileURLToPath(import.meta.url)), '..', '..')

let loaded: LoadedNative | undefined

/** The addon, and where it was found: a path, or the name of a package. */
export interface LoadedNative {
  native: NativeModule
  from: string
}

/**
 * Where the addon may be, in the order tried: what was built here, then the packages for this machine, by their names.
 * `FIRE_NATIVE_PATH`, when set, is the only candidate.
 */
export function nativeCandidates(env: NodeJS.ProcessEnv = process.env, machine: Machine = thisMachine()): string[] {
  if (env.FIRE_NATIVE_PATH) return [resolve(env.FIRE_NATIVE_PATH)]
  return [
    join(packageRoot, 'build', 'Release', 'fire.node'),
    join(packageRoot, 'build', 'cmake', 'Release', 'fire.node'),
    join(packageRoot, 'build', 'Debug', 'fire.node'),
    ...packagesFor(machine),
  ]
}

/**
 * The addon, loaded on the first call and kept.
 * @throws {NativeBindingError} listing each place that was tried with its own reason, and the command that builds it.
 */
export function loadNative(): NativeModule {
  return findNative().native
}

/** `loadNative`, with the place. */
export function findNative(): LoadedNative {
  loaded ??= loadFrom(nativeCandidates())
  return loaded
}

/** Loads the first candidate that works and hands it our error classes. */
export function loadFrom(candidates: string[]): LoadedNative {
  const failures: string[] = []
  for (const candidate of candidates) {
    try {
      const native = require(candidate) as NativeModule
      native.setErrorClass(NativeErrorFactory)
      return { native, from: candidate }
    } catch (error) {
      failures.push(
        `tried ${candidate}: ${isAbsolute(candidate) ? reasonOfFile(error) : reasonOfPackage(candidate, error)}`,
      )
    }
  }
  if (packagesFor(thisMachine()).length === 0)
    failures.push(`there is no prebuilt package for ${process.platform} ${process.arch}`)
  throw new NativeBindingError(['The native engine could not be loaded.', ...failures].join('\n  '), {
    hint: process.env.FIRE_NATIVE_PATH
      ? 'FIRE_NATIVE_PATH is set, so nothing else was tried. Unset it, or let it name the file that `fire-train build` wrote.'
      : 'Install again with optional dependencies to get the prebuilt engine, or compile it here with: fire-train build ' +
        '(docs/install.md says what each needs).',
    detail: { tried: candidates },
  })
}

function reasonOfPackage(name: string, error: unknown): string {
  try {
    const { config } = require(`${name}/package.json`) as { config: Requirements }
    return unmetRequirement(config) ?? firstLine(error)
  } catch {
    return 'not installed'
  }
}

function reasonOfFile(error: unknown): string {
  return reasonOf(error).startsWith('Cannot find module') ? 'not there' : firstLine(error)
}

const firstLine = (error: unknown): string => reasonOf(error).split('\n', 1)[0] ?? ''
