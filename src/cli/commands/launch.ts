import { z } from 'zod'
import { RankError } from '../../errors.js'
import { count, text } from '../../settings/common.js'
import { defineCommand } from '../command.js'
import { handled } from '../signals.js'
import { startingOf } from '../starting.js'

const restartHint =
  'Somebody, or the system when memory ran out (dmesg), has ended it. Run the same command again; a training with --resume.'

/** `auto`: mpirun where a training would compute on CPUs. */
const starters = ['auto', 'processes', 'mpirun'] as const

export const launch = defineCommand({
  name: 'launch',
  ranks: 'each',
  summary: 'Start a command as several ranks on this machine, one for each GPU',
  settings: z.strictObject({
    nproc: count.meta({ description: 'Number of ranks: as many as the GPUs to use' }),
    host: text.default('127.0.0.1').meta({ description: 'Address of this machine at which the ranks meet' }),
    starter: z.enum(starters).default('auto').meta({
      description:
        'Who starts the ranks: this command (for GPUs, and for what trains nothing) or mpirun (for training on CPUs); auto looks which it is',
    }),
    command: z.array(text).min(1).meta({ description: 'The command of fire-train with its arguments, after --' }),
  }),
  positionals: ['command'],
  examples: [
    ['launch --nproc 8 -- train run.yaml --set device=cuda', 'one rank for each of 8 GPUs'],
    ['launch --nproc 2 --starter mpirun -- train run.yaml', 'two ranks on the CPUs of this machine'],
  ],
  notes:
    'Lines of ranks other than 0 begin with [rank N]. Ctrl-C stops all ranks in order, again at once. When one fails all stop; the exit code is that of the first. ' +
    'Several machines: torchrun, srun or mpirun (docs/many-gpus.md).',
  async run({ nproc: size, host, starter, command: words }, context) {
    const { Launch } = await import('../../ranks/launcher.js')
    const starting = starter === 'auto' ? await startingOf(words) : starter
    const launched = await Launch.start({
      ...{ size, host, starting },
      command: [process.execPath, ...process.execArgv, process.argv[1], ...words],
      keepsStdout: context.json,
      onLog: (line) => context.progress.log(`warning: ${line}`),
    })
    let asked = 0
    const onSignal = (name: NodeJS.Signals): void => {
      if (asked === 0) context.progress.log(`${name}: all ranks save and stop; again to leave at once`)
      launched.stop(name, asked++ > 0)
    }
    const onPause = (): void => context.progress.log('warning: ranks cannot be paused; Ctrl-C stops them in order')
    for (const name of handled) process.on(name, onSignal)
    process.on('SIGTSTP', onPause)
    const { exitCode, failure, killed } = await launched.ended()
    for (const name of handled) process.off(name, onSignal)
    process.off('SIGTSTP', onPause)
    const problem = killed === null ? undefined : new RankError(killed, { hint: restartHint })
    return { text: '', report: { ranks: size, starter: starting, exitCode, failure }, problem, exitCode }
  },
})
