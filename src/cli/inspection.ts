/** An inspection as text: tables, examples with their edits marked, problems. */
import type { Counts, Example, Inspection, MarkedText, Problem, Spread } from '../inspect/index.js'
import { formatCount, formatShare, formatTable, oneLine } from './format.js'

/** Values of a distribution that get a line of their own. */
const shownValues = 12

/** @param colour marks edits by colour instead of by brackets. */
export function describeInspection(inspection: Inspection, colour: boolean): string {
  const { path, kind, records, facts, distributions, spreads, examples, problems } = inspection
  const parts = [
    `${path}: ${kind}, ${formatCount(records)} ${records === 1 ? 'record' : 'records'}`,
    describeFacts(facts),
    ...distributions.map(({ name, counts }) => describeCounts(name, counts)),
    spreads.length > 0 ? describeSpreads(spreads) : '',
    ...examples.map((example) => describeExample(example, colour)),
    describeProblems(problems),
  ]
  return `${parts.filter((part) => part !== '').join('\n\n')}\n`
}

function describeFacts(facts: Inspection['facts']): string {
  const width = Math.max(0, ...facts.map(([name]) => name.length))
  return facts.map(([name, value]) => `${name.padEnd(width)}  ${oneLine(String(value))}`).join('\n')
}

function describeCounts(name: string, counts: Counts): string {
  const total = counts.reduce((sum, [, count]) => sum + count, 0)
  const rows = counts
    .slice(0, shownValues)
    .map(([value, count]) => [cut(oneLine(value), 60), count, formatShare(count / total)])
  const rest = counts.slice(shownValues)
  const others = rest.reduce((sum, [, count]) => sum + count, 0)
  if (rest.length > 0) rows.push([`(${rest.length} more)`, others, formatShare(others / total)])
  return formatTable([name, 'count', 'share'], rows)
}

function describeSpreads(spreads: { name: string; spread: Spread }[]): string {
  const rows = spreads.map(({ name, spread: { min, median, p95, max, mean } }) => [
    name,
    min,
    median,
    p95,
    max,
    Number(mean.toFixed(1)),
  ])
  return formatTable(['', 'min', 'median', '95 %', 'max', 'mean'], rows)
}

function describeExample({ title, texts }: Example, colour: boolean): string {
  const width = Math.max(...texts.map(({ label }) => label.length))
  const lines = texts.map((text) => `  ${text.label.padEnd(width)}  ${markText(text, colour)}`)
  return [`example ${oneLine(title)}`, ...lines].join('\n')
}

const colours = { chosen: '\u001b[32m', rejected: '\u001b[31m', end: '\u001b[0m' }

/** `The nodule is in the [left] lung.`; an insertion's empty side is `[]`. */
export function markText({ text, marks }: MarkedText, colour: boolean): string {
  let out = ''
  let at = 0
  for (const { start, end, kind } of marks) {
    const inside = oneLine(text.slice(start, end))
    out += oneLine(text.slice(at, start)) + (colour ? `${colours[kind]}${inside}${colours.end}` : `[${inside}]`)
    at = Math.max(at, end)
  }
  return out + oneLine(text.slice(at))
}

function describeProblems(problems: Problem[]): string {
  if (problems.length === 0) return 'no problems found'
  return problems
    .flatMap(({ severity, what, count, places }) => {
      const more = count > places.length ? [`  … ${formatCount(count - places.length)} more`] : []
      return [`${severity}: ${what}: ${formatCount(count)}`, ...places.map((place) => `  ${oneLine(place)}`), ...more]
    })
    .join('\n')
}

const cut = (text: string, length: number): string => (text.length > length ? `${text.slice(0, length - 1)}…` : text)
