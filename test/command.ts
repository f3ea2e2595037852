/** The built command in a process of its own, as a person runs it. */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const main = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url))

export interface Outcome {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

export interface CommandOptions {
  /** Working folder; default: that of the tests. */
  cwd?: string
  /** On top of the environment of the tests. */
  env?: object
  /** Of Node itself. */
  nodeOptions?: string[]
  /** Called with all that was written to stderr so far, whenever more is. */
  onStderr?: (text: string, kill: (signal: NodeJS.Signals) => void) => void
}

/** Starts `fire-train` with these arguments; `done` resolves when it has ended, however it did. */
export function startCommand(
  args: string[],
  { cwd, env, nodeOptions = [], onStderr }: CommandOptions = {},
): { child: ChildProcess; done: Promise<Outcome> } {
  if (!existsSync(main)) throw new Error('run `npm run build:ts` first')
  const child = spawn(process.execPath, [...nodeOptions, main, ...args], {
    cwd,
    env: { ...process.env, NO_COLOR: '1', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let [stdout, stderr] = ['', '']
  child.stdout.on('data', (chunk) => {
    stdout += chunk
  })
  child.stderr.on('data', (chunk) => {
    stderr += chunk
    onStderr?.(stderr, (signal) => child.kill(signal))
  })
  const done = new Promise<Outcome>((resolve) => {
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }))
  })
  return { child, done }
}

/** Runs `fire-train` to its end. */
export function runCommand(args: string[], options?: CommandOptions): Promise<Outcome> {
  return startCommand(args, options).done
}
