/** How the two sides of the pairs differ in style, for each form of pair: what a policy could learn instead of the facts. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as Plot from '@observablehq/plot'
import { readJsonl } from '../../data/jsonl.js'
import { type Pair, pair as pairSchema } from '../../data/records.js'
import { type Published, readPublished } from '../../evaluate/page/published.js'
import { present, type Section, tableOf } from '../../evaluate/page/table.js'
import { drawChart } from '../../page/chart.js'
import { type Html, html } from '../../page/html.js'
import { percent } from '../../page/numbers.js'
import { type StyleGap, styleGap } from '../../pairs/index.js'
import { wordDistance, wordsOf } from '../../pairs/words.js'
import { meanOf } from '../means.js'
import { armsOfTable, finishedFolders } from './finished.js'
import { publishedRows } from './published-section.js'
import type { SectionInput } from './section.js'

/** Arms that are trained on the same pairs, all seeds together. */
interface Form {
  /** How its pairs are made. */
  mode: string
  arms: string[]
  gap: StyleGap
  lengths: { chosen: number[]; rejected: number[] }
  /** Mean difference of the lengths in words, either way. */
  meanDifference: number
  /** Share of pairs whose lengths are at most two words apart. */
  withinTwo: number
  /** Mean share of the longer side's words that would have to be changed. */
  changed: number
  published: PublishedGap[]
}

/** In words and shares. */
interface PublishedGap {
  name: string
  chosenWords: number
  rejectedWords: number
  meanDifference: number
  withinTwo: number
}

export async function styleGapSection(input: SectionInput): Promise<Section | null> {
  const forms = await formsOf(input)
  if (forms.length === 0) return null
  const rows = forms.flatMap((form) => [
    { form, of: null },
    ...form.published.map((of): { form: Form; of: PublishedGap | null } => ({ form, of })),
  ])
  const shown = tableOf<(typeof rows)[number]>({
    name: 'style-gap',
    rows,
    columns: [
      {
        label: 'form',
        kind: 'text',
        show: ({ form, of }) =>
          of
            ? html`<span class="published">published: ${of.name}</span>`
            : html`<b>${form.mode}</b> <small>${form.arms.join(', ')}</small>`,
      },
      { label: 'pairs', show: ({ form, of }) => !of && form.gap.pairs },
      {
        label: 'words, chosen',
        show: ({ form, of }) => tone(of, (of?.chosenWords ?? form.gap.chosen.meanWords).toFixed(1)),
      },
      {
        label: 'words, rejected',
        show: ({ form, of }) => tone(of, (of?.rejectedWords ?? form.gap.rejected.meanWords).toFixed(1)),
      },
      { label: 'mean absolute difference', show: ({ form, of }) => tone(of, (of ?? form).meanDifference.toFixed(1)) },
      { label: 'within 2 words, %', show: ({ form, of }) => tone(of, percent((of ?? form).withinTwo)) },
      { label: 'chosen is longer, %', show: ({ form, of }) => !of && percent(form.gap.longerIsChosen) },
      { label: 'words changed, %', show: ({ form, of }) => !of && percent(form.changed) },
      { label: 'divergence, bits', show: ({ form, of }) => !of && form.gap.unigramDivergence.toFixed(2) },
    ],
    data: ({ form, of }) => ({
      ...{ pairs: form.mode, arms: form.arms.join(' '), source: of ? `published: ${of.name}` : 'this study' },
      count: of ? null : form.gap.pairs,
      chosenWords: of?.chosenWords ?? form.gap.chosen.meanWords,
      rejectedWords: of?.rejectedWords ?? form.gap.rejected.meanWords,
      ...{ meanDifference: (of ?? form).meanDifference, withinTwo: (of ?? form).withinTwo },
      ...{ chosenIsLonger: of ? null : form.gap.longerIsChosen, wordsChanged: of ? null : form.changed },
      ...{ divergence: of ? null : form.gap.unigramDivergence },
    }),
  })
  const title = 'Style of the two sides'
  return {
    title,
    tables: present(shown, lengthsTable(forms)),
    html: html`<h2>${title}</h2>
      <p class="note">Whatever tells chosen from rejected without the image can be learnt instead of the facts. “Chosen is longer” counts equal lengths half: 50 % says
      nothing. Divergence (Jensen-Shannon) of the words: 0 alike, 1 nothing in common. “Words changed” is of the longer side. Grey: other model, other data.</p>
      ${shown?.html}
      <div class="legend"><span><i style="background: var(--series-3)"></i>chosen</span><span><i style="background: var(--series-2)"></i>rejected</span></div>
      <div class="grid">${forms.map(drawLengths)}</div>`,
  }
}

const tone = (of: PublishedGap | null, text: string): Html | string =>
  of ? html`<span class="published">${text}</span>` : text

