/** The parts of a table's page, in their order. A further part is a function in this list. */
import { armsSection } from './arms-section.js'
import { comparisonsSection } from './comparisons-section.js'
import { dynamicsSection } from './dynamics-section.js'
import { linesSection } from './lines-section.js'
import { methodSection } from './method-section.js'
import { publishedSection } from './published-section.js'
import { rewardsSection } from './rewards-section.js'
import { sampledSection } from './sampled-section.js'
import type { StudySection } from './section.js'

export const sections: readonly StudySection[] = [
  armsSection,
  comparisonsSection,
  linesSection,
  sampledSection,
  rewardsSection,
  dynamicsSection,
  publishedSection,
  methodSection,
]
