/** The pages of a study: one a table, and one before them with every verdict. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { deleteAll, writeFileAtomic, writeFolderAtomic } from '../../data/files.js'
import { evaluationStyle } from '../../evaluate/page/style.js'
import { type Html, html } from '../../page/html.js'
import { renderPage } from '../../page/page.js'
import { counted } from '../../text/plural.js'
import { edgeOf } from '../choose.js'
import { studyFiles } from '../files.js'
import type { ArmResults, StudyResults, TableResults } from '../results.js'
import { armLookStyle } from './arm-look.js'
import { corruptionStyle } from './corruption-section.js'
import type { SectionInput } from './section.js'
import { sections } from './sections.js'
import { missingLines, primaryWords } from './words.js'

const style = `${evaluationStyle}${armLookStyle}${corruptionStyle}
.track .base { stroke: var(--before); stroke-width: 1.5; stroke-dasharray: 3 2; }
.track .seed { fill: none; stroke: var(--ink); stroke-width: 1.2; }
`

/** Writes report.html, `TABLE.html` for each table, and tables/TABLE-NAME.csv with unrounded numbers. */
export async function writePages(root: string, results: StudyResults): Promise<void> {
  // As a whole: a table of an earlier, wider run would be read as one of this.
  await writeFolderAtomic(join(root, studyFiles.tables), async (folder) => {
    for (const table of results.tables) await writeTable({ root, results, table }, folder)
  })
  const pages = [studyFiles.page, ...results.tables.map(pageOf)]
  const gone = (await readdir(root)).filter((name) => name.endsWith('.html') && !pages.includes(name))
  await deleteAll(gone.map((name) => join(root, name)))
  const links = results.tables.map(
    (table) => html`<section><h2><a href="${pageOf(table)}">${table.title}</a></h2>
      <p class="soft">${table.question}</p>${verdictOf(table, results)}</section>`,
  )
  const page = renderPage(results.title, html`${cautions(results)}${links}`, style)
  await writeFileAtomic(join(root, studyFiles.page), page)
}

const pageOf = ({ name }: TableResults): string => `${name}.html`

/** @param folder for its CSV files. */
async function writeTable({ root, results, table }: SectionInput, folder: string): Promise<void> {
  const parts: Html[] = []
  for (const section of sections) {
    const made = await section({ root, results, table })
    if (!made) continue
    parts.push(html`<section>${made.html}</section>`)
    for (const { name, csv } of made.tables) {
      await writeFileAtomic(join(folder, `${table.name}-${name}.csv`), csv)
    }
  }
  const first = html`<p class="soft">${table.question}</p>${verdictOf(table, results)}${cautions(results, table)}`
  const back = html`<p class="small"><a href="${studyFiles.page}">All tables of this study</a></p>`
  await writeFileAtomic(join(root, pageOf(table)), renderPage(table.title, html`${first}${parts}${back}`, style))
}

function verdictOf(table: TableResults, results: StudyResults): Html {
  const { sentence, detail } = primaryWords(table, results)
  return html`<p class="verdict ${table.primary?.conclusion}">${sentence}</p><p>${detail}</p>`
}

/** Arms that were asked about images that they were trained on. */
function seenLines(arms: readonly ArmResults[]): string[] {
  const concerned = arms.filter(({ seeds }) => seeds.some(({ seen }) => seen > 0))
  if (concerned.length === 0) return []
  const most = Math.max(...concerned.flatMap(({ seeds }) => seeds.map(({ seen }) => seen)))
  const names = concerned.map(({ name }) => name).join(', ')
  return [
    `Up to ${counted(most, 'question')} of ${names} are about images that were trained on: this is no held-out accuracy.`,
  ]
}

/** What must be known before any number. @param table of the page; without it all. */
function cautions({ small, missing, seeds, arms }: StudyResults, table?: TableResults): Html {
  const shown = arms.filter(({ name }) => !table || table.arms.includes(name))
  const atEdge = (edge: 'smallest' | 'largest'): string[] =>
    shown.filter((arm) => arm.seeds.some(({ tuned }) => tuned && edgeOf(tuned) === edge)).map(({ name }) => name)
  const concerned = missing.filter(({ arm }) => !table || table.arms.includes(arm))
  const lines = [
    ...(small ? ['Too small to conclude anything: this shows how a study works.'] : []),
    ...missingLines(concerned),
    ...seenLines(shown),
    ...(['smallest', 'largest'] as const).flatMap((edge) => {
      const names = atEdge(edge)
      return names.length === 0
        ? []
        : [`The ${edge} value that was tried was the best for ${names.join(', ')}: one beyond may be better.`]
    }),
  ]
  const complete =
    concerned.length === 0 &&
    html`<p class="soft">Complete: every arm has been run with ${counted(seeds.length, 'seed')}.</p>`
  return html`${complete}${lines.length > 0 && html`<ul class="cautions">${lines.map((line) => html`<li class="warning">${line}</li>`)}</ul>`}`
}
