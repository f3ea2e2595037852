/** The stages a pipeline can have, in the order they run. */
import type { StageDefinition } from '../stage.js'
import { evaluateStage } from './evaluate.js'
import { sampleStage } from './sample.js'
import { trainStage } from './train.js'

export const definitions: readonly StageDefinition[] = [sampleStage, trainStage, evaluateStage]
