/** `bench generate` on the small model and without the peer. Nothing here looks at speed. */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { agreement, type GenerateBenchResult } from '../../src/bench/generate.js'
import { readQuestions, withOwnImages, writeQuestions } from '../../src/bench/questions.js'
import { readSpec } from '../../src/bench/spec.js'
import { built, temporaryFolder } from '../fakes/world.js'

/** The built one: its worker is a program of its own. */
const { benchGenerate }: typeof import('../../src/bench/generate.js') = await import(
  fileURLToPath(new URL('../../dist/bench/generate.js', import.meta.url))
)

const options = {
  size: 'small',
  dtype: 'f32',
  threads: 1,
  rounds: 2,
  images: 2,
  questions: 3,
  newTokens: 6,
  batchSize: 4,
  peer: 'none',
  python: 'python3',
  seed: 1,
} as const

describe.skipIf(!built)('bench generate', () => {
  it('finds the same answers with the image shared and not', async () => {
    const result: GenerateBenchResult = await benchGenerate(options)
    const names = ['ours-shared', 'ours-unshared']
    expect(result.variants.map(({ variant }) => variant)).toEqual(names)
    expect(result.variants.map(({ tokens }) => tokens)).toEqual([36, 36])
    expect(result.agreement).toEqual(names.map((variant) => ({ variant, answers: 6, same: 6, leading: 1 })))
    expect(Object.keys(result.ratios)).toEqual(['ours-unshared'])
    expect(result.series.map(({ samples }) => samples.map(({ step }) => step))).toEqual([
      [2, 3],
      [2, 3],
    ])
    expect(result.command).toBe(
      'fire-train bench generate --size small --dtype f32 --threads 1 --rounds 2 --seed 1 --peer none ' +
        '--images 2 --questions 3 --new-tokens 6 --batch-size 4',
    )
  })
})

describe('the questions', () => {
  it('show the images in turn, and are the same for a seed', async () => {
    const path = join(await temporaryFolder(), 'questions.safetensors')
    const spec = await readSpec('small')
    await writeQuestions(path, spec, { images: 2, questions: 2 }, 5)
    const { images, prompts } = await readQuestions(path)
    expect(images.map(({ id, width, height }) => [id, height, width])).toEqual([
      ['image0', ...spec.pairs.image],
      ['image1', ...spec.pairs.image],
    ])
    expect(prompts.map((prompt) => prompt.images)).toEqual([['image0'], ['image1'], ['image0'], ['image1']])
    expect(new Set(prompts.map(({ ids }) => ids.join())).size).toBe(4)
    await writeQuestions(path, spec, { images: 2, questions: 2 }, 5)
    expect((await readQuestions(path)).prompts).toEqual(prompts)

    // Images of their own have pixels of their own: the engine would share equal ones.
    const own = withOwnImages({ images, prompts })
    expect(own.prompts.map((prompt) => prompt.images)).toEqual(own.images.map(({ id }) => [id]))
    expect(own.images.map(({ id }) => id)).toEqual(['image0 of 0', 'image1 of 1', 'image0 of 2', 'image1 of 3'])
    const pixels = own.images.map(({ rgb }) => Buffer.from(rgb).toString('base64'))
    expect(new Set(pixels).size).toBe(4)
    for (const [k, { rgb }] of own.images.entries()) {
      const original = images[k % 2].rgb
      expect(rgb.filter((value, at) => value !== original[at]).length).toBe(1)
      expect(Math.abs(rgb[k] - original[k])).toBe(1)
    }
  })
})

describe('agreement', () => {
  const series = (variant: string, answers: number[][]) => ({
    variant,
    ready: { ready: true, variant, dtype: 'f32' } as const,
    warmUp: { step: 1, seconds: 1, tokens: 0, peak_rss: 1, answers },
    samples: [],
  })

  it('counts answers, and tokens before the first difference', () => {
    const reference = series('ours-shared', [
      [1, 2, 3, 4],
      [5, 6, 7, 8],
    ])
    const other = series('peer', [
      [1, 2, 3, 4],
      [5, 9, 7, 8],
    ])
    expect(agreement(reference, reference)).toEqual({ variant: 'ours-shared', answers: 2, same: 2, leading: 1 })
    expect(agreement(other, reference)).toEqual({ variant: 'peer', answers: 2, same: 1, leading: 5 / 8 })
    const short = series('short', [[1, 2, 3], [5]])
    expect(agreement(short, reference)).toMatchObject({ same: 0, leading: 4 / 8 })
  })
})
