/** What counts as a closed question under the three published rules, from import's word to the denominators of an evaluation. */
import { join } from 'node:path'
import { expect, it } from 'vitest'
import type { Sample } from '../../src/data/records.js'
import { evaluate } from '../../src/evaluate/evaluation.js'
import type { VerdictRecord } from '../../src/evaluate/records.js'
import { sampleSettings } from '../../src/sample/index.js'
import { temporaryFolder } from '../fakes/world.js'
import { makeSample, readLines, writeRecords } from '../sample/records.js'

type Closed = [answerType: boolean, yesNoExact: boolean, paperSubstring: boolean]

/** A reference, what the set's field says, and what each rule makes of it. */
const questions: [answer: string, field: Sample['answerType'], closed: Closed, meta?: Sample['meta']][] = [
  ['yes', 'closed', [true, true, true]],
  ['No', 'closed', [true, true, true]],
  ['no.', 'closed', [true, true, true]],
  // A field that says open is believed by its own rule alone.
  ['Yes', 'open', [false, true, true]],
  // Choices are closed in the set, and neither yes nor no.
  ['left', 'closed', [true, false, false]],
  ['CT', 'closed', [true, false, false]],
  // Letters decide for the published split: "no" is in all of these.
  ['nodule', 'open', [false, false, true]],
  ['abnormal', 'closed', [true, false, true]],
  ['not seen', 'open', [false, false, true]],
  ['pneumonia', 'open', [false, false, false]],
  ['Eyes', 'open', [false, false, true]],
  // pandas read this reference as not-a-number, so that the published split has no letters of it; only as it stands.
  ['None', 'open', [false, false, false]],
  ['none', 'open', [false, false, true]],
  // The import was told another rule; the set's own word is kept beside it.
  ['right', 'open', [true, false, false], { answerType: 'closed' }],
  ['nodules', 'closed', [false, false, true], { answerType: 'open' }],
]

it('has its own denominator under each rule, with the letters that published scripts trip over', async () => {
  const folder = await temporaryFolder()
  const samples = questions.map(([answer, answerType, , meta = {}], i) =>
    makeSample(`q${i}`, { question: `What is ${i}?`, answer, answerType, meta }),
  )
  await writeRecords(join(folder, 'samples.jsonl'), samples)
  // One answer says nothing, one is wrong, and one question has none: all stay in every denominator that they belong to.
  const said = samples.map(({ id, answer }, i) => ({ sampleId: id, text: ['Perhaps.', answer, 'Yes.'][i] ?? answer }))
  await writeRecords(join(folder, 'said.jsonl'), said.slice(0, -1))
  const out = join(folder, 'out')
  const { results } =
    (await evaluate({
      ...{ samples: join(folder, 'samples.jsonl'), imageRoot: folder, out },
      systems: [{ name: 'said', kind: 'file', path: join(folder, 'said.jsonl') }],
      asked: sampleSettings.parse({ samples: 'x', out: 'x' }),
      engine: { device: 'cpu', dtype: 'f32', threads: 1, batchSize: 8 },
      ...{ truth: null, scores: [], margin: 0.03, maxUnreadable: 0.05, seed: 42 },
    })) ?? expect.fail('stopped')

  const verdicts = await readLines<VerdictRecord>(join(out, 'verdicts.jsonl'))
  expect(verdicts.map(({ reference, closedUnder }) => [reference, ...Object.values(closedUnder)])).toEqual(
    questions.map(([answer, , closed]) => [answer, ...closed]),
  )
  const counts = Object.fromEntries(
    ['answerType', 'yesNoExact', 'paperSubstring'].map((kind) => [
      kind,
      ['closed', 'open'].map((name) => {
        const group = results.systems[0].groups.find((each) => each.kind === kind && each.name === name)
        return [group?.accuracy.successes, group?.accuracy.count]
      }),
    ]),
  )
  // The first and the third are wrong under all rules; the last question, open in its set, has no answer.
  expect(counts).toEqual({
    answerType: [
      [5, 7],
      [7, 8],
    ],
    yesNoExact: [
      [2, 4],
      [10, 11],
    ],
    paperSubstring: [
      [7, 10],
      [5, 5],
    ],
  })
  // LLaVA-Med reads the set's field, and finds "yes" or "no" as letters: choices are always wrong, "abnormal" is right. Its first
  // release left the wrong "yes" out.
  const { rules } = results.systems[0].published
  const closedOf = (rule: string) => rules.find((each) => each.rule === rule)?.closed
  expect(closedOf('llavaMed')).toEqual({ successes: 2, count: 7 })
  expect(closedOf('llavaMed2023')).toEqual({ successes: 2, count: 6 })
})
