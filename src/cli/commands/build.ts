import { join, resolve } from 'node:path'
import { z } from 'zod'
import { outputPath, text } from '../../settings/common.js'
import { defineCommand } from '../command.js'

export const build = defineCommand({
  name: 'build',
  summary: 'Compile the engine here, where no prebuilt package fits',
  settings: z.strictObject({
    out: text.optional().meta(outputPath('Folder to build in; default: build/ in the installed package')),
    cuda: z
      .enum(['auto', 'on', 'off'])
      .default('auto')
      .meta({ description: 'The GPU backend; auto: where nvcc is found' }),
  }),
  examples: [
    ['build', 'a few minutes; what was built is used from then on'],
    ['build --out ~/fire-build', 'where the installed package is read-only; then set FIRE_NATIVE_PATH as it says'],
  ],
  notes: 'Needs a C++20 compiler, cmake 3.24 and ninja or make; for the GPU also nvcc of CUDA 13.',
  async run({ out, cuda }, { note }) {
    const { buildNative, defaultBuildFolder } = await import('../../engine/build.js')
    const { loadFrom } = await import('../../engine/load.js')
    const folder = out === undefined ? defaultBuildFolder : resolve(out)
    const addon = await buildNative({ out: folder, cuda, onLine: (line) => note(`${line}\n`) })
    const { version } = loadFrom([addon]).native
    const found = folder === defaultBuildFolder
    const use = found ? '' : `To use it: export FIRE_NATIVE_PATH=${join(folder, 'Release', 'fire.node')}\n`
    return { text: `${addon}: engine ${version}\n${use}`, report: { addon, version, found } }
  },
})
