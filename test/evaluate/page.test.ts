/** The page of an evaluation and its tables: whole, true to evaluation.json, and harmless. */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseHTML } from 'linkedom'
import { beforeAll, describe, expect, it } from 'vitest'
import { alongTraining } from '../../src/evaluate/along.js'
import type { Resolution } from '../../src/evaluate/compare.js'
import type { EvaluationResults } from '../../src/evaluate/finished.js'
import { renderEvaluation, writeTables } from '../../src/evaluate/page/render.js'
import type { RewardRecord } from '../../src/evaluate/records.js'
import { rewardResults } from '../../src/evaluate/rewards/summary.js'
import { readCsv } from '../../src/import/csv.js'
import { evaluationFolder } from './page-world.js'

const harm = '</bdi></td></table><script>alert(1)</script><img src=x onerror=alert(1)> "quoted", \u202e=1+1'

let folder: string
let page: string
let results: EvaluationResults

const readResults = async (at: string) =>
  JSON.parse(await readFile(join(at, 'evaluation.json'), 'utf8')) as EvaluationResults

/** What a reader sees of it, blanks as one. */
function textOf(markup: string): string {
  const { document } = parseHTML(markup)
  for (const element of document.querySelectorAll('style, svg')) element.remove()
  return (document.body.textContent ?? '').replace(/\s+/g, ' ')
}

async function rowsOf(name: string): Promise<Record<string, unknown>[]> {
  const rows: Record<string, unknown>[] = []
  for await (const { value } of readCsv(join(folder, 'tables', `${name}.csv`))) {
    rows.push(value as Record<string, unknown>)
  }
  return rows
}

beforeAll(async () => {
  folder = await evaluationFolder(harm)
  page = await renderEvaluation(folder)
  results = await readResults(folder)
  await writeTables(folder)
}, 60_000)

