/** The phantom world as provider: its judge is exact, and it says an answer again with one claim changed. */
import { Rng, readTruth } from '../../phantom/index.js'
import { categoryOf, counterfactual, judgeUnit, repair } from '../../phantom/restate.js'
import { diffWords } from '../diff.js'
import type { Goal, Judgement, Proposal, Provider, Refusal, Unit } from '../provider.js'

/** Judges and edits by the truth that records of the phantom world carry. */
export class PhantomProvider implements Provider {
  readonly name = 'phantom'
  readonly isExact = true

  async judge({ meta, text }: Unit): Promise<Judgement> {
    return { ...judgeUnit(readTruth(meta), text), span: null, requests: [] }
  }

  async edit({ id, meta, text }: Unit, goal: Goal): Promise<Proposal | Refusal> {
    const truth = readTruth(meta)
    const said = goal === 'repair' ? repair(truth, text) : counterfactual(truth, text, new Rng(id))
    if (said === null) {
      return { rejection: 'no_edit_found', detail: `${JSON.stringify(text.slice(0, 80))} is no sentence of the world` }
    }
    const edits = diffWords(text, said, '').map((edit) => ({
      ...edit,
      category: categoryOf(text.slice(edit.start, edit.end), edit.replacement),
    }))
    return { edits, requests: [] }
  }
}
