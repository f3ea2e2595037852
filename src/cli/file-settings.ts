/** `<config>` and `--set`: what commands take that read a file of settings. */
import { z } from 'zod'
import { text } from '../settings/common.js'

export const fileSettings = {
  config: text.meta({ description: 'YAML file with the settings' }),
  set: z.array(z.string()).default([]).meta({
    description:
      'Override a setting: --set KEY.KEY=VALUE, for instance --set optimizer.lr=1e-5 (repeatable); a relative path counts from the folder you work in',
  }),
}

/** @param needs the flag without which it does nothing. */
export const flag = (description: string, needs?: string) =>
  z
    .boolean()
    .default(false)
    .meta({ description, ...(needs !== undefined && { needs }) })