describe('the page', () => {
  it('has every part that there is data for, the verdict first', () => {
    const { document } = parseHTML(page)
    expect([...document.querySelectorAll('h2')].map(({ textContent }) => textContent)).toEqual([
      'Accuracy by group',
      'Comparisons on the same questions',
      'What these questions can show',
      'Judges, and answers without a verdict',
      'Reports',
      'Grounding: attention on the region that answers',
      'Several answers to a question',
      'What published rules count',
      'Examples where systems differ',
      'Published numbers',
      'Method',
    ])
    const text = textOf(page)
    const order = ['Leakage: not known', 'Judge: judge, ', results.comparisons[0].system, 'Accuracy by group'].map(
      (each) => text.indexOf(each),
    )
    expect(order.every((at) => at >= 0)).toBe(true)
    expect(text).toContain('Other model, other data, one run.')
    expect(text).not.toMatch(/improve|outperform|(?<!clinically )significant/i)
    expect(text).toContain(results.made.at)
    expect(text).toContain('1 image left out: not found below')
  })

  it('writes each number of evaluation.json', () => {
    const text = textOf(page)
    for (const { groups } of results.systems) {
      for (const { accuracy } of groups) {
        expect(text).toContain(`${accuracy.successes} / ${accuracy.count}`)
        if (accuracy.count > 0) expect(text).toContain((100 * accuracy.low).toFixed(1))
      }
    }
    for (const { groups } of results.comparisons) {
      for (const { counts, clusters, mcnemar } of groups) {
        expect(text).toContain(`+${counts.gained} −${counts.lost}`)
        expect(text).toContain(`${clusters.count} images`)
        expect(text).toContain(mcnemar.midP < 0.001 ? '< 0.001' : `mid-p ${mcnemar.midP.toFixed(3)}`)
      }
    }
    const { agreement, judge } = results.judging
    expect(text).toContain(agreement?.gwetAC1.toFixed(3))
    expect(text).toContain(judge?.date)
    for (const { green } of results.reports?.systems ?? []) {
      expect(text).toContain(green?.strict.value?.toFixed(3))
      expect(text).toContain(green?.parity.value?.toFixed(3))
    }
    for (const { rules, open } of results.systems.map(({ published }) => published)) {
      const counts = rules.flatMap(({ closed, open }) => [closed, open]).filter(({ count }) => count > 0)
      expect(counts.length).toBe(7)
      for (const { successes, count } of counts) expect(text).toContain(`${successes} / ${count}`)
      expect(text).toContain(open?.recall.toFixed(3))
    }
    for (const { discordant, difference } of results.detectable) {
      expect(text).toContain(`${(100 * discordant).toFixed(0)} %`)
      if (difference !== null) expect(text).toContain((100 * difference).toFixed(1))
    }
  })

  it('shows every reply that says nothing, escaped', () => {
    const text = textOf(page)
    expect(text).toContain('Sorry, I cannot.')
    expect(results.judging.judge?.unreadable).toBeGreaterThan(0)
    expect(results.judging.judge?.failed).toBeGreaterThan(0)
    const { document } = parseHTML(page)
    expect(document.querySelectorAll('script, img')).toHaveLength(0)
    for (const element of document.querySelectorAll('*')) {
      for (const { name } of element.attributes) expect(name).not.toMatch(/^on/i)
    }
    expect(text).toContain('<script>alert(1)</script>')
  })

  it.each<[Resolution, RegExp]>([
    ['gain', /answers more questions correctly/],
    ['loss', /answers fewer questions correctly/],
    ['equivalent', /are equivalent within 3\.0 points/],
    ['not_resolved', /Not resolved: whether/],
  ])('says %s in its words, and claims a gain only of one', async (conclusion, words) => {
    const changed = { ...results, comparisons: results.comparisons.map((each) => ({ ...each, conclusion })) }
    await writeFile(join(folder, 'evaluation.json'), JSON.stringify(changed))
    const text = textOf(await renderEvaluation(folder))
    await writeFile(join(folder, 'evaluation.json'), JSON.stringify(results))
    expect(text).toMatch(words)
    expect(text).not.toMatch(/improv|better|outperform/i)
    if (conclusion !== 'gain') expect(text).not.toMatch(/answers more questions/)
  })

  it('says which comparison was fixed beforehand, and that the rest is exploratory', () => {
    const { document } = parseHTML(page)
    const verdicts = [...document.querySelectorAll('p.verdict')].map(({ textContent }) => textContent ?? '')
    expect(verdicts[0]).toContain('fire')
    expect(verdicts.map((each) => each.startsWith('exploratory'))).toEqual([false, true])
    const [primary, other] = [...results.comparisons].sort((a) => (a.system === 'fire' ? -1 : 1))
    expect([primary.role, other.role]).toEqual(['primary', 'exploratory'])
    // One fixed comparison is one test, and Holm over the one that is left changes nothing either.
    for (const { groups } of [primary, other]) expect(groups[0].adjusted.holm).toBe(groups[0].mcnemar.exact)
    expect(textOf(page)).toContain('The primary comparison, fire, was fixed beforehand')
  })

  it('has worst cases where more than 2 % have no verdict, and the reply that was not read', () => {
    const { groups, name } = results.systems[0]
    const { outcomes, accuracy, bounds } = groups[0]
    const lost = outcomes.undecided + outcomes.unreadable + outcomes.failed
    expect(lost).toBeGreaterThan(2)
    expect(bounds).toEqual({ low: accuracy.value, high: (accuracy.successes + lost) / accuracy.count })
    const text = textOf(page)
    expect(text).toContain(`${lost} of ${accuracy.count} answers of ${name} have no verdict`)
    expect(text).toContain('Who knows?')
  })

  it('draws a few maps beside their boxes, in the frame of the model', () => {
    const { document } = parseHTML(page)
    const maps = [...document.querySelectorAll('.maps')]
    expect(maps).toHaveLength(3)
    expect(maps[0].querySelectorAll('svg.picture')).toHaveLength(4)
    expect(maps[0].querySelectorAll('.heat rect')).toHaveLength(3 * 64)
    expect(maps[0].querySelectorAll('path.outline')).toHaveLength(4)
    const [first] = maps[0].querySelectorAll('.heat rect')
    expect([first.getAttribute('y'), first.getAttribute('height')]).toEqual(['-4', '6'])
    expect(maps[2].textContent).toContain('image not found')
  })

  it('writes no p without its n', () => {
    const { document } = parseHTML(page)
    for (const table of document.querySelectorAll('table')) {
      const heads = [...table.querySelectorAll('th')].map(({ textContent }) => textContent ?? '')
      if (heads.some((head) => / p$/.test(head))) expect(heads).toContain('n')
    }
  })
})

