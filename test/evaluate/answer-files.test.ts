/** Answers from files to numbers: what is counted, what is compared, and which lines are refused. */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { evaluate } from '../../src/evaluate/evaluation.js'
import { phantomJudge } from '../../src/evaluate/phantom.js'
import { rulesVersion } from '../../src/evaluate/questions/rule.js'
import { describeComparisons } from '../../src/evaluate/stage.js'
import { sampleSettings } from '../../src/sample/index.js'
import { silent } from '../../src/stage/progress.js'
import { makeSample, readLines, writeRecords } from '../sample/records.js'
import { evaluated, folder, request, samples, systemOf, verdicts } from './world.js'

describe('systems from files', () => {
  it('are counted under three closed rules and compared by image', async () => {
    const { results, problem } = await evaluated()
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
    const { results } = await evaluated({ trainedOn: [pairs] })
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
    const { results } = await evaluated()
    expect(results.comparisons[0].groups[0].clusters).toMatchObject({ robust: null, bootstrap: null, signFlip: null })
    expect(describeComparisons(results.comparisons)[0]).toContain(
      'not resolved, +100.0 points (no interval: only 4 images)',
    )
  })

  it('an arm against itself is no gain, and twenty lines of Python find the headline', async () => {
    const systems = ['a', 'b'].map((name) => systemOf(name, 'half.jsonl'))
    const { results } = await evaluated({ systems })
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
    const { results } = await evaluated()
    expect(results.systems[1].groups[0].accuracy.successes).toBe(60)
  })

  it('take null for an answer that never came, and tabs for commas', async () => {
    await writeRecords(join(folder, 'half.jsonl'), [
      { id: 0, text: null },
      { id: 2, text: 'no' },
    ])
    await writeFile(join(folder, 'right.tsv'), 'id\ttext\n0\tyes\n2\tno\n')
    const systems = ['half.jsonl', 'right.tsv'].map((name) => systemOf(name, name))
    const { results } = await evaluated({ systems })
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
    const { results } = await evaluated()
    expect(describeComparisons(results.comparisons)[0]).toMatch(/gain.*missing or unreadable: 40 of half/)
  })

  it('counts what is not in a file as failed, in the denominator', async () => {
    await writeFile(join(folder, 'half.csv'), 'qid,question,output\n0,Is there a nodule?,yes\n2,,"no, nothing"\n')
    const systems = [systemOf('csv', 'half.csv')]
    const { results } = await evaluated({ systems })
    expect(results.systems[0].groups[0]).toMatchObject({
      accuracy: { successes: 2, count: 60 },
      outcomes: { failed: 58 },
    })
  })

  it('fails where a file answers nothing', async () => {
    await writeFile(join(folder, 'none.csv'), 'qid,output\n')
    const systems = [systemOf('csv', 'none.csv')]
    await expect(evaluate(request({ systems }))).rejects.toThrow(/none\.csv/)
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
    const { results } = await evaluated()
    expect(results.images).toBe(30)
    expect(results.comparisons[0].groups[0].clusters.count).toBe(30)
    expect(results.notes.filter((note) => note.includes('English'))).toEqual([])
  })

  it('are said not to be English', async () => {
    await writeRecords(join(folder, 'samples.jsonl'), sets('zh'))
    const { results } = await evaluated()
    expect(results.notes).toContainEqual(expect.stringContaining('60 of 60 questions are not in English'))
  })
})
