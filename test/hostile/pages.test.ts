/** Texts of models, files and servers that mean harm: they never become markup, and never break a page. */
import { parseHTML } from 'linkedom'
import { describe, expect, it } from 'vitest'
import type { Draws } from '../../src/bench/random.js'
import { renderReport } from '../../src/report/index.js'
import { allViews, hasBrowser, useBrowser } from '../page/browser.js'
import { reportData } from '../report/fixture.js'
import { drawsOf, pick, rounds, timeFor } from './campaign.js'

const pieces = [
  ...['<script>alert(1)</script>', '<img src=x onerror=alert(1)>', '</style><style>*{display:none}', '</title></head>'],
  ...[
    '<svg/onload=alert(1)>',
    '</bdi></td></table></section></main>',
    '<!--',
    '-->',
    ']]>',
    '<base href=//evil.example>',
  ],
  ...['" onmouseover="alert(1)', "' x='", '&lt;b&gt;', '&#0;', '&amp', '{{7*7}}', 'javascript:alert(1)'],
  ...['\u202e', '\u2066', '\u200f', 'שלום', 'العربية', '\u0000', '\u001b[31m', '\ud800', '\ufeff', '\u2028', '\r\n'],
  ...['👩‍⚕️', '🏳️‍🌈', 'a\u0301\u0302\u0303'.repeat(40), 'W'.repeat(400), 'nodule '.repeat(1400), '\u00a0'.repeat(300)],
  ...['__proto__', 'constructor', 'toString', '', ' ', '\t', 'NaN', '-0', '汉字'.repeat(200), '.'.repeat(300)],
]

function hostileText(draws: Draws): string {
  const count = draws.integers(1, 1, 5)[0]
  return Array.from({ length: count }, () => pick(draws, pieces)).join(pick(draws, ['', ' ', '\n']))
}

/** How often each element stands on a page; what a reader's words may add is left out. */
function shapeOf(page: string): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const { tagName } of parseHTML(page).document.querySelectorAll('*')) {
    if (tagName !== 'BDI' && tagName !== 'I' && tagName !== 'MARK') counts[tagName] = (counts[tagName] ?? 0) + 1
  }
  return counts
}

const plain = shapeOf(renderReport(reportData('plain')))

function expectHarmless(page: string): void {
  expect(shapeOf(page)).toEqual(plain)
  const { document } = parseHTML(page)
  for (const element of document.querySelectorAll('*')) {
    for (const { name, value } of element.attributes) {
      expect(name).not.toMatch(/^on/i)
      if (/^(href|src|action|data)$/i.test(name)) expect(value).toMatch(/^data:image\/webp;base64,[A-Za-z0-9+/=]*$/)
    }
  }
  expect(Buffer.from(page, 'utf8').toString('utf8')).toBe(page)
  expect(page).not.toMatch(/(?![\t\n\r])\p{Cc}/u)
}

describe('texts on a page', () => {
  const count = rounds(30, 1000)

  it(`stay texts: ${count} rounds`, { timeout: timeFor(30_000) }, () => {
    for (let round = 0; round < count; round += 1) {
      const text = hostileText(drawsOf('pages', round))
      try {
        expectHarmless(renderReport(reportData(text)))
      } catch (error) {
        throw new Error(`round ${round}: ${JSON.stringify(text.slice(0, 200))}`, { cause: error })
      }
    }
  })
})

describe.skipIf(!hasBrowser)('in a browser', () => {
  const faults = useBrowser()
  const named: [string, string][] = [
    ['markup', pieces.slice(0, 18).join(' ')],
    ['right to left', `${pieces.slice(18, 23).join(' ')} left < right`],
    ['one very long word', 'W'.repeat(2000)],
    ['10,000 characters', 'There is a nodule. '.repeat(527)],
    ['emoji and marks', `👩‍⚕️🏳️‍🌈 ${'a\u0301\u0302\u0303'.repeat(60)}`],
    ['nothing', ''],
  ]
  const drawn = Array.from({ length: rounds(0, 60) }, (_, round): [string, string] => [
    `round ${round}`,
    hostileText(drawsOf('pages in a browser', round)),
  ])

  it.each([...named, ...drawn])('%s', async (_, text) => {
    const views = allViews.filter(({ colorScheme }) => colorScheme === 'light')
    expect(await faults.ofText(renderReport(reportData(text)), views)).toEqual([])
  })
})
