/** Prompt and reply within one number of tokens, as models with a short context want it. */
import { describe, expect, it } from 'vitest'
import { cache, failure, log, open, reply, sent, server, tokens } from './world.js'

const request = (prompt: string) => ({ prompt, totalTokens: 2048 })
const answered = { choices: [{ text: 'fine', finish_reason: 'stop' }], usage: tokens, model: 'green-7b-v2' }

describe('a reply that may have what the prompt leaves', () => {
  it.each([
    ['vLLM', { count: 1500, max_model_len: 4096, tokens: [1, 2] }, 548],
    ['llama.cpp', { tokens: Array.from({ length: 2000 }, (_, i) => i) }, 48],
    ['a prompt that leaves nothing', { count: 3000 }, 1],
  ])('asks %s how long the prompt is', async (_, counted, maxTokens) => {
    server.answer = (response, { path }) => reply(response, 200, path === '/tokenize' ? counted : answered)
    expect(await (await open()).ask(request('two reports'))).toMatchObject({ content: 'fine', model: 'green-7b-v2' })
    expect(server.asked.map(({ path }) => path)).toEqual(['/tokenize', '/v1/completions'])
    expect(sent(0)).toMatchObject({ model: 'm', prompt: 'two reports', content: 'two reports' })
    expect(sent(1)).toMatchObject({ prompt: 'two reports', max_tokens: maxTokens })
    expect(sent(1)).not.toHaveProperty('totalTokens')
  })

  it.each([404, 405, 501, 401])('takes maxTokens from a server that answers %i, and says so', async (status) => {
    server.answer = (response, { path }) =>
      path === '/tokenize' ? reply(response, status, 'no such thing') : reply(response, 200, answered)
    const endpoint = await open({ maxTokens: 700 }, { cache })
    expect(await endpoint.ask(request('a'))).toMatchObject({ leftOut: ['totalTokens'] })
    await endpoint.ask(request('b'))
    expect(server.asked.map(({ path }) => path)).toEqual(['/tokenize', '/v1/completions', '/v1/completions'])
    expect(sent(2)).toMatchObject({ max_tokens: 700 })
    expect(log.join()).toMatch(/counts no tokens: replies of m may have 700 tokens/)
    // What was paid for says it again, without asking.
    const later = await open({ maxTokens: 700 }, { cache })
    await later.ask(request('a'))
    expect([...later.leftOut]).toEqual(['totalTokens'])
    expect(server.asked).toHaveLength(3)
  })

  it('waits for a busy counter, and invents no length when it stays so', async () => {
    server.answer = (response, _, number) =>
      number === 1 ? reply(response, 503, 'busy') : reply(response, 200, number === 2 ? { count: 48 } : answered)
    await (await open()).ask(request('a'))
    expect(sent(2)).toMatchObject({ max_tokens: 2000 })
    server.answer = (response) => reply(response, 503, 'busy')
    expect((await failure((await open({ retries: 0 })).ask(request('b')))).message).toMatch(/503/)
  })
})
