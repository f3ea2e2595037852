/** The parts of a table's page, in their order. A further part is a function in this list. */
import { armsSection } from './arms-section.js'
import { coefficientsSection } from './coefficients-section.js'
import { comparisonsSection } from './comparisons-section.js'
import { corruptionSection } from './corruption-section.js'
import { dynamicsSection } from './dynamics-section.js'
import { methodSection } from './method-section.js'
import { publishedSection } from './published-section.js'
import type { StudySection } from './section.js'
import { styleGapSection } from './style-gap-section.js'

export const sections: readonly StudySection[] = [
  armsSection,
  comparisonsSection,
  publishedSection,
  coefficientsSection,
  styleGapSection,
  corruptionSection,
  dynamicsSection,
  methodSection,
]
