/** Pairs as a step has them, without a model. */
import type { Example } from '../../src/train/collate.js'

/** A pair of 3 tokens of question, `chosen` and 1 of answers, on images of so many tokens. */
export function example(id: string, images: Record<string, number>, twins?: string[], chosen = 2): Example {
  const tokens = Object.values(images)
  const ids = Object.keys(images)
  const decode = () => Promise.reject(new Error('no test looks at pixels'))
  const sources = [...ids, ...(twins ?? [])].map((image, index) => ({
    ...{ id: image, path: `${id}-${index}.png`, decode },
    tokens: tokens[index % tokens.length],
  }))
  const answer = (length: number) => ({ ids: new Int32Array(length), mask: new Uint8Array(length) })
  const input = {
    ...{ id, images: ids, corruptedImages: twins ?? null, weight: 1, rejectedScore: 1 },
    prompt: new Int32Array(3 + tokens.reduce((sum, each) => sum + each, 0)),
    ...{
      chosen: answer(chosen).ids,
      chosenMask: answer(chosen).mask,
      rejected: answer(1).ids,
      rejectedMask: answer(1).mask,
    },
  }
  return { input, images: sources, differs: false }
}
