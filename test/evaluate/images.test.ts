/** What looks at images with an engine leaves none of them in it, also when something throws. */
import { describe, expect, it } from 'vitest'
import { openEngine } from '../../src/engine/engine.js'
import { probeAttention } from '../../src/evaluate/index.js'
import { perplexityGap } from '../../src/pairs/perplexity.js'
import { Chat } from '../../src/text/chat.js'
import { fakeNative, writeWorld } from '../fakes/world.js'

const world = await writeWorld(1)
const [pair] = world.records
const [image] = pair.images

describe.each(['succeeds', 'fails'])('an engine whose work %s', (outcome) => {
  it('holds no image after a probe of attention or perplexity', async () => {
    const native = fakeNative()
    await using engine = await openEngine({ model: world.model }, { native })
    const [fake] = native.engines
    const chat = await Chat.load(world.model, engine.info)
    if (outcome === 'fails') {
      fake.attention = () => Promise.reject(new Error('lost'))
      fake.logprobs = () => Promise.reject(new Error('lost'))
    }
    const request = { question: pair.prompt, image, answer: pair.chosen, span: pair.edits[0].chosen }
    const probe = probeAttention({ engine, chat, imageRoot: world.root }, request)
    const gap = probe.catch(() => {}).then(() => perplexityGap(engine, chat, [pair], world.root))
    for (const work of [probe, gap]) {
      if (outcome === 'fails') await expect(work).rejects.toThrow('lost')
      else await work
      expect(fake.images.size).toBe(0)
    }
    expect(fake.encoded).toBe(2)
  })
})
