/** The parts of a table's page, in their order. A further part is a function in this list. */
import { armsSection } from './arms-section.js'
import { coefficientsSection } from './coefficients-section.js'
import { comparisonsSection } from './comparisons-section.js'
import { corruptionSection } from './corruption-section.js'
import { dynamicsSection } from './dynamics-section.js'
import { groundingSection } from './grounding-section.js'
import { methodSection } from './method-section.js'
import { publishedSection } from './published-section.js'
import { rewardHackingSection } from './reward-hacking-section.js'
import type { StudySection } from './section.js'
import { styleGapSection } from './style-gap-section.js'
import { tradeOffSection } from './trade-off-section.js'

export const sections: readonly StudySection[] = [
  armsSection,
  comparisonsSection,
  publishedSection,
  coefficientsSection,
  rewardHackingSection,
  tradeOffSection,
  styleGapSection,
  corruptionSection,
  groundingSection,
  dynamicsSection,
  methodSection,
]
