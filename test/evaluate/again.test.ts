/** A finished evaluation judged again, and held against another one. */
import { cp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { writeJsonl } from '../../src/data/jsonl.js'
import { compareEvaluations } from '../../src/evaluate/compare-folders.js'
import { type EvaluationResults, readEvaluation } from '../../src/evaluate/finished.js'
import type { Judge } from '../../src/evaluate/judge.js'
import type { JudgingRequest } from '../../src/evaluate/judging.js'
import { renderEvaluation } from '../../src/evaluate/page/render.js'
import type { GroundingMap, GroundingRecord, ReportRecord } from '../../src/evaluate/records.js'
import { rejudge } from '../../src/evaluate/rejudge.js'
import { describeBetween } from '../../src/evaluate/stage.js'
import { silent } from '../../src/stage/progress.js'
import { readLines, writeRecords } from '../sample/records.js'
import { evaluationFolder } from './page-world.js'

let folder: string

const request = (out: string): JudgingRequest => ({
  ...{ out, truth: null, scores: [], margin: 0.03, maxUnreadable: 1, seed: 42, baseline: 'base' },
})

beforeAll(async () => {
  folder = await evaluationFolder()
}, 60_000)

const linesOf = <T>(at: string, name: string): Promise<T[]> => readLines<T>(join(at, name))

describe('another judge', () => {
  it('keeps where models look, and the replies of GREEN', async () => {
    const out = join(folder, '..', 'again')
    await writeRecords(join(folder, 'attention.jsonl'), [probed])
    const { results } = await rejudge(folder, request(out))
    const before = await readEvaluation(folder)
    expect(results.reports?.green).toEqual(before.reports?.green)
    expect(results.reports?.systems).toEqual(before.reports?.systems)
    expect(await linesOf(out, 'reports.jsonl')).toEqual(await linesOf(folder, 'reports.jsonl'))
    expect(await linesOf(out, 'grounding.jsonl')).toEqual(await linesOf(folder, 'grounding.jsonl'))
    const [map] = await linesOf<GroundingMap>(out, 'maps.jsonl')
    expect(map.image.path).toBe('../0.png')
    const [attention] = await linesOf<typeof probed>(out, 'attention.jsonl')
    expect(attention).toEqual({ ...probed, image: { ...probed.image, path: '../0.png' }, mask: '../out/masks/a.png' })
    expect(await renderEvaluation(out)).toContain('A few maps')
    // Rules alone judge now.
    expect(results.judging.judge).toBeNull()
  })

  it('keeps baseline, primary comparison and margin, unless it is told others', async () => {
    const again = async (name: string, more: Partial<JudgingRequest>) => {
      const { baseline, margin, ...rest } = request(join(folder, '..', name))
      const { results } = await rejudge(folder, { ...rest, ...more })
      return [results.baseline, results.primary, results.margin]
    }
    expect(await again('kept', {})).toEqual(['base', 'fire', 0.03])
    expect(await again('told', { baseline: 'dpo', margin: 0.1 })).toEqual(['dpo', null, 0.1])
    expect(await again('turned', { baseline: 'fire' })).toEqual(['fire', null, 0.03])
  })

  it('leaves out what rests on the verdicts of another first judge, and says so', async () => {
    const out = join(folder, '..', 'truth')
    const lines: string[] = []
    const truth = { about: { name: 'exact', description: 'by truth' }, judge: async () => right } as unknown as Judge
    const progress = { ...silent, log: (line: string) => void lines.push(line) }
    await rejudge(folder, { ...request(out), truth }, { progress })
    expect(lines.join()).toContain('attention.jsonl is left out')
    expect(await readFile(join(out, 'attention.jsonl'), 'utf8')).toBe('')
    expect(await linesOf(out, 'grounding.jsonl')).toEqual(await linesOf(folder, 'grounding.jsonl'))
    const { attention, hidden, judging } = await readEvaluation(out)
    expect([attention, hidden, judging.first]).toEqual([null, [], 'truth'])
  })
})

const right = { correct: true, decided: true, reason: 'truth' }
const image = { path: '../0.png', sha256: '0'.repeat(64), width: 48, height: 40 }
const heat = { rows: 1, columns: 1, values: [1] }
const probed = {
  ...{ sampleId: 'slake-0', question: 'q', answer: 'yes', span: [0, 3], image, mask: 'masks/a.png' },
  ...{ before: heat, after: heat, ratios: { before: 1, after: 2 }, mended: false },
}

/** A copy in which one record of a file is another. */
async function changed<T>(name: string, file: string, change: (records: T[]) => T[]): Promise<string> {
  const copy = join(folder, '..', name)
  await cp(folder, copy, { recursive: true })
  await writeJsonl(join(copy, file), change(await linesOf<T>(copy, file)))
  return copy
}

const compare = (second: string) => compareEvaluations(folder, second, { margin: 0.03, seed: 42 })

describe('two finished evaluations', () => {
  it('are compared in questions, scores of reports and grounding, by image', async () => {
    const better = await changed<ReportRecord>('better', 'reports.jsonl', (records) =>
      records.map((record) => ({ ...record, scores: { ...record.scores, rougeL: record.scores.rougeL + 0.25 } })),
    )
    const { comparisons, reports, grounding } = await compare(better)
    expect(comparisons.map(({ system }) => system)).toEqual([
      ...['dpo', 'fire', 'base (better)', 'dpo (better)', 'fire (better)'],
    ])
    const scores = reports.find(({ system }) => system === 'base (better)')?.scores ?? []
    expect(scores.map(({ name }) => name)).toEqual([
      ...['green', 'greenParity', 'bleu1', 'bleu2', 'bleu3', 'bleu4', 'rougeL', 'ciderD'],
    ])
    const rouge = scores.find(({ name }) => name === 'rougeL')
    expect(rouge).toMatchObject({ both: 24, lost: { baseline: 0, system: 0 } })
    expect(rouge?.difference.value).toBeCloseTo(0.25, 12)
    expect(rouge?.difference.interval?.low).toBeCloseTo(0.25, 12)
    // Twenty-four differences of one sign: the smallest p that ten thousand patterns show.
    expect(rouge?.p).toBeLessThan(0.001)
    // The reply on one report could not be read: strictly it has no score, as published it has 0.
    expect(scores[0]).toMatchObject({ name: 'green', both: 23, difference: { value: 0 } })
    expect(scores[1]).toMatchObject({ name: 'greenParity', both: 24 })
    const same = grounding.filter(({ system }) => system === 'base (better)')
    expect(same.map(({ kind, both, difference, p }) => [kind, both, difference.value, p])).toEqual([
      ['localization', 23, 0, 1],
      ['attribute', 23, 0, 1],
    ])
    const text = describeBetween({ comparisons, reports, grounding }).join('\n')
    expect(text).toMatch(
      /base \(better\), rougeL of reports \(exploratory\): \+0\.250 \[0\.250, 0\.250\], p = .*, n = 24/,
    )
    expect(text).toMatch(/base \(better\), attention ratio, localization: 0\.000/)
  })

  it('are refused with other references, images, prompts or judges', async () => {
    type Sample = { task: string; answer: string }
    const answers = await changed<Sample>('answers', 'samples.jsonl', (records) =>
      records.map((record) => (record.task === 'report' ? { ...record, answer: 'Nothing.' } : record)),
    )
    await expect(compare(answers)).rejects.toThrow(/have other reports, first iu-xray-0/)
    const images = await changed<GroundingRecord>('images', 'grounding.jsonl', (records) =>
      records.map((record) => ({ ...record, imageId: `other-${record.imageId}` })),
    )
    await expect(compare(images)).rejects.toThrow(/asked about other images in localization question/)
    const results = async (name: string, change: (results: EvaluationResults) => void): Promise<string> => {
      const copy = await changed<unknown>(name, 'samples.jsonl', (records) => records)
      const path = join(copy, 'evaluation.json')
      const value: EvaluationResults = JSON.parse(await readFile(path, 'utf8'))
      change(value)
      await writeFile(path, JSON.stringify(value))
      return copy
    }
    const green = await results('green', ({ reports }) => {
      if (reports?.green) reports.green.model = 'another'
    })
    await expect(compare(green)).rejects.toThrow(/counted errors of reports with green, .* with another/)
    const judge = await results('judge', ({ judging }) => {
      judging.on = 'all'
    })
    await expect(compare(judge)).rejects.toThrow(/judged in other ways: .*open and all/)
    const rules = await results('rules', ({ judging }) => {
      judging.rules = { version: 1, lexiconSha256: 'f'.repeat(64) }
    })
    await expect(compare(rules)).rejects.toThrow(
      /version of the rules: \d+ and 1; words of the rules: [0-9a-f]{12} and f{12}/,
    )
  })
})
