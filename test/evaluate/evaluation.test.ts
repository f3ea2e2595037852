/** An evaluation from prediction files to numbers, with a judge that does what servers do. */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { beforeEach, describe, expect, it } from 'vitest'
import type { Sample } from '../../src/data/records.js'
import { compareEvaluations } from '../../src/evaluate/compare-folders.js'
import { type EvaluationRequest, evaluate } from '../../src/evaluate/evaluation.js'
import type { JudgingRequest } from '../../src/evaluate/judging.js'
import { readFolder } from '../../src/evaluate/page/folder.js'
import { publishedSection } from '../../src/evaluate/page/published.js'
import { renderEvaluation } from '../../src/evaluate/page/render.js'
import { phantomJudge } from '../../src/evaluate/phantom.js'
import { rulesVersion } from '../../src/evaluate/questions/rule.js'
import type { VerdictRecord } from '../../src/evaluate/records.js'
import { rejudge } from '../../src/evaluate/rejudge.js'
import { describeComparisons } from '../../src/evaluate/stage.js'
import { sampleSettings } from '../../src/sample/index.js'
import { silent } from '../../src/stage/progress.js'
import { say, server } from '../endpoint/world.js'
import { temporaryFolder } from '../fakes/world.js'
import { makeSample, readLines, writeRecords } from '../sample/records.js'

let folder: string
let samples: Sample[]

const image = (number: number) => ({
  path: `${number}.png`,
  sha256: String(number).padStart(64, '0'),
  width: 8,
  height: 8,
})

beforeEach(async () => {
  folder = await temporaryFolder()
  // Thirty images of two questions, one closed and one open.
  samples = Array.from({ length: 60 }, (_, i) =>
    makeSample(`set-${i}`, {
      images: [image(i >> 1)],
      ...(i % 2 === 0
        ? { question: 'Is there a nodule?', answer: i % 4 === 0 ? 'yes' : 'no' }
        : { question: 'What is shown?', answer: 'pneumonia', answerType: 'open' as const }),
    }),
  )
  await writeRecords(join(folder, 'samples.jsonl'), samples)
  const right = samples.map(({ id, answer }) => ({ question_id: id.slice(4), text: answer }))
  const half = samples.map(({ id, answer }, i) => ({ sampleId: id, text: i % 3 === 0 ? 'Something else.' : answer }))
  await writeRecords(join(folder, 'right.jsonl'), right)
  await writeRecords(join(folder, 'half.jsonl'), half)
})

function request(more: Partial<EvaluationRequest> = {}): EvaluationRequest {
  const path = join(folder, 'samples.jsonl')
  return {
    samples: path,
    imageRoot: folder,
    out: join(folder, 'out'),
    systems: ['half', 'right'].map((name) => ({ name, kind: 'file', path: join(folder, `${name}.jsonl`) })),
    asked: sampleSettings.parse({ samples: path, out: 'x' }),
    engine: { device: 'cpu', dtype: 'f32', threads: 1, batchSize: 8 },
    truth: null,
    scores: [],
    margin: 0.03,
    maxUnreadable: 0.05,
    seed: 42,
    ...more,
  }
}

const verdicts = (name = 'out') => readLines<VerdictRecord>(join(folder, name, 'verdicts.jsonl'))

