/** The lint of names sees another word for a concept in every language, and nothing in the project as it is. */
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
// @ts-expect-error a plain script without types
import { findOffences } from '../../scripts/lint-names.mjs'
import { folderWith } from '../fakes/world.js'

it('finds nothing here', () => {
  expect(findOffences(fileURLToPath(new URL('../..', import.meta.url)))).toEqual([])
})

it('names file, line and the word to use', async () => {
  const files = {
    'src/a.ts': 'const lr = 1\nconst adamEps = 1e-8\n',
    'native/b.h': 'double clip_norm;\n',
    'cuda/c.cu': '// the epsilon of a norm\n',
    'models/d.yaml': 'learning_rate: 1\n',
  }
  expect(findOffences(await folderWith(files))).toEqual([
    'src/a.ts:2: "adam_eps" is called eps here',
    'native/b.h:1: "clip_norm" is called max_grad_norm here',
    'cuda/c.cu:1: "epsilon" is called eps here',
    'models/d.yaml:1: "learning_rate" is called lr here',
  ])
})
