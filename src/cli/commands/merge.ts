import { z } from 'zod'
import { inputPath, outputPath, text } from '../../settings/common.js'
import { counted } from '../../text/plural.js'
import { defineCommand } from '../command.js'
import { flag } from '../file-settings.js'
import { formatBytes, formatCount } from '../format.js'
import { catchSignals } from '../signals.js'

export const merge = defineCommand({
  name: 'merge',
  summary: 'Merge a LoRA adapter into its model: a model folder that transformers loads',
  settings: z.strictObject({
    model: text.meta(inputPath('Model folder that the adapter was trained on')),
    adapter: text.meta(inputPath('PEFT adapter folder')),
    out: text.meta(outputPath('Folder to write')),
    shardSize: z.number().min(1e-6).max(1e6).default(5).meta({ description: 'Largest weight file, in GB' }),
    keepLayout: flag("Keep HuatuoGPT-Vision in its own layout instead of transformers' LLaVA"),
    overwrite: flag('Replace the folder of --out'),
  }),
  positionals: ['model', 'adapter'],
  examples: [['merge models/Qwen3-VL-4B-Instruct runs/first/adapter --out merged', 'a folder that transformers loads']],
  async run({ model, adapter, out, shardSize, keepLayout, overwrite }, { progress }) {
    const { mergeAdapter } = await import('../../merge/merge.js')
    using stop = catchSignals((name) => progress.log(`${name}: stopping; nothing is left behind`))
    const shardBytes = Math.round(shardSize * 1e9)
    const settings = { shardBytes, keepLayout, overwrite, signal: stop.signal }
    const stats = await mergeAdapter(model, adapter, out, settings).catch((error) => {
      if (stop.exitCode === undefined) throw error
    })
    if (!stats) {
      const stopped = 'stopped; nothing was written; run the same command again'
      return { text: '', report: {}, stopped, exitCode: stop.exitCode }
    }
    const files = stats.files.filter((name) => name.endsWith('.safetensors')).length
    const text =
      `${out}: ${formatCount(stats.merged)} of ${formatCount(stats.tensors)} tensors merged, ` +
      `${formatBytes(stats.bytes)} in ${counted(files, 'file')}\n`
    return { text, report: { out, ...stats } }
  },
})
