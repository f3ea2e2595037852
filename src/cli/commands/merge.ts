import { resolve } from 'node:path'
import { defineCommand } from '../command.js'
import { formatBytes, formatCount } from '../format.js'
import { catchSignals } from '../signals.js'

export const merge = defineCommand({
  usage: 'merge <model> <adapter>',
  summary: 'Merge a LoRA adapter into its model: a model folder that transformers loads',
  options: (parser) =>
    parser
      .positional('model', {
        type: 'string',
        demandOption: true,
        describe: 'Model folder that the adapter was trained on',
      })
      .positional('adapter', { type: 'string', demandOption: true, describe: 'PEFT adapter folder' })
      .option('out', { type: 'string', demandOption: true, describe: 'Folder to write' })
      .option('shard-size', { type: 'number', default: 5, describe: 'Largest weight file, in GB' })
      .option('keep-layout', {
        type: 'boolean',
        default: false,
        describe: "Keep HuatuoGPT-Vision in its own layout instead of transformers' LLaVA",
      })
      .option('overwrite', { type: 'boolean', default: false, describe: 'Replace the folder of --out' }),
  examples: [['merge models/Qwen3-VL-4B-Instruct runs/first/adapter --out merged', 'a folder that transformers loads']],
  async run({ model, adapter, out, shardSize, keepLayout, overwrite }, { stdout, progress }) {
    const { mergeAdapter } = await import('../../merge/merge.js')
    using stop = catchSignals((name) => progress.log(`${name}: stopping; nothing is left behind`))
    const shardBytes = Math.round(shardSize * 1e9)
    const settings = { shardBytes, keepLayout, overwrite, signal: stop.signal }
    const stats = await mergeAdapter(resolve(model), resolve(adapter), resolve(out), settings).catch((error) => {
      if (stop.exitCode === undefined) throw error
    })
    if (!stats) return stop.exitCode ?? 1
    stdout(
      `${out}: ${formatCount(stats.merged)} of ${formatCount(stats.tensors)} tensors merged, ` +
        `${formatBytes(stats.bytes)} in ${stats.files.filter((name) => name.endsWith('.safetensors')).length} file(s)\n`,
    )
    return 0
  },
})
