/**
 * The command line with one more command: `steps` does nothing, step by step, on as many ranks as there are. In a step, one rank may
 * have a mishap: --mishap RANK:STEP:KIND.
 */
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { commands, run } from '../../dist/cli/run.js'
import { stageCommand } from '../../dist/cli/stage-command.js'
import { AbortedError, DiskFullError } from '../../dist/errors.js'
import { defineStage } from '../../dist/stage/index.js'

const mishaps = {
  throw: () => {
    throw new DiskFullError('the disk is full')
  },
  kill: () => void process.kill(process.pid, 'SIGKILL'),
  stop: () => void process.kill(process.pid, 'SIGSTOP'),
  exit: () => process.exit(7),
  crash: () => {
    setImmediate(() => {
      throw new Error('crash')
    })
  },
  leave: () => true,
  // Stops at once, where the others wait for what it has to say.
  abandon: async (signal) => {
    await sleep(300)
    process.kill(process.pid, 'SIGTERM')
    await once(signal, 'abort')
    throw new AbortedError()
  },
  interrupt: () => void process.kill(process.pid, 'SIGTERM'),
  // Deaf to the failure of others.
  hang: () => new Promise(() => setInterval(() => {}, 1000)),
  // The event loop stands still.
  block: () => {
    for (const until = performance.now() + 1500; performance.now() < until; );
  },
}

const steps = defineStage({
  name: 'steps',
  summary: 'Do nothing, step by step',
  settings: z.strictObject({
    out: z.string().default('nothing').meta({ description: 'Nothing is written there', path: 'output' }),
    count: z.number().default(3).meta({ description: 'Number of steps' }),
    lr: z.number().default(1).meta({ description: 'A number' }),
    seconds: z.number().default(0.05).meta({ description: 'Of a step', free: true }),
    mishap: z.string().default('').meta({ description: 'RANK:STEP:KIND', free: true }),
  }),
  byRank: true,
  takes: {},
  out: { setting: 'out', name: '' },
  makes: () => ({}),
  leaves: () => [],
  async run({ count, seconds, mishap }, { ranks, signal, progress }) {
    const [who, when, what] = mishap.split(':')
    progress.start('', count, 'steps')
    progress.log(`warning: rank ${ranks.rank} of ${ranks.size}`)
    for (let step = 0; step < count; step++) {
      if (ranks.rank === Number(who) && step === Number(when) && (await mishaps[what](signal))) break
      const isStopping = await ranks.gather(`step ${step}`, signal.aborted)
      if (isStopping.some(Boolean)) return { interrupted: true, summary: '' }
      progress.update(step + 1)
      await sleep(seconds * 1000)
    }
    return { interrupted: false, summary: `${count} steps of ${ranks.size} ranks`, report: { count } }
  },
})

commands.push(stageCommand(steps))
process.on('uncaughtException', (error) => {
  console.error(error.message)
  process.exit(1)
})
process.exitCode = await run(process.argv.slice(2))
