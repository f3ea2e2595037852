import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import type { Pair } from '../../src/data/records.js'
import { openEngine } from '../../src/engine/engine.js'
import { perplexityGap } from '../../src/pairs/index.js'
import { Chat } from '../../src/text/chat.js'

const model = fileURLToPath(new URL('../../models/phantom', import.meta.url))

describe('perplexityGap', () => {
  it('is that of the answers alone, and finds the likelier side', async () => {
    expect(existsSync(model)).toBe(true)
    await using engine = await openEngine({ model, adapter: null })
    const chat = await Chat.load(model, engine.info)
    const pair = (chosen: string, rejected: string) =>
      ({ images: [], prompt: 'Is there a nodule?', chosen, rejected }) as unknown as Pair
    const fluent = pair('Yes, there is a nodule.', 'nodule nodule there Yes a.')
    const gap = await perplexityGap(engine, chat, [fluent], '.')
    expect(gap.chosenIsLikelier).toBe(1)
    expect(gap.rejected).toBeGreaterThan(2 * gap.chosen)
    // By hand: the mean over the answer's tokens and its end, of the sequence of prompt and answer.
    const prompt = chat.promptIds(fluent.prompt)
    const answer = [...chat.tokenizer.encode(fluent.chosen), chat.endTokenId]
    const [values] = await engine.logprobs([{ ids: Int32Array.from([...prompt, ...answer]), images: [] }])
    const mean = answer.reduce((sum, _, index) => sum + values[prompt.length - 1 + index], 0) / answer.length
    expect(gap.chosen).toBeCloseTo(Math.exp(-mean), 3)
    const mirrored = await perplexityGap(engine, chat, [fluent, pair(fluent.rejected, fluent.chosen)], '.')
    expect(mirrored).toMatchObject({ chosenIsLikelier: 0.5, chosen: expect.closeTo(mirrored.rejected, 3) })
  })
})
