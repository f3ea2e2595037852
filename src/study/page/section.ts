/** What a part of a table's page is made of. */
import type { Section } from '../../evaluate/page/table.js'
import type { ArmResults, StudyResults, TableResults } from '../results.js'

export interface SectionInput {
  /** Folder of the study, for parts that read more than the numbers. */
  root: string
  results: StudyResults
  table: TableResults
}

/** The table's arms of which some seed has what is asked for; none where the table asks for no evaluation of its own. */
export function armsWith(
  { results, table }: SectionInput,
  has: (seed: ArmResults['seeds'][number]) => unknown,
): ArmResults[] {
  if (table.evaluations.length === 0) return []
  return results.arms.filter(({ name, seeds }) => table.arms.includes(name) && seeds.some(has))
}

/** Null where there is nothing to show. */
export type StudySection = (input: SectionInput) => Section | null | Promise<Section | null>
