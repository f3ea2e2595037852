import { parseHTML } from 'linkedom'
import { describe, expect, it } from 'vitest'
import { describeRounds } from '../../src/cli/commands/demo.js'
import { hiddenResults } from '../../src/evaluate/hidden.js'
import { escapeHtml, html } from '../../src/page/html.js'
import { points } from '../../src/page/numbers.js'
import { maskOutline } from '../../src/page/picture.js'
import type { PairReport } from '../../src/pairs/index.js'
import { describeRun, summarise, type Training } from '../../src/report/describe.js'
import { conclusion } from '../../src/report/hidden-section.js'
import { renderReport } from '../../src/report/index.js'
import { highlight } from '../../src/report/pairs-section.js'
import { headline, readable } from '../../src/report/words.js'
import { counted } from '../../src/text/plural.js'
import { resolveTrainConfig } from '../../src/train/config.js'
import { answers, compared, reportData, sectionTitles } from './fixture.js'

const HOSTILE = `"'><script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>&amp;\u0000\ud800</style></pre>`

describe('escapeHtml', () => {
  it('leaves nothing that could become markup or break the encoding', () => {
    expect(escapeHtml(`<a b="c" d='e'>&`)).toBe('&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;')
    expect(escapeHtml('a\u0000\ud800b\n😀')).toBe('a\ufffd\ufffdb\n😀')
  })

  it('keeps markup made by the template and drops what is absent', () => {
    expect(html`<p>${[html`<b>${'<'}</b>`, 1]}${null}${false}${undefined}</p>`.markup).toBe('<p><b>&lt;</b>1</p>')
  })
})

