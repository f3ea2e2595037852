import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { readStructured } from '../../src/endpoint/index.js'
import { keepSecret } from '../../src/secrets.js'

const schema = z.object({ verdict: z.enum(['correct', 'incorrect', 'unclear']), reason: z.string() })
const read = (content: string, finishReason: string | null = 'stop') => {
  const { value, problem } = readStructured({ content, finishReason }, schema, (reply) => reply.verdict)
  return value?.verdict ?? problem
}
const right = '{"verdict": "correct", "reason": "so"}'
const wrong = '{"verdict": "incorrect", "reason": "so"}'

describe('readStructured', () => {
  it.each([
    ['correct', right],
    ['correct', `Sure!\n\`\`\`json\n${right}\n\`\`\`\nHope this helps {smile}.`],
    ['correct', `The set {a, b} shows it. ${right}`],
    ['correct', `{ is how it begins. ${right}`],
    ['correct', "{verdict: 'correct', reason: 'so',}"],
    ['correct', `{"reason": "a } and a { in it", "verdict": "correct"}`],
    ['correct', `[${right}]`],
    ['correct', `{"other": 1} ${right}`],
    ['correct', `{I would say: ${right}}`],
    ['correct', `As JSON { as asked for: {"verdict" : {a}} I say ${right}`],
    ['correct', `{"result": ${right}}`],
    ['correct', `{"name": "judgement", "arguments": {"all": [${right}]}}`],
    // twice the same, in other words
    ['correct', `${right} In short: {"verdict": "correct", "reason": "as I said"}`],
    // a draft inside the reasoning is none of its verdicts
    ['incorrect', `<think>${right} no, wait</think>${wrong}`],
    ['incorrect', `<think>${right} no, wait</think>\n\n${wrong}`],
    ['incorrect', `I first say ${right}</think>${wrong}`],
    ['incorrect', `<reasoning>${right}</reasoning><thinking>${right}</thinking>${wrong}`],
    ['incorrect', `<|channel|>analysis<|message|>${right}<|end|><|channel|>final<|message|>${wrong}`],
  ])('reads %s from %s', (verdict, content) => {
    expect(read(content)).toBe(verdict)
  })

  it.each([
    ['it is empty', ' \n'],
    ['its reasoning does not end', `<think>Perhaps ${right}`],
    ['its reasoning does not end', `<think>a</think> <think> ${right}`],
    ['it holds no complete JSON object', 'I cannot help with that.'],
    ['it holds no complete JSON object', '{"verdict": "correct", "reason": "s'],
    ['it holds no complete JSON object', '{"verdict": "correct", "reason": "so", "verdict": "incorrect"}'],
    ['it holds no complete JSON object', `<think>${right}</think>I am done.`],
    ['it holds objects that disagree', `Draft: ${right} Final: ${wrong}`],
    ['it holds objects that disagree', `{"draft": ${right}, "final": ${wrong}}`],
    ['an object in it does not end', `${right} or rather {"verdict": "incor`],
    [expect.stringContaining('verdict: '), '{"verdict": "right", "reason": "so"}'],
    [expect.stringContaining('reason: '), '{"verdict": "correct"}'],
  ])('says %s of %s', (problem, content) => {
    expect(read(content)).toEqual(problem)
  })

  it('reads no key, however it is pieced together', () => {
    keepSecret('sk-reader-4711')
    for (const text of ['"\\u0073k-reader-4711"', '"sk-read" + "er-4711"']) {
      const content = `{"verdict": "correct", "reason": ${text}}`
      const { value } = readStructured({ content, finishReason: 'stop' }, schema)
      expect(value?.reason).toBe('***')
    }
  })

  it('believes no reply that was cut off or withheld', () => {
    expect(read(right, 'length')).toBe('it was cut off')
    expect(read(right, 'content_filter')).toBe('it was withheld by a filter')
    expect(read(right, null)).toBe('correct')
  })

  it('ends soon on a reply full of braces', () => {
    const started = performance.now()
    expect(read('{'.repeat(200_000))).toBe('it holds no complete JSON object')
    expect(read(`${'{x} '.repeat(50_000)}${right}`)).toMatch(/no complete/)
    expect(performance.now() - started).toBeLessThan(20_000)
  })
})
