/** Pairs of the phantom world by its own provider, held against its exact judge. */
import { describe, expect, it } from 'vitest'
import { constructPair, PhantomProvider } from '../../src/pairs/index.js'
import { counterfactual, generateStudies, judge, Rng, studySamples, type Truth } from '../../src/phantom/index.js'
import { sayReport, statements } from '../../src/phantom/language.js'

const context = { provider: new PhantomProvider(), blindJudge: null, mode: 'on-policy', seed: 1 } as const
const image = { path: 'a.png', sha256: '0'.repeat(64), width: 96, height: 96 }
const studies = generateStudies({ seed: 6, split: 'train', count: 40 })

/** What can be said in reply: every sentence of an intent; a report that is true, or with one sentence made wrong. */
function textsFor({ ask, findings }: Truth, rng: Rng): string[] {
  if (ask.intent !== 'report') return [...statements(ask).keys()]
  const truth = { ask, findings, claim: null }
  return [0, 1].flatMap((style) => {
    const sentences = sayReport(ask.scope, findings, style).split(/(?<=\.) /)
    const wrong = sentences.map((_, at) =>
      sentences.map((said, i) => (i === at ? (counterfactual(truth, said, rng) as string) : said)).join(' '),
    )
    return [sentences.join(' '), ...wrong]
  })
}

const answers = studies.flatMap((study) =>
  studySamples(study, image).flatMap((sample, i) => {
    const { truth } = study.questions[i]
    return textsFor(truth, new Rng('answers', sample.id)).map((text) => ({ sample, truth, text }))
  }),
)

const construct = ({ sample, text }: (typeof answers)[number], seed = 1) => {
  const response = { sampleId: sample.id, model: 'm', adapter: null, prompt: sample.question, text, tokens: [] }
  return constructPair(
    { id: sample.id, sample, response: { ...response, sampling: {}, seed: 0 } },
    { ...context, seed },
  )
}

describe('PhantomProvider', () => {
  it('makes pairs of nearly all answers, right on the chosen side and wrong on the rejected one', async () => {
    const harmful: unknown[] = []
    const counts = { answers: 0, pairs: 0 }
    for (const answer of answers) {
      if (!judge(answer.truth, answer.text).decided) continue
      counts.answers++
      const { pair } = await construct(answer)
      if (!pair) continue
      counts.pairs++
      const [chosen, rejected] = [judge(answer.truth, pair.chosen), judge(answer.truth, pair.rejected)]
      if (!chosen.correct || rejected.correct || !rejected.decided) harmful.push([pair.chosen, pair.rejected])
      expect(pair[pair.origin === 'repaired' ? 'rejected' : 'chosen']).toBe(answer.text)
    }
    expect(harmful).toEqual([])
    expect(counts.answers).toBeGreaterThan(1000)
    expect(counts.pairs / counts.answers).toBeGreaterThan(0.85)
  })

  it('chooses by unit and seed', async () => {
    const right = answers.filter(({ truth, text }) => judge(truth, text).correct).slice(0, 60)
    const rejected = async (seed: number) =>
      Promise.all(right.map(async (answer) => (await construct(answer, seed)).pair?.rejected))
    expect(await rejected(1)).toEqual(await rejected(1))
    expect(await rejected(2)).not.toEqual(await rejected(1))
  })

  it('knows no sentence of another world', async () => {
    const { sample } = answers.find(({ truth }) => truth.ask.intent === 'side') as (typeof answers)[number]
    const text = `Thea is on the ${sample.answer} side.`
    expect(await construct({ sample, text } as (typeof answers)[number])).toMatchObject({
      pair: null,
      rejection: 'no_edit_found',
    })
    const foreign = { ...sample, meta: {} }
    await expect(construct({ sample: foreign, text } as (typeof answers)[number])).rejects.toThrow(/no truth/)
  })
})