it('shows training step by step, rewards and the crossed probe, with the numbers of evaluation.json', async () => {
  const own = await evaluationFolder()
  const found = await readResults(own)
  const at = (answer: number) => ({ answer, phrases: answer / 2, words: answer === 4 || answer === 2 ? 1 : 8 })
  const records = Array.from(
    { length: 40 },
    (_, i): RewardRecord => ({
      ...{ system: 'fire', pairs: '../held-out.jsonl', pairId: `p${i}`, sampleId: `p${i}`, imageId: `i${i % 20}` },
      ...{ seenImage: false, reason: null },
      // One of forty prefers the wrong side.
      ...{ chosen: at(i === 0 ? 0 : 1), rejected: at(0.5), referenceRight: at(4), referenceWrong: at(2) },
    }),
  )
  const [base, , fire] = found.systems
  base.about = { kind: 'model', model: 'm', adapter: null }
  fire.about = { kind: 'model', model: 'm', adapter: 'a', step: 40 }
  const rewards = rewardResults(records, 0)
  const training = alongTraining({ systems: found.systems, rewards }, [])
  await writeFile(join(own, 'evaluation.json'), JSON.stringify({ ...found, rewards, training }))
  const text = textOf(await renderEvaluation(own))
  expect(text).toContain('97.5 [87.1, 99.6]')
  // (2 + 0.475) / 2 of content: the references differ by 2, the own texts by -0.5 once and else by 0.5.
  expect(text).toContain('1.24 [')
  await writeTables(own)
  const tables = join(own, 'tables')
  expect(await readFile(join(tables, 'rewards.csv'), 'utf8')).toContain('\r\nfire,../held-out.jsonl,40,20,0,0.975,')
  expect(await readFile(join(tables, 'training.csv'), 'utf8')).toMatch(/\r\n0,base,.*\r\n40,fire,.*,0\.975\r\n/)
  expect(await readFile(join(tables, 'crossed.csv'), 'utf8')).toContain('fire,../held-out.jsonl,40,1,8,')
})

describe('tables', () => {
  it('are CSV that reads back to the numbers', async () => {
    const files = await readdir(join(folder, 'tables'))
    expect(files).toEqual(
      expect.arrayContaining(['accuracy.csv', 'comparisons.csv', 'green.csv', 'grounding-layers.csv']),
    )
    const accuracy = await rowsOf('accuracy')
    const groups = results.systems.flatMap(({ name, groups }) => groups.map((group) => ({ name, group })))
    expect(accuracy).toHaveLength(groups.length)
    for (const { name, group } of groups) {
      const row = accuracy.find((each) => each.system === name && each.kind === group.kind && each.group === group.name)
      expect(Number(row?.successes)).toBe(group.accuracy.successes)
      expect(Number(row?.low)).toBe(group.accuracy.low)
    }
    for (const name of files) {
      expect((await rowsOf(name.replace('.csv', ''))).length).toBeGreaterThan(0)
      expect(await readFile(join(folder, 'tables', name), 'utf8')).not.toMatch(/(^|,|\r\n)"?[=+@]|(^|,|\r\n)"?-(?!\d)/)
    }
  })

  it('keep the published rows as they were printed', async () => {
    const golden = JSON.parse(await readFile(new URL('golden/published.json', import.meta.url), 'utf8'))
    const rows = await rowsOf('published')
    for (const [model, objectives] of Object.entries<
      Record<string, Record<string, { value: number; successes: number }>>
    >(golden.main)) {
      for (const [name, values] of Object.entries(objectives)) {
        const row = rows.find((each) => each.model === `Published, ${model}` && each.name === name)
        expect(Number(row?.slakeClosed_value)).toBe(values.slakeClosed.value)
        expect(row?.slakeOpen_successes).toBe(String(values.slakeOpen.successes ?? ''))
        expect(row?.note).toBe('other model, other data, one run')
      }
    }
    expect(rows.filter(({ model }) => String(model).startsWith('Published'))).toHaveLength(15)
  })
})
