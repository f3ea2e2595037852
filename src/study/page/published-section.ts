/** Published rows, grey: other model, other data, one run. */
import { publishedTable } from '../../evaluate/page/published.js'
import { present, type Section } from '../../evaluate/page/table.js'
import { html } from '../../page/html.js'
import type { SectionInput } from './section.js'

export function publishedSection({ table: { name, arms }, results }: SectionInput): Section | null {
  // Only of tables whose arms say which published row they stand for.
  const standsFor = results.arms.some((arm) => arms.includes(arm.name) && arm.row !== null)
  const published = standsFor ? publishedTable(name) : null
  if (!published?.table) return null
  const title = 'Published numbers'
  return {
    title,
    tables: present(published.table),
    html: html`<h2>${title}</h2>
      <p class="note"><b>Other model, other data, one run.</b> Printed percentages (${published.source}). Nothing is tested against them.</p>
      ${published.table.html}${published.notes.map((note) => html`<p class="note">${note}</p>`)}`,
  }
}
