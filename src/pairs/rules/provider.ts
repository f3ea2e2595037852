/** The offline provider: judges what the grammar reads whole, and edits what it can read again afterwards. */
import type { Goal, Judgement, Proposal, Provider, Refusal, Unit } from '../provider.js'
import { proposeEdits } from './edit.js'
import { readAnswer } from './judge.js'

export class RulesProvider implements Provider {
  readonly name = 'rules'

  async judge(unit: Unit): Promise<Judgement> {
    return { ...readAnswer(unit), span: null, requests: [] }
  }

  async edit(unit: Unit, goal: Goal, _judgement: Judgement): Promise<Proposal | Refusal> {
    const edits = proposeEdits(unit, goal)
    if (edits && edits.length > 0) return { edits, requests: [] }
    return {
      rejection: 'no_edit_found',
      detail: `the rules know no ${goal} of ${JSON.stringify(unit.text.slice(0, 80))}`,
    }
  }
}
