/** The stages a pipeline can have, in the order they run. */
import type { StageDefinition } from '../stage.js'
import { corruptStage } from './corrupt.js'
import { evaluateStage } from './evaluate.js'
import { importStage } from './import.js'
import { pairsStage } from './pairs.js'
import { reportStage } from './report.js'
import { sampleStage } from './sample.js'
import { trainStage } from './train.js'

export const definitions: readonly StageDefinition[] = [
  importStage,
  sampleStage,
  pairsStage,
  corruptStage,
  trainStage,
  evaluateStage,
  reportStage,
]
