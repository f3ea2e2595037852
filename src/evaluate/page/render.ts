/** The page of an evaluation: one HTML file that loads nothing and runs nothing; and its tables as CSV. */
import { join } from 'node:path'
import { makeFolder, writeFileAtomic } from '../../data/files.js'
import { html } from '../../page/html.js'
import { renderPage } from '../../page/page.js'
import { examplesSection } from './examples-section.js'
import { type EvaluationFolder, readFolder } from './folder.js'
import { groundingSection } from './grounding-section.js'
import { judgeSection } from './judge-section.js'
import { limitsSection, sampledSection } from './limits-section.js'
import { methodSection } from './method-section.js'
import { publishedSection } from './published.js'
import { accuracySection, comparisonsSection, verdictSection } from './questions-section.js'
import { reportsSection } from './reports-section.js'
import { crossedSection, rewardsSection, trainingSection } from './rewards-section.js'
import { evaluationStyle } from './style.js'
import type { Section } from './table.js'

/** In the order of the page; those without data are not there. */
const numbersOf = (folder: EvaluationFolder): Section[] =>
  [
    ...[accuracySection, comparisonsSection, limitsSection, judgeSection, reportsSection, groundingSection],
    ...[sampledSection, trainingSection, rewardsSection, crossedSection],
  ].flatMap((section) => section(folder) ?? [])

/**
 * The page of a finished evaluation. Images are taken from below `inputs.imageRoot`; where one is not there the page says so.
 * @param folder that `evaluate` or `rejudge` filled.
 * @returns HTML text; pictures and style are inside.
 * @throws {FileError} when evaluation.json is missing. @throws {DataError} for a line that is no record.
 */
export async function renderEvaluation(folder: string): Promise<string> {
  const evaluation = await readFolder(folder)
  const { systems, questions, reports } = evaluation.results
  const part = ({ html: content }: Section) => html`<section>${content}</section>`
  const published = publishedSection(evaluation)
  const asked = questions > 0 ? `${questions} questions` : `${reports?.systems[0]?.reports ?? 0} reports`
  const content = html`<p class="soft">${asked}</p>
${verdictSection(evaluation)}
${numbersOf(evaluation).map(part)}
${await examplesSection(evaluation)}
${published && part(published)}
${methodSection(evaluation)}`
  return renderPage(`Evaluation of ${systems.map(({ name }) => name).join(', ')}`, content, evaluationStyle)
}

/**
 * Writes every table of the page as `tables/NAME.csv` in the folder, with unrounded numbers: shares, not percentages.
 * Texts that a spreadsheet would run as formulas begin with an apostrophe.
 * @throws {FileError} when evaluation.json is missing, or a file cannot be written.
 */
export async function writeTables(folder: string): Promise<void> {
  const evaluation = await readFolder(folder)
  const published = publishedSection(evaluation)
  const tables = [...numbersOf(evaluation), ...(published ? [published] : [])].flatMap((section) => section.tables)
  await makeFolder(join(folder, 'tables'))
  for (const { name, csv } of tables) await writeFileAtomic(join(folder, 'tables', `${name}.csv`), csv)
}
