/** Finds and loads the compiled addon, once per process (or worker thread), on first use only. */
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { NativeBindingError, NativeErrorFactory } from '../errors.js'
import type { NativeModule } from './native.js'

const packageRoot = join(dirname(fileURLToPath(import.meta.url)), '..', '..')

let loaded: NativeModule | undefined

/** Where the addon may be, in the order tried. `FIRE_NATIVE_PATH`, when set, is the only candidate. */
export function nativeCandidates(env: NodeJS.ProcessEnv = process.env): string[] {
  if (env.FIRE_NATIVE_PATH) return [env.FIRE_NATIVE_PATH]
  return [
    join(packageRoot, 'build', 'Release', 'fire.node'),
    join(packageRoot, 'build', 'cmake', 'Release', 'fire.node'),
    join(packageRoot, 'build', 'Debug', 'fire.node'),
  ]
}

/**
 * The addon, loaded on the first call and kept.
 * @throws {NativeBindingError} listing each path that was tried with its own reason, and the command that builds it.
 */
export function loadNative(): NativeModule {
  loaded ??= loadFrom(nativeCandidates())
  return loaded
}

/** Loads the first candidate that works and hands it our error classes. */
export function loadFrom(candidates: string[]): NativeModule {
  const require = createRequire(import.meta.url)
  const failures: string[] = []
  for (const path of candidates) {
    try {
      const native = require(path) as NativeModule
      native.setErrorClass(NativeErrorFactory)
      return native
    } catch (error) {
      failures.push(`${path}: ${firstLine(error)}`)
    }
  }
  throw new NativeBindingError(`The native engine could not be loaded.\n  tried ${failures.join('\n  tried ')}`, {
    hint: `Build it with: npm --prefix ${packageRoot} run build:native (needs cmake >= 3.24 and a C++20 compiler).`,
    detail: { tried: candidates },
  })
}

function firstLine(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error)
  return message.startsWith('Cannot find module') ? 'not there' : (message.split('\n', 1)[0] ?? message)
}
