/** What a part of a table's page is made of. */
import type { Section } from '../../evaluate/page/table.js'
import type { StudyResults, TableResults } from '../results.js'

export interface SectionInput {
  /** Folder of the study, for parts that read more than the numbers. */
  root: string
  results: StudyResults
  table: TableResults
}

/** Null where there is nothing to show. */
export type StudySection = (input: SectionInput) => Section | null | Promise<Section | null>
