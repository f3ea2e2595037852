#!/usr/bin/env node
import { addressSpaceError, fileError, InternalError, reasonOf } from '../errors.js'
import { rankIn } from '../ranks/environment.js'
import { ofRank } from './progress.js'
import { run } from './run.js'

// A reader that has seen enough (`| head`) closes the pipe: that is no failure. A full disk under `> file` is one.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(process.exitCode)
  leave(fileError(error, 'Writing', 'the result to stdout'))
})
// Nobody reads it: what is done matters more than what is said of it.
process.stderr.on('error', () => {})

// Node prints warnings and stacks for developers; with --debug they are theirs again.
if (!process.argv.includes('--debug')) {
  process.removeAllListeners('warning')
  process.on('warning', () => {})
  for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
    process.on(event, (error: unknown) => leave(addressSpaceError(error) ?? new InternalError(reasonOf(error))))
  }
}

function leave(error: Error & { code?: unknown; hint?: string }): never {
  const hint = error.hint ? `hint: ${error.hint}\n` : ''
  process.stderr.write(ofRank(rankIn(process.env), `error ${error.code}: ${error.message}\n${hint}`))
  process.exit(1)
}

process.exitCode = await run(process.argv.slice(2))
