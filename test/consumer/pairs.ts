/** Preference pairs of a model's own answers, edited by a provider of one's own. */
import { applyEdits, buildPairs, type Provider, RulesProvider } from 'fire-train/pairs'
import { engineAnswerer, sampleAnswers, sampleSettings } from 'fire-train/sample'

/** The rules, but an answer that speaks of a pacemaker is left to people. */
class Careful implements Provider {
  readonly name = 'careful rules'
  readonly #rules = new RulesProvider()

  judge: Provider['judge'] = async (unit) =>
    /pacemaker/i.test(unit.text)
      ? { rejection: 'undecided', detail: 'a person must look at devices' }
      : this.#rules.judge(unit)

  edit: Provider['edit'] = (unit, goal, judgement) => this.#rules.edit(unit, goal, judgement)
}

export async function makePairs(model: string, samples: string, folder: string) {
  const [responses, out] = [`${folder}/responses.jsonl`, `${folder}/pairs.jsonl`]
  const settings = sampleSettings.parse({ samples, out: responses, split: 'train', temperature: 1 })
  const answerer = await engineAnswerer(
    { model, adapter: null, dtype: 'f32', batchSize: 16, imageRoot: `${folder}/data` },
    settings,
  )
  await sampleAnswers({ samples, out: responses, settings }, answerer)
  const options = { provider: new Careful(), blindJudge: null, mode: 'on-policy', seed: 0 } as const
  const { report } = await buildPairs({ samples, responses, out, concurrency: 4, ...options })
  return report
}

/** By hand: the edit is widened to whole words and reported as spans of both texts. */
export const flipped = applyEdits('There is no effusion.', [
  { start: 9, end: 11, replacement: 'an', category: 'presence' },
])
