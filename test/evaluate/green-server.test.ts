/** GREEN as the 7B model is served: golden replies through `/v1/completions`, and the published reading held against a second reader. */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Template } from '@huggingface/jinja'
import { expect, it } from 'vitest'
import { evaluate } from '../../src/evaluate/evaluation.js'
import { readEvaluation } from '../../src/evaluate/finished.js'
import type { ReportRecord } from '../../src/evaluate/records.js'
import { readGreenParity } from '../../src/evaluate/reports/green-parity.js'
import { trainedPrompt } from '../../src/evaluate/reports/prompt.js'
import { sampleSettings } from '../../src/sample/index.js'
import { runCommand } from '../command.js'
import { reply, say, server } from '../endpoint/world.js'
import { temporaryFolder } from '../fakes/world.js'
import { drawsOf } from '../hostile/campaign.js'
import { makeSample, readLines, writeRecords } from '../sample/records.js'

const golden = JSON.parse(readFileSync(new URL('golden/green.json', import.meta.url), 'utf8'))
interface Case {
  text: string
  finishReason: string
  strict: { status: string; reason: string | null }
}
const cases: Case[] = golden.cases

/** As the model's tokenizer has it. */
const chatTemplate = `{% for message in messages %}
{% if message['from'] == 'human' %}
{{ '<|user|>\n' + message['value'] + eos_token }}
{% elif message['from'] == 'gpt' %}
{{ '<|assistant|>\n' + message['value'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}`

it('is asked as the template renders it, read in both ways, and refused above the share that was allowed', async () => {
  const folder = await temporaryFolder()
  const samples = cases.map((_, i) =>
    makeSample(`r-${i}`, { task: 'report', answer: `Reference\n\n${i} is  clear.`, answerType: 'open' }),
  )
  await writeRecords(join(folder, 'samples.jsonl'), samples)
  await writeRecords(
    join(folder, 'said.jsonl'),
    samples.map(({ id }, i) => ({ sampleId: id, text: `Candidate ${i} {reference} end.` })),
  )
  // Line ends of Windows and a separator of Unicode reach the server as they stand.
  const template = 'Compare\r\n1. {reference}\u2028 with\n2. {candidate}\n'
  await writeFile(join(folder, 'template.txt'), template)
  const prompts: string[] = []
  server.answer = (response, { path, body }) => {
    if (path === '/tokenize') return reply(response, 200, { count: 1000 })
    const { prompt, max_tokens } = JSON.parse(body)
    prompts.push(prompt)
    expect([path, max_tokens]).toEqual(['/v1/completions', 1048])
    const { text, finishReason } = cases[Number(/Candidate (\d+) /.exec(prompt)?.[1])]
    reply(response, 200, { choices: [{ text, finish_reason: finishReason }], model: 'green-7b' })
  }
  const { results, problem } =
    (await evaluate({
      ...{ samples: join(folder, 'samples.jsonl'), imageRoot: folder, out: join(folder, 'out') },
      systems: [{ name: 'said', kind: 'file', path: join(folder, 'said.jsonl') }],
      asked: sampleSettings.parse({ samples: 'x', out: 'x' }),
      engine: { device: 'cpu', dtype: 'f32', threads: 1, batchSize: 8 },
      ...{ truth: null, scores: [], margin: 0.03, maxUnreadable: 0.05, seed: 42 },
      green: {
        endpoint: { url: `${server.url}/v1`, model: 'g', retryDelay: 0.001 },
        prompt: await trainedPrompt(join(folder, 'template.txt')),
        cache: join(folder, 'cache'),
      },
    })) ?? expect.fail('stopped')

  const rendered = samples.map((_, i) => {
    const value = template
      .replace('{candidate}', () => `Candidate ${i} {reference} end.`)
      .replace('{reference}', () => `Reference ${i} is clear.`)
    const messages = [
      { from: 'human', value },
      { from: 'gpt', value: '' },
    ]
    return new Template(chatTemplate).render({ messages, eos_token: '</s>', add_generation_prompt: true })
  })
  expect([...new Set(prompts)].sort()).toEqual(rendered.sort())

  const [{ green }] = results.reports?.systems ?? []
  expect(green?.parity.value).toBeCloseTo(golden.summary.parity.mean, 12)
  expect(green?.strict.value).toBeCloseTo(golden.summary.strict.mean, 12)
  expect((green?.ok ?? 0) + (green?.repaired ?? 0)).toBe(golden.summary.strict.readable)
  const reasons: Record<string, number> = {}
  for (const { strict } of cases) if (strict.reason) reasons[strict.reason] = (reasons[strict.reason] ?? 0) + 1
  expect(green?.unreadable).toEqual(reasons)
  expect(problem?.message).toMatch(/^12 of 30 GREEN replies on said \(40\.0 %\)/)
  const records = await readLines<ReportRecord>(join(folder, 'out', 'reports.jsonl'))
  expect(records.map(({ raw }) => raw)).toEqual(cases.map(({ text }) => text))
  for (const { raw, servedAs, date } of records.filter(({ raw }) => raw !== '')) {
    expect([servedAs, date], raw ?? '').toEqual(['green-7b', new Date().toISOString().slice(0, 10)])
  }
})

