#!/usr/bin/env node
import { run } from './run.js'

// A reader that has seen enough (`| head`) closes the pipe: that is no failure. A closed terminal (EIO) sends SIGHUP.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0)
  if (error.code !== 'EIO') throw error
})

// What cannot be told is no reason to lose the work.
process.stderr.on('error', () => {})

process.exitCode = await run(process.argv.slice(2))