describe('systems from files', () => {
  it('are counted under three closed rules and compared by image', async () => {
    const { results, problem } = (await evaluate(request())) ?? expect.fail('stopped')
    expect(problem).toBeUndefined()
    expect(results).toMatchObject({ questions: 60, images: 30, baseline: 'half' })
    const [half, right] = results.systems
    expect(right.groups[0].accuracy).toMatchObject({ successes: 60, count: 60 })
    expect(half.groups[0].accuracy.successes).toBe(40)
    for (const kind of ['answerType', 'yesNoExact', 'paperSubstring']) {
      const closed = half.groups.find((group) => group.kind === kind && group.name === 'closed')
      expect(closed?.accuracy.count).toBe(30)
    }
    const [{ conclusion, groups }] = results.comparisons
    expect(conclusion).toBe('gain')
    expect(groups[0]).toMatchObject({ counts: { gained: 20, lost: 0 }, clusters: { count: 30 } })
    expect(groups[0].clusters.bootstrap?.low).toBeGreaterThan(0.2)
  })

  it('have what decides them beside their numbers, and the totals of published rules', async () => {
    const pairs = join(folder, 'pairs.jsonl')
    await writeFile(pairs, '')
    const { results } = (await evaluate(request({ trainedOn: [pairs] }))) ?? expect.fail('stopped')
    const hashOf = async (path: string): Promise<string> =>
      createHash('sha256')
        .update(await readFile(path))
        .digest('hex')
    expect(results.systems.map(({ about }) => about.sha256)).toEqual([
      await hashOf(join(folder, 'half.jsonl')),
      await hashOf(join(folder, 'right.jsonl')),
    ])
    expect(results.inputs).toMatchObject({
      samplesSha256: await hashOf(join(folder, 'samples.jsonl')),
      trainedOn: [{ path: '../pairs.jsonl', sha256: await hashOf(pairs) }],
    })
    const lexicon = new URL('../../lexica/answers.json', import.meta.url).pathname
    expect(results.judging.rules).toEqual({ version: rulesVersion, lexiconSha256: await hashOf(lexicon) })
    expect(Math.abs(Date.parse(results.made.at) - Date.now())).toBeLessThan(60_000)
    expect(results.made.machine).toContain(process.arch)
    const [half, right] = results.systems.map(({ published }) => published)
    expect(right.rules).toContainEqual({
      rule: 'llavaMed',
      closed: { successes: 30, count: 30 },
      open: { successes: 0, count: 0 },
    })
    // "Something else." holds neither yes nor no: wrong in both releases.
    expect(half.rules.find(({ rule }) => rule === 'llavaMed')?.closed).toEqual({ successes: 20, count: 30 })
    expect(half.rules.find(({ rule }) => rule === 'medEvalKit')?.open).toEqual({ successes: 20, count: 30 })
    // No word of yes or no: the release asks its judge.
    expect(half.rules.find(({ rule }) => rule === 'companion')?.closed).toEqual({ successes: 20, count: 20 })
    expect(half.open).toMatchObject({ count: 30, recall: 2 / 3 })
    // Each can be counted again from the lines.
    const lines = (await verdicts()).filter(({ system }) => system === 'half')
    for (const { rule, closed, open } of half.rules) {
      const counted = lines.flatMap(({ parity }) => parity?.[rule] ?? [])
      expect(counted.length).toBe(closed.count + open.count)
      expect(counted.reduce<number>((sum, each) => sum + Number(each), 0)).toBe(closed.successes + open.successes)
    }
  })

  it('of few images have no interval that reads as one by image', async () => {
    const few = samples.slice(0, 8)
    await writeRecords(join(folder, 'samples.jsonl'), few)
    for (const name of ['half', 'right']) {
      const said = few.map(({ id, answer }) => ({ sampleId: id, text: name === 'half' ? 'Something else.' : answer }))
      await writeRecords(join(folder, `${name}.jsonl`), said)
    }
    const { results } = (await evaluate(request())) ?? expect.fail('stopped')
    expect(results.comparisons[0].groups[0].clusters).toMatchObject({ robust: null, bootstrap: null, signFlip: null })
    expect(describeComparisons(results.comparisons)[0]).toContain(
      'not resolved, +100.0 points (no interval: only 4 images)',
    )
  })

  it('an arm against itself is no gain, and twenty lines of Python find the headline', async () => {
    const path = join(folder, 'half.jsonl')
    const systems = ['a', 'b'].map((name) => ({ name, kind: 'file' as const, path }))
    const { results } = (await evaluate(request({ systems }))) ?? expect.fail('stopped')
    const [{ conclusion, groups }] = results.comparisons
    expect(groups[0].mcnemar.exact).toBe(1)
    expect(groups[0].difference.value).toBe(0)
    expect(conclusion).toBe('equivalent')
    const script = new URL('recount.py', import.meta.url).pathname
    const { stdout } = await promisify(execFile)('python3', [script, join(folder, 'out', 'verdicts.jsonl'), 'a'])
    const { successes, count } = results.systems[0].groups[0].accuracy
    expect(stdout.trim()).toBe(`${successes}/${count}`)
  })

  it.each([
    [{ sampleId: 'set-1', text: 'a' }, 'is there twice'],
    [{ sampleId: 'other', text: 'a' }, 'not asked'],
    [{ sampleId: 'set-1' }, 'expected a text'],
    [{ text: 'a' }, 'expected an id'],
    [{ id: 'set-1', text: 'What a day', prediction: 'a' }, '"text" and "prediction" could each be the answer'],
    [{ id: 'set-1', output: 'b', prediction: 'a' }, '"output" and "prediction" could each'],
    [{ id: 'set-1', question_id: '2', text: 'a' }, '"question_id" and "id" name different samples'],
    [{ sampleId: 'set-1', k: 1, question: 'Where is the liver?', text: 'a' }, 'the question is'],
  ])('refuses %j', async (line, message) => {
    await writeRecords(join(folder, 'half.jsonl'), [
      { sampleId: 'set-1', k: 0, text: 'x' },
      { k: 0, ...line },
    ])
    await expect(evaluate(request())).rejects.toThrow(message)
  })

  it('read the answer where the text is the question, and an id beside the number of a line', async () => {
    const right = samples.map((each, i) => {
      return { id: 1000 + i, question_id: each.id, text: each.question, prediction: each.answer }
    })
    await writeRecords(join(folder, 'right.jsonl'), right)
    const { results } = (await evaluate(request())) ?? expect.fail('stopped')
    expect(results.systems[1].groups[0].accuracy.successes).toBe(60)
  })

  it('take null for an answer that never came, and tabs for commas', async () => {
    await writeRecords(join(folder, 'half.jsonl'), [
      { id: 0, text: null },
      { id: 2, text: 'no' },
    ])
    await writeFile(join(folder, 'right.tsv'), 'id\ttext\n0\tyes\n2\tno\n')
    const systems = ['half.jsonl', 'right.tsv'].map((name) => {
      return { name, kind: 'file' as const, path: join(folder, name) }
    })
    const { results } = (await evaluate(request({ systems }))) ?? expect.fail('stopped')
    expect(results.systems.map(({ groups }) => groups[0].accuracy.successes)).toEqual([1, 2])
  })

  it('names the split that is not there, and those that are', async () => {
    const asked = sampleSettings.parse({ samples: join(folder, 'samples.jsonl'), out: 'x', split: 'tset' })
    await expect(evaluate(request({ asked }))).rejects.toMatchObject({
      message: expect.stringContaining('no sample of split "tset"'),
      hint: 'Its splits are train.',
    })
  })

  it('names the sample that has no truth, before anything is written', async () => {
    await expect(evaluate(request({ truth: phantomJudge }))).rejects.toThrow(/samples\.jsonl: sample set-0: .*no truth/)
    await expect(stat(join(folder, 'out', 'predictions.jsonl'))).rejects.toThrow('ENOENT')
  })

  it('counts only what is judged among what can show a difference', async () => {
    const report = makeSample('r-x', { task: 'report', answer: 'x', answerType: 'open' })
    await writeRecords(join(folder, 'samples.jsonl'), [...samples, report])
    const lines: string[] = []
    await evaluate(request(), { progress: { ...silent, log: (line) => lines.push(line) } })
    expect(lines.find((line) => line.includes('can show'))).toMatch(/^60 questions/)
  })

  it('says how many answers are missing beside what is concluded', async () => {
    const half = await readLines<object>(join(folder, 'half.jsonl'))
    await writeRecords(join(folder, 'half.jsonl'), half.slice(40))
    const { results } = (await evaluate(request())) ?? expect.fail('stopped')
    expect(describeComparisons(results.comparisons)[0]).toMatch(/gain.*missing or unreadable: 40 of half/)
  })

  it('counts what is not in a file as failed, in the denominator', async () => {
    await writeFile(join(folder, 'half.csv'), 'qid,question,output\n0,Is there a nodule?,yes\n2,,"no, nothing"\n')
    const systems = [{ name: 'csv', kind: 'file' as const, path: join(folder, 'half.csv') }]
    const { results } = (await evaluate(request({ systems }))) ?? expect.fail('stopped')
    expect(results.systems[0].groups[0]).toMatchObject({
      accuracy: { successes: 2, count: 60 },
      outcomes: { failed: 58 },
    })
  })

  it('fails where a file answers nothing', async () => {
    await writeFile(join(folder, 'none.csv'), 'qid,output\n')
    const systems = [{ name: 'csv', kind: 'file' as const, path: join(folder, 'none.csv') }]
    await expect(evaluate(request({ systems }))).rejects.toThrow(/none\.csv/)
  })
})