async function formsOf({ root, results, table }: SectionInput): Promise<Form[]> {
  const byPairs = new Map<string, { arms: string[]; keys: string[]; folders: string[] }>()
  for (const { name, row, seeds } of armsOfTable(results, table)) {
    // Those that it is trained on come before those that rewards are measured on.
    const folders = seeds.flatMap((seed) => finishedFolders(root, seed, 'pairs').slice(0, 1))
    if (folders.length === 0) continue
    const known = byPairs.get(folders.join()) ?? { arms: [], keys: [], folders }
    known.arms.push(name)
    if (row) known.keys.push(row)
    byPairs.set(folders.join(), known)
  }
  const published = readPublished()
  const forms: Form[] = []
  for (const { arms, keys, folders } of byPairs.values()) {
    const form = formOf(await modeOf(folders[0]), arms, await readPairs(folders))
    if (form) forms.push({ ...form, published: publishedGaps(keys.join(';'), published) })
  }
  return forms
}

async function modeOf(folder: string): Promise<string> {
  const { settings } = JSON.parse(await readFile(join(folder, 'step.json'), 'utf8'))
  return String(settings.mode)
}

async function readPairs(folders: readonly string[]): Promise<Pair[]> {
  const pairs: Pair[] = []
  for (const folder of folders) {
    for await (const { record } of readJsonl(join(folder, 'pairs.jsonl'), pairSchema)) pairs.push(record)
  }
  return pairs
}

/** Null for no pairs. */
function formOf(mode: string, arms: string[], pairs: readonly Pair[]): Omit<Form, 'published'> | null {
  const gap = styleGap(pairs)
  if (!gap) return null
  const chosen = pairs.map((pair) => wordsOf(pair.chosen))
  const rejected = pairs.map((pair) => wordsOf(pair.rejected))
  const apart = chosen.map((words, i) => Math.abs(words.length - rejected[i].length))
  const changed = chosen.map(
    (words, i) => wordDistance(words, rejected[i]) / Math.max(1, words.length, rejected[i].length),
  )
  return {
    ...{ mode, arms, gap },
    lengths: { chosen: chosen.map(({ length }) => length), rejected: rejected.map(({ length }) => length) },
    meanDifference: meanOf(apart, (words) => words),
    withinTwo: meanOf(apart, (words) => Number(words <= 2)),
    changed: meanOf(changed, (share) => share),
  }
}

/** Of the rows `pairs/ROW` that the arms name, in both data sets. */
function publishedGaps(keys: string, published: Published): PublishedGap[] {
  const rows = new Set(publishedRows(keys, published).flatMap(({ table, row }) => (table === 'pairs' ? [row] : [])))
  return [...rows].flatMap((row) =>
    Object.entries(published.styleGap).flatMap(([dataset, gaps]) => {
      const { chosen, rejected, difference, withinTwo } = gaps[row]
      const about = { name: `${row} on ${dataset}`, chosenWords: chosen, rejectedWords: rejected }
      return [{ ...about, meanDifference: difference, withinTwo: withinTwo / 100 }]
    }),
  )
}

/** Pairs by length, in as many bins for every side and form. */
interface Bin {
  from: number
  to: number
  chosen: number
  rejected: number
}

/** More bars than this are not told apart. */
const mostBins = 40

function binsOf({ lengths: { chosen, rejected } }: Form): Bin[] {
  const most = [...chosen, ...rejected].reduce((longest, length) => Math.max(longest, length), 0)
  const width = Math.ceil((most + 1) / mostBins)
  const bins = Array.from(
    { length: Math.floor(most / width) + 1 },
    (_, i): Bin => ({
      ...{ from: i * width, to: (i + 1) * width - 1 },
      ...{ chosen: 0, rejected: 0 },
    }),
  )
  for (const length of chosen) bins[Math.floor(length / width)].chosen += 1
  for (const length of rejected) bins[Math.floor(length / width)].rejected += 1
  return bins
}

function lengthsTable(forms: readonly Form[]) {
  return tableOf({
    name: 'pair-lengths',
    rows: forms.flatMap((form) => binsOf(form).map((bin) => ({ form, bin }))),
    columns: [],
    data: ({ form, bin: { from, to, chosen, rejected } }) => ({
      ...{ pairs: form.mode, arms: form.arms.join(' '), wordsFrom: from, wordsTo: to, chosen, rejected },
    }),
  })
}

function drawLengths(form: Form): Html {
  const { mode, gap } = form
  const bars = binsOf(form).map(({ from, to, chosen, rejected }) => ({
    ...{ x1: from - 0.5, x2: to + 0.5, chosen: chosen / gap.pairs, rejected: rejected / gap.pairs },
  }))
  const at = { x1: 'x1', x2: 'x2', insetLeft: 0.5, insetRight: 0.5 }
  const chart = drawChart({
    ariaLabel: `Lengths of ${mode} pairs: chosen ${gap.chosen.meanWords.toFixed(1)} words on average, rejected ${gap.rejected.meanWords.toFixed(1)}`,
    ...{ marginLeft: 52, marginBottom: 38 },
    x: { label: 'words' },
    y: { label: 'pairs, %', grid: true, ticks: 4, tickFormat: (share: number) => percent(share, 0) },
    marks: [
      Plot.rectY(bars, { ...at, y: 'chosen', fill: 'var(--series-3)', fillOpacity: 0.45 }),
      Plot.rectY(bars, { ...at, y: 'rejected', fill: 'none', stroke: 'var(--series-2)', strokeWidth: 1.6 }),
    ],
  })
  return html`<figure><h3>${mode}: ${form.arms.join(', ')}</h3>${chart}</figure>`
}