describe('renderReport', () => {
  const page = renderReport(reportData())

  it('loads nothing: no address but XML names, no script, no style sheet of others', () => {
    expect(page).not.toMatch(/<(script|link|iframe|object|embed|base)\b/i)
    expect(page).not.toMatch(/@import|url\(/i)
    for (const [, value] of page.matchAll(/\s(?:src|href|xlink:href|srcset|data|action)="([^"]*)"/g)) {
      expect(value).toMatch(/^data:image\/webp;base64,/)
    }
    const addresses = [...page.matchAll(/https?:\/\/[^\s"'<]+/g)].map(([address]) => address)
    expect(new Set(addresses)).toEqual(new Set(addresses.filter((address) => address.startsWith('http://www.w3.org/'))))
  })

  it('shows every part', () => {
    const { document } = parseHTML(page)
    const titles = [...document.querySelectorAll('h2')].map((heading) => heading.textContent)
    expect(titles).toEqual(sectionTitles)
    expect([...document.querySelectorAll('h3')].map((heading) => heading.textContent)).toEqual([
      ...['1. The model answers', '2. An edit makes a pair', '3. The image gets a twin', '4. Only the edit is scored'],
      'Loss',
      'Margins',
      'Reward accuracy',
      'KL divergence from the model as it was',
    ])
    expect(document.querySelectorAll('svg.picture').length).toBe(7)
    expect(document.querySelectorAll('mark').length).toBe(5)
    expect(page).not.toContain('NaN')
    expect(page).not.toContain('undefined</')
  })

  it('shows hostile text as text', () => {
    const hostile = renderReport(reportData(HOSTILE))
    expect(hostile).not.toMatch(/<script/i)
    expect(hostile).not.toMatch(/<img/i)
    expect(hostile).not.toContain('\u0000')
    const { document } = parseHTML(hostile)
    expect(document.querySelectorAll('script, img')).toHaveLength(0)
    expect(document.querySelectorAll('h2').length).toBe(sectionTitles.length)
    expect(document.querySelector('pre')?.textContent).toContain('<script>alert(1)</script>')
  })

  it('leaves out what there is nothing of', () => {
    const { document } = parseHTML(
      renderReport({
        ...reportData(),
        rounds: null,
        metrics: [],
        trainedRounds: [],
        pairs: null,
        examples: [],
        attention: [],
        changed: [],
        hidden: { results: [], examples: [] },
        limits: null,
        stages: [],
        objective: null,
        config: null,
      }),
    )
    expect([...document.querySelectorAll('h2')].map((heading) => heading.textContent)).toEqual(['What was run'])
    expect(document.querySelectorAll('table, details, .headline')).toHaveLength(0)
  })
})

describe('what a page says at its top', () => {
  const made = { statistics: { answers: 114, byOrigin: { repaired: 60, counterfactual: 19 } } } as unknown as PairReport
  const training = {
    config: resolveTrainConfig({ model: '/m', data: { train: '/p' }, output: '/o', seed: 2000, objective: {} }),
    report: {
      pairs: { kept: 79 },
      heldOut: 0,
      model: { weightDTypes: ['f32'], isa: 'avx2' },
      machine: {},
      peakHostBytes: 0,
    },
  } as unknown as Training
  const found = { pairs: [], made, training, evaluation: null }

  it('is of one training', () => {
    const once = { ...found, rounds: [] }
    expect(summarise(once)[0]).toMatch(/^The model’s own 114 answers were judged: 60 wrong/)
    expect(summarise(once)[1]).toMatch(/^An adapter was trained on 79 pairs/)
    expect(describeRun(once)).toContainEqual(['Seed', '2000'])
  })

  it('names the round that it is about', () => {
    const thrice = { ...found, rounds: ['round-1', 'round-2', 'round-3'] }
    expect(summarise(thrice)).toEqual([
      expect.stringMatching(/^Training went through 3 rounds\. .* is of the last, round-3/),
      expect.stringMatching(/^With the adapter of round-2 the model gave 114 answers, which were judged: 60 wrong/),
      expect.stringMatching(/^In round-3 the adapter was trained further, on 79 pairs/),
    ])
    expect(describeRun(thrice)).toContainEqual(['Seed of round-3', '2000'])
  })

  it('and the demo’s table, which takes questions as independent and says so', async () => {
    const { rounds } = reportData()
    const text = await describeRounds(rounds as NonNullable<typeof rounds>)
    const table = text.indexOf('difference [95 %]')
    expect(text.indexOf('take the questions as independent')).toBeGreaterThan(table)
    expect(text.trimEnd().split('\n').at(-1)).toBe(
      `${headline(rounds as NonNullable<typeof rounds>).title}: ${headline(rounds as NonNullable<typeof rounds>).detail}`,
    )
  })
})

describe('headline', () => {
  const compare = (after: (i: number) => boolean) =>
    compared(
      answers((i) => i < 30),
      answers(after),
    )

  it('is decided by the numbers', () => {
    expect(headline(compare((i) => i < 50)).title).toBe('A significant gain in accuracy')
    expect(headline(compare((i) => i < 10)).title).toBe('A significant loss of accuracy')
    expect(headline(compare((i) => i < 32)).title).toBe('A change in accuracy is not resolved')
    expect(headline(compare((i) => i < 30)).title).toBe('Accuracy is equivalent within 3.0 points')
  })

  it('claims no gain that rests on the questions of few images', () => {
    const oneImage = (round: ReturnType<typeof answers>) => round.map((each) => ({ ...each, imageId: 'only' }))
    const rounds = compared(oneImage(answers((i) => i < 30)), oneImage(answers((i) => i < 50)))
    expect(rounds.comparison.groups[0].mcnemar.exact).toBeLessThan(0.001)
    expect(headline(rounds)).toMatchObject({
      conclusion: 'not_resolved',
      title: 'A change in accuracy is not resolved',
    })
  })

  it('writes signed points', () => {
    expect([0.031, -0.031, 0, Number.NaN].map(points)).toEqual(['+3.1', '−3.1', '0.0', '–'])
  })
})

describe('the formula', () => {
  const mathOf = (name: string): string[] => {
    const { document } = parseHTML(
      renderReport({ ...reportData(), objective: { name, scope: 'phrase', coefficients: {} } }),
    )
    return [...document.querySelectorAll('.term math')].map(({ textContent }) => (textContent ?? '').replace(/\s/g, ''))
  }
  const text = 'ℓ(m[(v,y+)≻(v,y−)])'

  it.each([
    ['sft', ['−logπ(v,y+)']],
    ['dpo', [text]],
    ['mask-dpo', [text]],
    ['mdpo', [text, 'ℓ(m[(v,y+)≻(v′,y+)])', 'ℓ(βlogπ(v,y+)−βlogπref(v,y+))']],
    ['rrpo', [text, 'αKL(πref‖π)']],
    ['fire', [text, 'γℓ(m[(v′,y−)≻(v′,y+)])', 'α[λKL(πref‖π)+(1−λ)KL(π‖πref)]']],
    ['fire-v1', [text, 'γℓ(m[(v,y+)≻(v′,y+)])', 'α[λKL(πref‖π)+(1−λ)KL(π‖πref)]']],
    ['fire-v2', [text, 'γℓ(m[(v,y+)≻(v′,y−)])', 'α[λKL(πref‖π)+(1−λ)KL(π‖πref)]']],
  ])('of %s has its terms, as docs/objectives.md prints them', (name, terms) => {
    expect(mathOf(name)).toEqual(terms)
  })

  it('is left out for an objective that is not known', () => {
    for (const name of ['unheard-of', 'constructor', '__proto__']) expect(mathOf(name)).toEqual([])
  })
})

describe('what is said of hidden lesions', () => {
  const said = (visible: [number, number], hidden: [number, number]): string => {
    const rounds = ([before, after]: [number, number]) => ({
      before: answers((i) => i < before),
      after: answers((i) => i < after),
    })
    return conclusion(
      hiddenResults({ method: 'lesion-noise', sigma: 90 }, rounds(visible), rounds(hidden), { margin: 0.03, seed: 0 }),
    )
  }

  it('claims nothing where the lesion is not hidden', () => {
    const text = said([40, 55], [40, 54])
    expect(text).toContain('Noise on the lesion, σ\u00a090: accuracy falls by 0.0 points before training')
    expect(text).toContain('That this hides anything is not resolved')
    expect(text).not.toContain('rarer')
  })

  it('says which way the numbers go, and when they do not say', () => {
    const rarer = said([40, 56], [30, 8])
    expect(rarer).toContain('Answers depend more on the lesion after training than before.')
    expect(rarer).toContain('Right answers on such images became rarer (50.0 % before, 13.3 % after')
    const oftener = said([50, 52], [10, 45])
    expect(oftener).toContain('Answers depend less on the lesion after training than before.')
    expect(oftener).toContain('Right answers on such images became more frequent')
    expect(said([50, 51], [20, 21])).toContain('rarer is not resolved')
    expect(rarer).not.toContain('hides anything')
    expect(said([40, 56], [40, 40])).toContain(
      'Before training, that this hides anything is not resolved. Answers depend more',
    )
  })
})

describe('counted', () => {
  it('knows the plural', () => {
    expect([0, 1, 2].map((count) => counted(count, 'pair'))).toEqual(['0 pairs', '1 pair', '2 pairs'])
  })
})

describe('highlight', () => {
  it('marks the spans and nothing else', () => {
    expect(highlight('a <b> c', [[2, 5]], 'chosen').markup).toBe('<bdi>a <mark class="chosen">&lt;b&gt;</mark> c</bdi>')
  })
})

describe('readable', () => {
  it('turns identifiers into words', () => {
    expect(readable('side-check')).toBe('Side check')
    expect(readable('laterality+size')).toBe('Laterality and size')
    expect(readable('undecided')).toBe('The answer commits to nothing that can be judged')
  })
})

describe('maskOutline', () => {
  it('traces a block in four strokes and a hole from within', () => {
    const block = Uint8Array.of(0, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0)
    expect(maskOutline(block, 4, 4)).toBe('M1 1H3M1 3H3M1 1V3M3 1V3')
    expect(maskOutline(new Uint8Array(16), 4, 4)).toBe('')
    expect(maskOutline(new Uint8Array(16).fill(1), 4, 4)).toBe('M0 0H4M0 4H4M0 0V4M4 0V4')
  })
})