describe('what a file of answers says', () => {
  const only = () => [{ name: 'k', kind: 'file' as const, path: join(folder, 'k.jsonl') }]

  it('stays under its number: a second answer does not stand in for the first', async () => {
    // The first thirty questions lack their first answer.
    const lines = samples.flatMap(({ id, answer }, i) => [0, 1].map((k) => ({ sampleId: id, k, text: answer, i })))
    await writeRecords(
      join(folder, 'k.jsonl'),
      lines.filter(({ i, k }) => i >= 30 || k === 1).map(({ i: _, ...line }) => line),
    )
    const { results } = (await evaluate(request({ systems: only() }))) ?? expect.fail('stopped')
    const [{ groups, sampled }] = results.systems
    expect(groups[0]).toMatchObject({ accuracy: { successes: 30, count: 60 }, outcomes: { failed: 30 } })
    // Half of the questions have one right answer of two, the other half two.
    expect(sampled).toMatchObject({
      questions: 60,
      answers: 2,
      passAtK: [
        { k: 1, value: 0.75 },
        { k: 2, value: 1 },
      ],
    })
  })

  it('leaves pass@k to the other questions where one is missing', async () => {
    const lines = samples.slice(1).flatMap(({ id, answer }) => [0, 1].map((k) => ({ sampleId: id, k, text: answer })))
    await writeRecords(join(folder, 'k.jsonl'), lines)
    const { results } = (await evaluate(request({ systems: only() }))) ?? expect.fail('stopped')
    expect(results.systems[0].sampled?.passAtK).toMatchObject([1, 2].map((k) => ({ k, value: 59 / 60 })))
  })

  it('is refused where it counts from 1', async () => {
    await writeRecords(
      join(folder, 'k.jsonl'),
      samples.map(({ id }) => ({ sampleId: id, k: 1, text: 'yes' })),
    )
    await expect(evaluate(request({ systems: only() }))).rejects.toThrow('no answer with the number 0')
  })
})