it('ends the command with 1 above --max-unreadable, with the numbers written', async () => {
  const folder = await temporaryFolder()
  const samples = Array.from({ length: 10 }, (_, i) =>
    makeSample(`r-${i}`, { task: 'report', answer: `Lung ${i} is clear.`, answerType: 'open' }),
  )
  await writeRecords(join(folder, 'samples.jsonl'), samples)
  await writeRecords(
    join(folder, 'said.jsonl'),
    samples.map(({ id, answer }) => ({ sampleId: id, text: answer })),
  )
  const readable = cases.find(({ strict }) => strict.status === 'ok')?.text as string
  server.answer = (response, { body }) => say(response, body.includes('Lung 3 is clear.') ? 'I cannot.' : readable)
  const green = (out: string, most: string) =>
    runCommand([
      ...['evaluate', '--samples', join(folder, 'samples.jsonl'), '--predictions', join(folder, 'said.jsonl')],
      ...['--out', join(folder, out), '--cache', join(folder, 'cache'), '--max-unreadable', most],
      ...['--green', `${server.url}/v1`, '--green-model', 'g', '--green-retry-delay', '0.001'],
    ])
  const within = await green('within', '0.1')
  expect([within.code, within.stderr]).toEqual([0, expect.not.stringContaining('ERR_FIRE')])
  const above = await green('above', '0.09')
  expect([above.code, above.stderr]).toEqual([
    1,
    expect.stringMatching(/error ERR_FIRE_DATA: 1 of 10 GREEN replies on said \(10\.0 %\)/),
  ])
  const { reports } = await readEvaluation(join(folder, 'above'))
  const [{ green: numbers }] = reports?.systems ?? []
  expect([numbers?.reports, Object.values(numbers?.unreadable ?? {})]).toEqual([10, [1]])
  expect(existsSync(join(folder, 'above', 'report.html'))).toBe(true)
})

it('is read as a second reader of the published kind reads it, on lines put together at random', () => {
  const draws = drawsOf('green', 0)
  const lines = cases.flatMap(({ text }) => text.split('\n'))
  const odd = ['(a) x: 2. y', '(2) x: 3.', '٣. x', '[Matched Findings]: 4. a', 'No', '\u2028', '<|assistant|>', '</s>']
  const pieces = [...lines, ...odd, '[Explanation]:', '    <Explanation>', '\x1c', '\x85', '(a) x: 1.\r(b) y: 2.', '']
  const one = (count: number): number => draws.integers(1, 0, count)[0]
  // A golden reply in which some lines are others, stand elsewhere, or are gone.
  const texts = Array.from({ length: 2000 }, () => {
    const found = cases[one(cases.length)].text.split('\n')
    for (let change = one(6); change > 0; change--) {
      const given = [[], [pieces[one(pieces.length)]], [pieces[one(pieces.length)], found[one(found.length)]]][one(3)]
      found.splice(one(found.length), one(2), ...given)
    }
    return found.join('\n')
  })
  const script = new URL('green_parity.py', import.meta.url).pathname
  const input = texts.map((text) => JSON.stringify(text)).join('\n')
  const second = execFileSync('python3', [script], { input, encoding: 'utf8', maxBuffer: 2 ** 26 })
  const found = texts.map((text) => {
    const { significant, insignificant, matched, green } = readGreenParity(text)
    return [significant, insignificant, matched, green]
  })
  expect(found).toEqual(
    second
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line)),
  )
  expect(new Set(found.map((each) => JSON.stringify(each))).size).toBeGreaterThan(50)
})
