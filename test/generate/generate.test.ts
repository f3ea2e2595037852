/** Questions to answers: windows, order, streaming, stop strings. The in-memory engine repeats the end of a prompt. */
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type Engine, openEngine } from '../../src/engine/engine.js'
import { answer, defaultGenerateSettings, type Question } from '../../src/generate/generate.js'
import { Chat } from '../../src/text/chat.js'
import { type FakeEngine, fakeNative, temporaryFolder, writeImage, writeModel } from '../fakes/world.js'

let root: string
let engine: Engine
let fake: FakeEngine
let chat: Chat

beforeAll(async () => {
  root = await temporaryFolder()
  await writeModel(root)
  for (let level = 0; level < 6; level += 1) await writeImage(root, `${level}.png`, level)
  await writeImage(root, 'twin.png', 0)
})

beforeEach(async () => {
  const native = fakeNative()
  engine = await openEngine({ model: root }, { native })
  fake = native.engines[0]
  chat = await Chat.load(root, engine.info)
  return () => engine.close()
})

const questions = (count: number, image: (index: number) => string[] = () => []): Question[] =>
  Array.from({ length: count }, (_, index) => ({
    id: `q${index}`,
    prompt: `Question ${index}?`,
    images: image(index).map((name) => join(root, name)),
  }))

const settings = { ...defaultGenerateSettings, batchSize: 2 }

async function ids(asked: Iterable<Question> | AsyncIterable<Question>): Promise<string[]> {
  const found: string[] = []
  for await (const { sampleId } of answer(engine, chat, asked, settings)) found.push(sampleId)
  return found
}

describe('answer', () => {
  it('gives many batches to the engine at once, and answers in order with a seed of each place', async () => {
    const asked = questions(35)
    const found = []
    for await (const response of answer(engine, chat, asked, settings)) found.push([response.sampleId, response.seed])
    expect(found).toEqual(asked.map(({ id }, index) => [id, 42 + index]))
    expect(fake.calls).toEqual([16, 16, 3])
  })

  it('bounds the images of a window, and decodes and encodes each once in it', async () => {
    // Four images fill a window of batches of two; the fifth opens the next, which shows the first again.
    const asked = questions(7, (index) => [`${[0, 1, 2, 3, 0, 4, 0][index]}.png`])
    expect(await ids(asked)).toHaveLength(7)
    expect(fake.calls).toEqual([5, 2])
    expect(fake.encoded).toBe(5)
    expect(fake.images.size).toBe(0)
  })

  it('refuses a batch of nothing', async () => {
    const none = answer(engine, chat, questions(1), { ...settings, batchSize: 0 })
    await expect(none.next()).rejects.toThrow(/integer for batchSize/)
  })

  it('takes a question with more images than a window allows', async () => {
    expect(await ids(questions(3, () => ['0.png', '1.png', '2.png', '3.png', '4.png']))).toHaveLength(3)
    expect(fake.encoded).toBe(5)
  })

  it('keeps the image that another file of the next window shows as well', async () => {
    const asked = questions(6, (index) => [['0.png', '1.png', '2.png', '3.png', 'twin.png', '5.png'][index]])
    expect(await ids(asked)).toHaveLength(6)
    expect(fake.calls).toEqual([4, 2])
  })

  it('gives an answer as soon as those before it are there, while the engine goes on', async () => {
    let release = (): void => {}
    const gate = new Promise<void>((resolve) => {
      release = resolve
    })
    let finished = false
    const generate = fake.generate.bind(fake)
    fake.generate = async (prompts, sampling, onToken, onEnd, cancel) => {
      const all = await generate(prompts, sampling, onToken, onEnd, cancel)
      await gate
      finished = true
      return all
    }
    const answers = answer(engine, chat, questions(3), settings)
    expect((await answers.next()).value?.sampleId).toBe('q0')
    expect((await answers.next()).value?.sampleId).toBe('q1')
    expect(finished).toBe(false)
    release()
    expect((await answers.next()).value?.sampleId).toBe('q2')
    expect((await answers.next()).done).toBe(true)
  })

  it('leaves no image encoded when the engine fails', async () => {
    fake.generate = () => Promise.reject(new Error('lost'))
    await expect(ids(questions(2, () => ['0.png', '1.png']))).rejects.toThrow('lost')
    expect([fake.encoded, fake.images.size]).toEqual([2, 0])
    await expect(ids(questions(2, () => ['0.png', 'none.png']))).rejects.toThrow(/none\.png/)
    expect(fake.images.size).toBe(0)
  })

  it('stops the engine when nobody reads on', async () => {
    let cancelled = false
    fake.generate = async (_prompts, _sampling, _onToken, onEnd, cancel) => {
      onEnd?.(0, { tokens: Int32Array.of(1), logprob: 0, finish: 'stop' })
      while (!(cancel as unknown as { cancelled: boolean }).cancelled) await setImmediate()
      cancelled = true
      throw new Error('left')
    }
    for await (const _ of answer(
      engine,
      chat,
      questions(3, () => ['0.png']),
      settings,
    ))
      break
    expect(cancelled).toBe(true)
    expect(fake.images.size).toBe(0)
  })

  it('fails where the engine does, after the answers that were there', async () => {
    fake.generate = async (_prompts, _sampling, _onToken, onEnd) => {
      onEnd?.(0, { tokens: Int32Array.of(1), logprob: 0, finish: 'stop' })
      throw new Error('out of luck')
    }
    const found: string[] = []
    const run = async (): Promise<void> => {
      for await (const { sampleId } of answer(engine, chat, questions(3), settings)) {
        found.push(sampleId)
        await setImmediate()
      }
    }
    await expect(run()).rejects.toThrow('out of luck')
    expect(found).toEqual(['q0'])
  })

  it('streams the text of many questions, each under its own place', async () => {
    const streamed: string[] = []
    const onText = (index: number, text: string): void => {
      streamed[index] = (streamed[index] ?? '') + text
    }
    const found: string[] = []
    for await (const { text } of answer(engine, chat, questions(20), settings, { onText })) found.push(text)
    expect(found[0]).not.toBe('')
    expect(streamed).toEqual(found)
  })

  it('cuts an answer before a stop string, in the stream as in the record', async () => {
    let streamed = ''
    const stop = ['tant', 'never']
    const onText = (_index: number, text: string): void => {
      streamed += text
    }
    const [whole] = await collect({ ...settings })
    const [cut] = await collect({ ...settings, stop }, onText)
    expect(whole.text).toContain('tant')
    expect(cut.text).toBe(whole.text.slice(0, whole.text.indexOf('tant')))
    expect(streamed).toBe(cut.text)
    expect(cut.tokens).toEqual(whole.tokens)
    expect(cut.sampling.stop).toEqual(stop)
    await expect(collect({ ...settings, stop: [''] })).rejects.toThrow('stopStrings')
  })
})

async function collect(chosen: typeof settings, onText?: (index: number, text: string) => void) {
  const found = []
  for await (const response of answer(engine, chat, questions(1), chosen, { onText })) found.push(response)
  return found
}