describe('a finished evaluation', () => {
  it('is not replaced by another one unless that is said, and the same goes on', async () => {
    await evaluate(request())
    const before = await verdicts()
    const [, right] = request().systems
    const other = request({ systems: [right] })
    await expect(evaluate(other)).rejects.toMatchObject({
      code: 'ERR_FIRE_IO',
      message: expect.stringContaining('with other systems'),
      hint: expect.stringContaining('--overwrite'),
    })
    const asked = { ...request().asked, limit: 10 }
    await expect(evaluate(request({ asked }))).rejects.toThrow('with other questions')
    expect(await verdicts()).toEqual(before)
    await evaluate(request({ margin: 0.05 }))
    expect(await verdicts()).toEqual(before)
    await evaluate({ ...other, overwrite: true })
    expect((await verdicts()).length).toBe(60)
  })

  it('that was cut at a line is not judged again', async () => {
    await evaluate(request())
    const out = join(folder, 'out')
    const again = () => rejudge(out, { ...request(), out: join(folder, 'again') })
    for (const name of ['predictions.jsonl', 'samples.jsonl']) {
      const whole = await readFile(join(out, name), 'utf8')
      await writeFile(join(out, name), `${whole.split('\n').slice(0, 20).join('\n')}\n`)
      await expect(again()).rejects.toThrow(name)
      await writeFile(join(out, name), '')
      await expect(again()).rejects.toThrow(name)
      await writeFile(join(out, name), whole)
    }
    await again()
  })
})

describe('numbers of earlier answers', () => {
  it('never stand beside others, whatever ends the run', async () => {
    const out = join(folder, 'out')
    await evaluate(request())
    const left = ['report.html', 'reports.jsonl', 'grounding.jsonl', 'attention.jsonl', 'hidden.jsonl']
    for (const name of left) await writeFile(join(out, name), '')
    await mkdir(join(out, 'tables'), { recursive: true })
    await writeRecords(
      join(folder, 'half.jsonl'),
      samples.map(({ id }) => ({ sampleId: id, text: 'Something else.' })),
    )
    server.answer = (response) => void response.writeHead(401).end('no')
    const judge = {
      endpoint: { url: `${server.url}/v1`, model: 'm', retries: 0 },
      ...({ on: 'all', protocol: 'ours', secondSample: 0, seed: 1, cache: join(folder, 'cache') } as const),
    }
    await expect(evaluate(request({ judge }))).rejects.toThrow()
    expect((await readdir(out)).filter((name) => !name.startsWith('.')).sort()).toEqual([
      'predictions.jsonl',
      'samples.jsonl',
    ])
  })

  it('are refused where a judge would look at nothing', async () => {
    const endpoint = { url: `${server.url}/v1`, model: 'm' }
    const judge = {
      endpoint,
      on: 'all',
      protocol: 'ours',
      secondSample: 0,
      seed: 1,
      cache: join(folder, 'cache'),
    } as const
    const truth = { about: { kind: 'test', description: 'known' }, judge: () => expect.fail('nothing is judged') }
    await expect(evaluate(request({ truth, judge }))).rejects.toThrow('The truth of the samples decides every answer')
  })
})

