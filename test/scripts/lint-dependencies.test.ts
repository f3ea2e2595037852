import { describe, expect, it } from 'vitest'
// @ts-expect-error a plain script without types
import { findOffences } from '../../scripts/lint-dependencies.mjs'
import { folderWith } from '../fakes/world.js'

async function offences(files: Record<string, string>): Promise<string[]> {
  return findOffences(await folderWith(files))
}

describe('TypeScript arrows', () => {
  it('lets layers use what is below them', async () => {
    const files = {
      'src/train/a.ts': "import { x } from '../data/b.js'\nimport y from 'zod'\nimport './c.js'\n",
      'src/data/b.ts': "import type { Engine } from '../engine/engine.js'\n// import '../cli/run.js'\n",
      'src/index.ts': "export * from './train/a.js'\n",
    }
    expect(await offences(files)).toEqual([])
  })

  it.each([
    ['src/engine/a.ts', "\nimport { x } from '../data/b.js'\n", 'src/engine/a.ts:2: engine may not import data'],
    ['src/data/a.ts', "import { x } from '../text/chat.js'\n", 'src/data/a.ts:1: data may not import text'],
    ['src/pairs/a.ts', "import {\n  x,\n} from '../corrupt/b.js'\n", 'src/pairs/a.ts:1: pairs may not import corrupt'],
    ['src/train/a.ts', "await import('../cli/run.js')\n", 'src/train/a.ts:1: train may not import cli'],
    ['src/train/a.ts', "export { x } from '../evaluate/b.js'\n", 'train may not import evaluate'],
    ['src/train/a.ts', "import '../evaluate/b.js'\n", 'train may not import evaluate'],
    ['src/cli/a.ts', "import type { X } from '../engine/native.js'\n", 'only engine/ may import engine/native.ts'],
    ['src/cli/a.ts', "import x from '../../test/x.js'\n", 'may not reach outside src/'],
    ['src/odd/a.ts', '', 'belongs to no layer'],
    ['src/cli/a.ts', "import x from '../odd/x.js'\n", 'odd/x.ts belongs to no layer'],
  ])('%s: %j', async (path, text, message) => {
    const found = await offences({ [path]: text })
    expect(found).toHaveLength(1)
    expect(found[0]).toContain(message)
  })
})

describe('circles of imports', () => {
  it('finds one, of types too, and says which files it goes through', async () => {
    const files = {
      'src/data/a.ts': "import { b } from './b.js'\nimport { d } from './d.js'\n",
      'src/data/b.ts': "import { c } from './c.js'\nimport { d } from './d.js'\n",
      'src/data/c.ts': "import { d } from './d.js'\nimport type { B } from './b.js'\n",
      'src/data/d.ts': "import type { z } from 'zod'\n",
    }
    expect(await offences(files)).toEqual(['src/data/c.ts:2: a circle of imports: data/b.ts → data/c.ts → data/b.ts'])
  })

  it.each(["import './a.js'\n", "export * from './a.js'\n", "await import('./a.js')\n"])(
    'of one file: %j',
    async (text) => {
      expect(await offences({ 'src/data/a.ts': text })).toEqual([
        'src/data/a.ts:1: a circle of imports: data/a.ts → data/a.ts',
      ])
    },
  )
})

describe('C++ arrows', () => {
  it('lets layers use what is below them', async () => {
    const files = {
      'native/model/a.cpp': '#include "model/a.h"\n#include <vector>\n#include "ops/ops.h"\n',
      'native/binding/a.cpp': '#include <napi.h>\n#include "engine/engine.h"\n',
      'cuda/gemm.cu': '#include "common.cuh"\n#include "ops/ops.h"\n',
    }
    expect(await offences(files)).toEqual([])
  })

  it.each([
    ['native/tensor/a.h', '#pragma once\n#include "ops/ops.h"\n', 'native/tensor/a.h:2: tensor may not include ops'],
    ['native/ops/a.h', '#include "cpu/cpu_ops.h"\n', 'ops may not include cpu'],
    ['native/model/a.cpp', '#  include "cpu/gemm.h"\n', 'model may not include cpu'],
    ['native/train/a.cpp', '#include "infer/generate.h"\n', 'train may not include infer'],
    ['native/engine/a.cpp', '#include <napi.h>\n', 'only binding may include napi.h'],
    ['cuda/gemm.cu', '#include "model/decoder.h"\n', 'cuda/gemm.cu:1: cuda may not include model'],
  ])('%s: %j', async (path, text, message) => {
    const found = await offences({ [path]: text })
    expect(found).toHaveLength(1)
    expect(found[0]).toContain(message)
  })
})
