/** The stages a pipeline can have, in the order they run. */
import { corruptStage } from '../corrupt/stage.js'
import { evaluateStage } from '../evaluate/stage.js'
import { importStage } from '../import/stage.js'
import { pairsStage } from '../pairs/stage.js'
import { reportStage } from '../report/stage.js'
import { sampleStage } from '../sample/stage.js'
import type { Stage } from '../stage/index.js'
import { trainStage } from '../train/stage.js'

/** The built-in stages. */
export const stages: readonly Stage[] = [
  importStage,
  sampleStage,
  pairsStage,
  corruptStage,
  trainStage,
  evaluateStage,
  reportStage,
]