describe('questions without images', () => {
  const sets = (language: string) =>
    samples.map(({ images: _, ...each }, i) => ({
      ...each,
      ...{ language, images: [], meta: { importedFrom: { images: [`${i >> 1}.png`] } } },
    }))

  it('are clustered by what the source calls their image', async () => {
    await writeRecords(join(folder, 'samples.jsonl'), sets('en'))
    const { results } = (await evaluate(request())) ?? expect.fail('stopped')
    expect(results.images).toBe(30)
    expect(results.comparisons[0].groups[0].clusters.count).toBe(30)
    expect(results.notes.filter((note) => note.includes('English'))).toEqual([])
  })

  it('are said not to be English', async () => {
    await writeRecords(join(folder, 'samples.jsonl'), sets('zh'))
    const { results } = (await evaluate(request())) ?? expect.fail('stopped')
    expect(results.notes).toContainEqual(expect.stringContaining('60 of 60 questions are not in English'))
  })
})

describe('two finished evaluations', () => {
  it('are compared in any order of questions, and refused about other images', async () => {
    await evaluate(request())
    const at = async (name: string, changed: Sample[]) => {
      await writeRecords(join(folder, 'samples.jsonl'), changed)
      await evaluate(request({ out: join(folder, name) }))
      const paths = [join(folder, 'out'), join(folder, name)] as const
      return (await compareEvaluations(...paths, { margin: 0.03, seed: 1 })).comparisons
    }
    const [first] = await at('reversed', [...samples].reverse())
    expect(first.groups[0]).toMatchObject({ count: 60, counts: { gained: 20, lost: 0 } })
    const again = (await at('again', [...samples].reverse())).find(({ system }) => system.startsWith('half'))
    expect(again?.groups[0].counts).toMatchObject({ gained: 0, lost: 0 })
    const others = samples.map((each, i) => ({ ...each, images: [image(100 + (i >> 1))] }))
    await expect(at('others', others)).rejects.toThrow('answered other questions, first set-0')
  })
})

/** What a server does, by the number of the question in what it is asked. */
function answerAs(response: ServerResponse, asked: string, replies: Record<string, unknown>): void {
  const key = Object.keys(replies).find((each) => asked.includes(each))
  say(response, key === undefined ? '{"verdict":"correct","reason":""}' : replies[key])
}

