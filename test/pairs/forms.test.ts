/** Pair constructions that are compared: phrases alone, the reference against the wrong side, own answers. */
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { pairProblem } from '../../src/data/pairs.js'
import type { Pair } from '../../src/data/records.js'
import { ArgumentError, ConfigError } from '../../src/errors.js'
import { buildPairs, constructPair, type PairMode, PhantomProvider, RulesProvider } from '../../src/pairs/index.js'
import { pairsStage } from '../../src/pairs/stage.js'
import { generateStudies, judge, studySamples } from '../../src/phantom/index.js'
import { sayReport, statements } from '../../src/phantom/language.js'
import { temporaryFolder } from '../fakes/world.js'
import { makeTask } from './records.js'

const image = { path: 'a.png', sha256: '0'.repeat(64), width: 96, height: 96 }
const context = { blindJudge: null, seed: 1, mode: 'on-policy' } as const

/** The pair of one answer in each mode. */
async function inEach(task: Parameters<typeof constructPair>[0], provider: ConstructProvider) {
  const make = async (mode: PairMode) => (await constructPair(task, { ...context, provider, mode })).pair as Pair
  return { own: await make('on-policy'), phrases: await make('phrases'), reference: await make('reference-chosen') }
}
type ConstructProvider = RulesProvider | PhantomProvider

describe('by the rules', () => {
  const rules = new RulesProvider()

  it('a wrong answer: its repair, the words that differ, the reference', async () => {
    const task = makeTask('Where is the mass?', 'left lung', 'The mass lies in the right lung.')
    const { own, phrases, reference } = await inEach(task, rules)
    expect(own).toMatchObject({ chosen: 'The mass lies in the left lung.', rejected: task.response.text })
    expect(phrases).toMatchObject({ chosen: 'left', rejected: 'right', origin: 'repaired' })
    expect(phrases.edits).toEqual([{ chosen: [0, 4], rejected: [0, 5], category: own.edits[0].category }])
    expect(reference).toMatchObject({ chosen: 'left lung', rejected: task.response.text, origin: 'repaired' })
    expect(reference.provenance.mode).toBe('reference-chosen')
    for (const pair of [own, phrases, reference]) expect(pairProblem(pair)).toBeUndefined()
  })

  it('a right answer: the rejected side is its counterfactual in all three', async () => {
    const { own, phrases, reference } = await inEach(
      makeTask('Is there an effusion?', 'No', 'No, there is no effusion.'),
      rules,
    )
    expect(own.origin).toBe('counterfactual')
    expect(reference).toMatchObject({ chosen: 'No', rejected: own.rejected })
    const words = (side: 'chosen' | 'rejected') => own.edits.map((edit) => own[side].slice(...edit[side])).join(' ')
    expect(phrases).toMatchObject({ chosen: words('chosen'), rejected: words('rejected') })
  })

  it('makes pairs of the same answers in every mode, but for a reference that is the rejected text', async () => {
    const report = 'Heart size is normal. There is a small left pleural effusion. No pneumothorax.'
    const wrong = 'There is a small right pleural effusion. No pneumothorax.'
    const { own, phrases, reference } = await inEach(
      makeTask('Describe the image.', report, wrong, { task: 'report' }),
      rules,
    )
    expect(own.chosen).toBe('There is a small left pleural effusion. No pneumothorax.')
    expect(phrases).toMatchObject({ chosen: 'left', rejected: 'right' })
    expect(reference).toMatchObject({ chosen: report, rejected: wrong })
    expect(pairProblem(reference)).toBeUndefined()
  })
})

describe('by the phantom', () => {
  it('holds for every answer of the world', async () => {
    const provider = new PhantomProvider()
    const counts = { pairs: 0, phrases: 0, several: 0 }
    for (const study of generateStudies({ seed: 6, split: 'train', count: 12 })) {
      for (const [index, sample] of studySamples(study, image).entries()) {
        const { truth } = study.questions[index]
        const { ask } = truth
        const texts = ask.intent === 'report' ? [sayReport(ask.scope, truth.findings, 0)] : statements(ask).keys()
        for (const text of texts) {
          const response = { sampleId: sample.id, model: 'm', adapter: null, prompt: sample.question, text }
          const task = { id: sample.id, sample, response: { ...response, tokens: [], sampling: {}, seed: 0 } }
          const { own, phrases, reference } = await inEach(task, provider)
          if (!own) {
            expect([phrases, reference]).toEqual([null, null])
            continue
          }
          counts.pairs += 1
          counts.several += Number(own.edits.length > 1)
          expect(reference).toMatchObject({ chosen: sample.answer, rejected: own.rejected })
          expect(pairProblem(reference)).toBeUndefined()
          expect(judge(truth, reference.rejected)).toMatchObject({ correct: false })
          if (!phrases) continue
          counts.phrases += 1
          expect(pairProblem(phrases)).toBeUndefined()
          expect(phrases.edits).toHaveLength(own.edits.length)
          for (const [at, edit] of phrases.edits.entries()) {
            for (const side of ['chosen', 'rejected'] as const) {
              expect(phrases[side].slice(...edit[side])).toBe(own[side].slice(...own.edits[at][side]))
            }
          }
        }
      }
    }
    expect(counts.pairs).toBeGreaterThan(300)
    expect(counts.several).toBeGreaterThan(30)
    expect(counts.phrases).toBe(counts.pairs)
  })
})

describe('what is not possible is refused in words', () => {
  const locate = () => undefined
  const files = { samples: 's.jsonl', responses: 'r.jsonl', out: 'p.jsonl' }

  it('before anything is read', () => {
    expect(() => pairsStage.check?.({ ...files, mode: 'phrases', logprobFloor: -3 }, locate)).toThrow(
      /the sides of phrases are no text and its edit/,
    )
    expect(() => pairsStage.check?.({ ...files, mode: 'phrases', logprobFloor: -3 }, locate)).toThrow(ConfigError)
    expect(() => pairsStage.check?.({ ...files, mode: 'phrases', provider: 'phantom' }, locate)).not.toThrow()
  })

  it('in the library as well', async () => {
    const root = await temporaryFolder()
    const paths = { samples: join(root, 's'), responses: join(root, 'r'), out: join(root, 'p.jsonl') }
    const asked = { ...paths, ...context, provider: new RulesProvider(), concurrency: 1, logprobFloor: -3 }
    await expect(buildPairs({ ...asked, mode: 'reference-chosen' })).rejects.toBeInstanceOf(ArgumentError)
  })
})