describe('a judge', () => {
  const judging = (more: object = {}): Partial<JudgingRequest> => ({
    judge: {
      endpoint: { url: `${server.url}/v1`, model: 'm', retryDelay: 0.001, retries: 0 },
      on: 'open',
      protocol: 'ours',
      secondSample: 10,
      seed: 1,
      cache: join(folder, 'cache'),
      ...more,
    },
  })

  beforeEach(async () => {
    const said = samples.map(({ id, answer }, i) => ({ sampleId: id, text: i % 2 === 1 ? `text ${i} x` : answer }))
    await writeRecords(join(folder, 'half.jsonl'), said)
  })

  it('gives each reply its class, and none of the others becomes right or wrong', async () => {
    server.answer = (response, { body }) => {
      if (body.includes('text 9 x')) return void response.writeHead(500).end('oops')
      answerAs(response, body, {
        'text 1 x': '{"verdict":"incorrect","reason":"other"}',
        'text 3 x': 'I cannot say.',
        'text 5 x': '{"verdict":"correct"} {"verdict":"incorrect"}',
        'text 7 x': '{"verdict":"unclear","reason":""}',
      })
    }
    const systems = [{ name: 'half', kind: 'file' as const, path: join(folder, 'half.jsonl') }]
    const { results } = (await evaluate(request({ systems, ...judging() }))) ?? expect.fail('stopped')
    const { outcomes } = results.systems[0].groups[0]
    expect(outcomes).toEqual({ correct: 30 + 25, incorrect: 1, unreadable: 2, undecided: 1, failed: 1 })
    expect(results.judging.judge).toMatchObject({ model: 'm', judged: 30, unreadable: 2, failed: 1 })
    // Asked once more, then given up.
    expect(server.asked.filter(({ body }) => body.includes('text 3 x'))).toHaveLength(2)
  })

  it('is paid once, asked anew under another name, and a second one is compared', async () => {
    server.answer = (response) => answerAs(response, '', {})
    const twice = () => evaluate(request(judging()))
    await twice()
    const paid = server.asked.length
    const before = await verdicts()
    await twice()
    expect(server.asked.length).toBe(paid)
    expect(await verdicts()).toEqual(before)
    const endpoint = { url: `${server.url}/v1`, model: 'other', retryDelay: 0.001 }
    const second = await rejudge(join(folder, 'out'), {
      ...request(judging({ second: endpoint })),
      out: join(folder, 'again'),
    })
    // Equal answers to equal questions are one request.
    const anew = server.asked.slice(paid).map(({ body }) => JSON.parse(body).model)
    expect(new Set(anew)).toEqual(new Set(['other']))
    expect(anew.length).toBeLessThanOrEqual(10)
    expect(second.results.judging.agreement).toMatchObject({ count: 10, agreement: 1, leftOut: 0 })
  })

  it('judges again for nothing what the first folder has paid for, and keeps every reply with its day', async () => {
    server.answer = (response) => answerAs(response, '', {})
    await evaluate(request(judging({ cache: join(folder, 'out', 'cache') })))
    const paid = server.asked.length
    const out = join(folder, 'again')
    await rejudge(join(folder, 'out'), { ...request(judging({ cache: join(out, 'cache'), on: 'undecided' })), out })
    await rejudge(join(folder, 'out'), { ...request(judging({ cache: join(out, 'cache') })), out, overwrite: true })
    expect(server.asked.length).toBe(paid)
    const replies = (await verdicts('again')).flatMap(({ judge }) => judge ?? [])
    expect(replies.length).toBe(60)
    for (const { raw, date } of replies) {
      expect(raw).toBe('{"verdict":"correct","reason":""}')
      expect(date).toMatch(/^\d{4}-\d\d-\d\d$/)
    }
    // Replies of another day keep that day.
    const cache = join(folder, 'out', 'cache')
    for (const name of await readdir(cache)) {
      const text = await readFile(join(cache, name), 'utf8')
      await writeFile(join(cache, name), text.replace(/"date":"[^"]+"/, '"date":"2026-01-02"'))
    }
    const { results } = await rejudge(join(folder, 'out'), { ...request(judging({ cache })), out, overwrite: true })
    expect(results.judging.judge?.date).toBe('2026-01-02')
    expect((await verdicts('again')).flatMap(({ judge }) => judge?.date ?? [])).toEqual(Array(60).fill('2026-01-02'))
    expect(server.asked.length).toBe(paid)
  })

  it('is asked again in turns, also after an empty reply', async () => {
    server.answer = (response) => say(response, '')
    const systems = [{ name: 'half', kind: 'file' as const, path: join(folder, 'half.jsonl') }]
    const { results } = (await evaluate(request({ systems, ...judging() }))) ?? expect.fail('stopped')
    expect(results.systems[0].groups[0].outcomes).toMatchObject({ unreadable: 30, failed: 0 })
    for (const { body } of server.asked) {
      const roles: string[] = JSON.parse(body).messages.map(({ role }: { role: string }) => role)
      expect(roles.some((role, i) => role === roles[i + 1])).toBe(false)
    }
  })

  it('too many unreadable replies are a problem, and the numbers are there', async () => {
    server.answer = (response) => say(response, 'Hello!')
    const { results, problem } = (await evaluate(request(judging()))) ?? expect.fail('stopped')
    expect(problem?.message).toMatch(/could not be read/)
    expect(results.systems[0].groups[0].outcomes.unreadable).toBe(30)
  })

  it('that gives no verdict leaves nothing to conclude, and the page and the command say why', async () => {
    server.answer = (response) => say(response, 'Hello!')
    const path = join(folder, 'half.jsonl')
    const systems = ['a', 'b'].map((name) => ({ name, kind: 'file' as const, path }))
    const { results } = (await evaluate(request({ systems, ...judging({ on: 'all' }) }))) ?? expect.fail('stopped')
    expect(results.comparisons[0]).toMatchObject({ conclusion: 'not_resolved', doubt: { low: -1, high: 1 } })
    expect(describeComparisons(results.comparisons)[0]).toMatch(/not resolved.*\[-100\.0, \+100\.0\]/)
    expect(await renderEvaluation(join(folder, 'out'))).toContain('Too many answers have no verdict')
  })

  it('whose silence could undo a gain leaves none', async () => {
    const said = (name: string) =>
      samples.map(({ id, answer }, i) => ({ sampleId: id, text: i % 2 ? `${name} ${i} x` : answer }))
    for (const name of ['half', 'right']) await writeRecords(join(folder, `${name}.jsonl`), said(name))
    const conclusionOf = async (ofHalf: string, out: string) => {
      server.answer = (response, { body }) =>
        say(response, body.includes('half') ? ofHalf : '{"verdict":"correct","reason":""}')
      const asked = { ...judging({ cache: join(folder, out, 'cache') }), out: join(folder, out) }
      const { results } = (await evaluate(request(asked))) ?? expect.fail('stopped')
      return results.comparisons[0].conclusion
    }
    expect(await conclusionOf('{"verdict":"incorrect","reason":""}', 'wrong')).toBe('gain')
    expect(await conclusionOf('Hello!', 'silent')).toBe('not_resolved')
  })
})

describe('reports', () => {
  let reports: Sample[]

  beforeEach(async () => {
    reports = Array.from({ length: 24 }, (_, i) =>
      makeSample(`r-${i}`, {
        task: 'report',
        images: [image(i)],
        answer: 'The heart is enlarged.',
        answerType: 'open',
      }),
    )
    await writeRecords(join(folder, 'samples.jsonl'), reports)
    for (const name of ['half', 'right']) {
      const said = reports.map(({ id }, i) => ({ sampleId: id, text: `${name} ${i} The heart is normal.` }))
      await writeRecords(join(folder, `${name}.jsonl`), said)
    }
  })

  const green = async () => ({
    endpoint: { url: `${server.url}/v1`, model: 'g', retries: 0, retryDelay: 0.001 },
    prompt: (await import('../../src/evaluate/reports/prompt.js')).generalPrompt,
    cache: join(folder, 'cache'),
  })
  const section = (matched: string): string =>
    `[Clinically Significant Errors]:\n(b) Missing finding: 1. x\n\n[Clinically Insignificant Errors]:\nNone.\n\n[Matched Findings]:\n${matched}`

  it('alone have nothing to say of answers', async () => {
    const { results } = (await evaluate(request())) ?? expect.fail('stopped')
    expect(results.comparisons[0].lost).toEqual({ baseline: 0, system: 0, p: 1 })
    expect(results.notes).toEqual([])
    expect(results.systems[0].groups[0].words).toBeNull()
  })

  it('that one system lost put the comparison in doubt', async () => {
    server.answer = (response, { body }) => say(response, /half \d /.test(body) ? 'Sorry.' : section('1. a'))
    await writeRecords(
      join(folder, 'half.jsonl'),
      reports.map(({ id }, i) => ({ sampleId: id, text: `${i < 10 ? 'half' : 'whole'} ${i} The heart is normal.` })),
    )
    const { results } = (await evaluate(request({ green: await green() }))) ?? expect.fail('stopped')
    expect(results.notes).toEqual(['10 reports of half and 0 of right have no GREEN: their comparison is in doubt.'])
  })

  it('that were never written are no replies of GREEN', async () => {
    server.answer = (response) => say(response, section('1. a'))
    await writeRecords(
      join(folder, 'half.jsonl'),
      reports.slice(8).map(({ id }, i) => ({ sampleId: id, text: `half ${i}` })),
    )
    const { results, problem } = (await evaluate(request({ green: await green() }))) ?? expect.fail('stopped')
    expect(results.reports?.systems[0].green).toMatchObject({
      reports: 24,
      missing: 8,
      failed: 0,
      parity: { count: 16, value: 0.5 },
    })
    expect(problem).toBeUndefined()
  })

  it('have no mean where every request failed, and the page has a dash', async () => {
    server.answer = (response) => void response.writeHead(400).end('no')
    await writeRecords(
      join(folder, 'samples.jsonl'),
      reports.map((each) => ({ ...each, dataset: 'iu-xray' })),
    )
    const { results, problem } = (await evaluate(request({ green: await green() }))) ?? expect.fail('stopped')
    expect(results.reports?.systems[0].green).toMatchObject({
      failed: 24,
      missing: 0,
      parity: { count: 0, value: null },
    })
    expect(problem?.message).toContain('24 of 24 GREEN replies on half (100.0 %)')
    expect(publishedSection(await readFolder(join(folder, 'out')))).toBeNull()
  })

  it.each([
    [[[{ sampleId: 'r-0', metric: 'bleu1', value: 1 }]], 'bleu1 is a score that is counted here'],
    [[[{ sampleId: 'r-0', GREEN: 1 }]], 'GREEN is a score that is counted here'],
    [[[{ sampleId: 'r-0', radgraph: 1 }], [{ sampleId: 'r-0', radgraph: 0 }]], 'radgraph is there twice'],
  ])('refuses scores %j', async (files, message) => {
    const scores = files.map((_, i) => join(folder, `scores-${i}.jsonl`))
    for (const [i, lines] of files.entries()) await writeRecords(scores[i], lines)
    const systems = [{ name: 'half', kind: 'file' as const, path: join(folder, 'half.jsonl') }]
    await expect(evaluate(request({ systems, scores }))).rejects.toThrow(message)
  })

  it('are read by GREEN twice, with bounds, and scores of others join', async () => {
    const scores = reports.map(({ id }, i) => ({ system: 'half', sampleId: id, metric: 'radgraph', value: i / 24 }))
    await writeRecords(join(folder, 'scores.jsonl'), scores)
    server.answer = (response, { body }) =>
      say(response, body.includes('half 3 ') ? 'Sorry.' : section(body.includes('right') ? '3. a; b; c' : '1. a'))
    const { results } =
      (await evaluate(
        request({
          scores: [join(folder, 'scores.jsonl')],
          green: await green(),
        }),
      )) ?? expect.fail('stopped')
    const [half, right] = results.reports?.systems ?? []
    expect(half.green).toMatchObject({ ok: 23, unreadable: { no_sections: 1 }, strict: { count: 23, value: 0.5 } })
    expect(half.green?.bounds).toEqual({ low: 11.5 / 24, high: 12.5 / 24 })
    expect(half.green?.parity).toMatchObject({ count: 24 })
    expect(half.green?.parity.value).toBeCloseTo(11.5 / 24, 12)
    expect(right.green?.findings.micro).toEqual({ precision: 1, recall: 0.75 })
    expect(half.scores.radgraph.count).toBe(24)
    const [{ scores: compared }] = results.reports?.comparisons ?? []
    expect(compared[0]).toMatchObject({ name: 'green', both: 23, lost: { baseline: 1, system: 0 } })
    expect(compared[0].difference.value).toBeCloseTo(0.25, 12)
  })
})

describe('several answers', () => {
  it('are drawn beside a greedy one, which accuracy is counted on; judged again they stay apart', async () => {
    const path = join(folder, 'few.jsonl')
    await writeRecords(
      path,
      ['a', 'b'].map((id) => makeSample(id, { question: `Is there ${id}?` })),
    )
    const asked: number[] = []
    server.answer = (response, { body }) => {
      const { temperature } = JSON.parse(body) as { temperature: number }
      asked.push(temperature)
      // The greedy answer is right; every drawn one is wrong.
      say(response, temperature === 0 ? 'Yes.' : 'No.')
    }
    const endpoint = { url: `${server.url}/v1`, model: 'm', retryDelay: 0.001, retries: 0 }
    const settings = { samples: path, out: 'x', answers: 3, temperature: 0.7, topP: 0.9 }
    const { results } =
      (await evaluate(
        request({
          samples: path,
          systems: [{ name: 'served', kind: 'server', endpoint }],
          asked: sampleSettings.parse(settings),
        }),
      )) ?? expect.fail('stopped')
    expect(asked.sort()).toEqual([0, 0, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7])
    const records = await verdicts()
    expect(records.map(({ sampleId, k, sampled }) => [sampleId, k, sampled])).toEqual([
      ...['a', 'b'].map((id) => [id, 0, false]),
      ...['a', 'b'].flatMap((id) => [1, 2, 3].map((k) => [id, k, true])),
    ])
    const judging = { out: join(folder, 'again'), truth: null, scores: [], margin: 0.03, maxUnreadable: 0.05, seed: 42 }
    const expected = { questions: 2, answers: 3, greedy: { value: 1 }, headroom: { value: 0 }, consistent: 1 }
    for (const { systems } of [results, (await rejudge(join(folder, 'out'), judging)).results]) {
      expect(systems[0].groups[0].accuracy).toMatchObject({ successes: 2, count: 2 })
      expect(systems[0].sampled).toMatchObject(expected)
      expect(systems[0].sampled?.passAtK.map(({ k, value }) => [k, value])).toEqual([
        [1, 0],
        [2, 0],
        [3, 0],
      ])
    }
  })

  it('of a file are all drawn, and accuracy is that of the first', async () => {
    const path = join(folder, 'several.jsonl')
    const two = samples.flatMap(({ id, answer }, i) => [
      { sampleId: id, k: 0, text: i < 20 ? answer : 'Something else.' },
      { sampleId: id, k: 1, text: answer },
    ])
    await writeRecords(path, two)
    const { results } =
      (await evaluate(request({ systems: [{ name: 'f', kind: 'file', path }] }))) ?? expect.fail('stopped')
    expect(results.systems[0].groups[0].accuracy).toMatchObject({ successes: 20, count: 60 })
    expect(results.systems[0].sampled).toMatchObject({
      greedy: null,
      answers: 2,
      passAtK: [{ value: 2 / 3 }, { value: 1 }],
    })
  })
})
