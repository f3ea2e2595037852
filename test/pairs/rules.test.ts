import { describe, expect, it } from 'vitest'
import { constructPair, RulesProvider } from '../../src/pairs/index.js'
import { articleFor, articleOf, isPlural, matchCase, thirdPerson } from '../../src/pairs/rules/grammar.js'
import { findMentions, groups } from '../../src/pairs/rules/lexicon.js'
import { findNumbers } from '../../src/pairs/rules/numbers.js'
import { flipSentence } from '../../src/pairs/rules/polarity.js'
import { readAnswer } from '../../src/pairs/rules/reader.js'
import { makeTask } from './records.js'

const context = { provider: new RulesProvider(), blindJudge: null, mode: 'on-policy', seed: 1 } as const

/** The other side of the pair that an answer becomes, or why it becomes none. */
async function twin(question: string, reference: string, text: string, change = {}): Promise<string> {
  const { pair, rejection } = await constructPair(makeTask(question, reference, text, change), context)
  return pair ? (pair.chosen === text ? pair.rejected : pair.chosen) : rejection
}

describe('flipSentence', () => {
  it.each([
    ['There is no effusion.', 'There is an effusion.'],
    ['There is no pleural effusion on the left.', 'There is a pleural effusion on the left.'],
    ['There is no evidence of pneumonia.', 'There is evidence of pneumonia.'],
    ['There are no nodules.', 'There are nodules.'],
    ['No fracture is seen.', 'A fracture is seen.'],
    ['No pneumothorax.', 'Pneumothorax.'],
    ['The heart is not enlarged.', 'The heart is enlarged.'],
    ['The image does not show a mass.', 'The image shows a mass.'],
    ['The image does not show any masses.', 'The image shows masses.'],
    ['The lungs do not show any mass.', 'The lungs show a mass.'],
    ["The heart isn't enlarged.", 'The heart is enlarged.'],
    ['A mass cannot be seen.', 'A mass can be seen.'],
    ['The gas is absent.', 'The gas is present.'],
    ['There is no effusion or pneumothorax.', 'There is an effusion but no pneumothorax.'],
  ])('affirms: %s', (from, to) => {
    expect(apply(from)).toBe(to)
  })

  it.each([
    ['There is a small left pleural effusion.', 'There is no left pleural effusion.'],
    ['There are multiple nodules.', 'There are no nodules.'],
    ['There is cardiomegaly.', 'There is no cardiomegaly.'],
    ['A nodule is seen in the lung.', 'No nodule is seen in the lung.'],
    ['The trachea is midline.', 'The trachea is not midline.'],
    ['The image shows an effusion.', 'The image shows no effusion.'],
    ['The picture contains the liver.', 'The picture does not contain the liver.'],
    ['The lungs show the mass.', 'The lungs do not show the mass.'],
    ['The mass can be seen.', 'The mass cannot be seen.'],
    ['Mild cardiomegaly.', 'No cardiomegaly.'],
    ['Yes, it does.', 'Yes, it does not.'],
    ['There is clear evidence of a mass.', 'There is no evidence of a mass.'],
  ])('denies: %s', (from, to) => {
    expect(apply(from)).toBe(to)
  })

  it.each([
    'There is no effusion, mass, or nodule.',
    'There is no longer an effusion.',
    'Neither lung is clear.',
    'No, none of these is seen.',
    'There is not only a mass.',
    'There is a mass and a nodule.',
    'The organ that is dark is the liver.',
    'The lungs are clear without consolidation.',
    'Left lung',
    'The mass is round and dense.',
  ])('leaves alone what it does not understand: %s', (sentence) => {
    expect(flipSentence(sentence)).toBeNull()
  })

  function apply(sentence: string): string | null {
    const edits = flipSentence(sentence)
    return (
      edits &&
      [...edits]
        .reverse()
        .reduce((text, { start, end, replacement }) => text.slice(0, start) + replacement + text.slice(end), sentence)
    )
  }
})

describe('the rules', () => {
  it.each([
    // presence, in both places
    ['Is there an effusion?', 'Yes', 'No, there is no effusion.', 'Yes, there is an effusion.'],
    ['Is there an effusion?', 'No', 'No, there is no effusion.', 'Yes, there is an effusion.'],
    [
      'Does the picture contain liver?',
      'Yes',
      'No, the picture does not contain the liver.',
      'Yes, the picture contains the liver.',
    ],
    ['Does the picture contain liver?', 'No', 'no', 'yes'],
    ['Does the picture contain liver?', 'Yes', 'Yes, it does.', 'No, it does not.'],
    ['Is the heart enlarged?', 'yes', 'The heart is not enlarged.', 'The heart is enlarged.'],
    // an answer that names the other side
    ['Is the mass on the left?', 'No', 'No, the mass is on the right.', 'Yes, the mass is on the left.'],
    // laterality, place, plane, modality, severity, size, number
    ['Which lung is abnormal?', 'Left', 'The right lung is abnormal.', 'The left lung is abnormal.'],
    ['Which lung is abnormal?', 'Left lung', 'Left lung', 'Right lung'],
    ['Where is the mass?', 'Upper lobe', 'The mass is in the lower lobe.', 'The mass is in the upper lobe.'],
    ['What plane is this?', 'Axial', 'This is an axial image.', 'This is a coronal image.'],
    ['What modality is this?', 'MRI', 'This is a CT scan.', 'This is an MRI scan.'],
    ['What modality is this?', 'ct', 'ct', 'mri'],
    ['What modality is this?', 'X-Ray', 'This is an X-ray.', 'This is a CT.'],
    ['How severe is it?', 'Mild', 'It is a severe stenosis.', 'It is a mild stenosis.'],
    ['How big is it?', 'Small', 'An enlarged and large node', 'An enlarged and small node'],
    ['How many lungs are there?', '2', 'There are 3 lungs in the image.', 'There are 2 lungs in the image.'],
    ['How many nodules are there?', 'two', 'There is one nodule.', 'There are two nodules.'],
    ['How many nodules are there?', '1', 'There are two nodules in the lung.', 'There is one nodule in the lung.'],
    ['How large is the mass?', '3.2 cm', 'It measures 2.3 cm.', 'It measures 3.2 cm.'],
    // organs and findings, with their articles
    ['What is the main organ?', 'Liver', 'The main organ is the lung.', 'The main organ is the liver.'],
    ['What is seen?', 'Atelectasis', 'The image shows a pleural effusion.', 'The image shows atelectasis.'],
    ['What is seen?', 'Nodule', 'The image shows atelectasis.', 'The image shows a nodule.'],
    ['What is seen?', 'Pleural effusion', 'There is a pleural effusion.', 'There is a pneumothorax.'],
    // the choice a question offers
    ['Is this an axial or sagittal view?', 'Axial', 'Axial', 'Sagittal'],
  ])('%s (%s) %s', async (question, reference, text, expected) => {
    expect(await twin(question, reference, text)).toBe(expected)
  })

  it.each([
    ['undecided', 'Is there an effusion?', 'No', 'The lungs are well seen.'],
    ['undecided', 'Is there a shift?', 'No', 'Yes, there is no shift.'],
    ['undecided', 'Is there no effusion?', 'Yes', 'No, there is an effusion.'],
    ['undecided', 'Where is it?', 'Left lung, lower right', 'It is in the left lung.'],
    ['undecided', 'What is the largest organ?', 'Liver', 'The lung is the smallest organ.'],
    ['undecided', 'What causes it?', 'Tumor, infection, etc', 'An abscess, infection, etc'],
    ['no_edit_found', 'Is there an effusion?', 'No', 'Yes, there is an effusion because the angle is blunted.'],
    ['no_edit_found', 'Does it show liver?', 'No', 'Yes, this is a CT of the abdomen and it shows the liver.'],
    ['no_edit_found', 'What tissue is it?', 'Fat', 'It is fat.'],
    ['no_edit_found', 'What is seen?', 'Cardiomegaly', 'Pneumonia and tuberculosis.'],
    ['undecided', 'How large is it?', '5 cm', 'It is less than 1 cm.'],
    ['empty_answer', 'What tissue is it?', 'Fat', ' '],
    ['no_reference', 'What tissue is it?', ' ', 'Fat'],
  ])('says what they cannot do: %s, %s', async (rejection, question, reference, text) => {
    expect(await twin(question, reference, text)).toBe(rejection)
  })

  it('take the modes of the comparison apart', async () => {
    const task = makeTask('Is there an effusion?', 'No, there is no effusion.', 'Yes, an effusion is there.')
    const closed = makeTask('Is there an effusion?', 'No', 'Yes, there is an effusion.')
    const style = await constructPair(task, { ...context, mode: 'reference-style' })
    expect(style.pair).toMatchObject({ chosen: 'No, there is no effusion.', rejected: 'Yes, there is an effusion.' })
    expect((await constructPair(closed, { ...context, mode: 'reference-style' })).pair).toMatchObject({
      chosen: 'No',
      rejected: 'Yes',
      origin: 'counterfactual',
    })
    expect((await constructPair(closed, { ...context, mode: 'style-agnostic' })).pair).toMatchObject({
      chosen: 'No',
      rejected: 'Yes, there is an effusion.',
      origin: 'repaired',
    })
  })

  const report = 'Heart size is normal. There is a small left pleural effusion. No pneumothorax.'
  it.each([
    [
      'There is a small right pleural effusion. No pneumothorax.',
      'There is a small left pleural effusion. No pneumothorax.',
    ],
    ['The heart is enlarged. Bones are fine.', 'The heart is normal. Bones are fine.'],
    ['There is no pleural effusion. No pneumothorax is seen.', 'There is a pleural effusion. No pneumothorax is seen.'],
    ['A pneumothorax is seen.', 'No pneumothorax is seen.'],
    ['No pneumothorax.', 'Pneumothorax.'],
    ['The bones are fine.', 'undecided'],
    ['There may be a pneumothorax.', 'undecided'],
  ])('read a report sentence by sentence: %s', async (text, expected) => {
    expect(await twin('Describe the findings.', report, text, { task: 'report' })).toBe(expected)
  })

  it('leave a report alone when not every wrong sentence can be mended', async () => {
    const text = 'There is a large right pleural effusion. The heart is normal.'
    expect(await twin('Describe.', report, text, { task: 'report' })).toBe('no_edit_found')
  })

  it('give the same pair whatever came before', async () => {
    const task = makeTask('Which lung?', 'Upper left lung', 'The upper left lung.')
    const first = await constructPair(task, context)
    await twin('Which lung is abnormal?', 'Left', 'The left lung is abnormal.')
    expect(await constructPair(task, context)).toEqual(first)
    const others = await Promise.all([2, 3, 4, 5, 6, 7].map((seed) => constructPair(task, { ...context, seed })))
    expect(new Set(others.map(({ pair }) => pair?.rejected))).toEqual(
      new Set(['The upper right lung.', 'The lower left lung.']),
    )
  })
})

describe('readAnswer', () => {
  it.each([
    ['Is there an effusion?', 'No', 'No effusion is seen.', true],
    ['Is there an effusion?', 'No', 'There is an effusion.', false],
    ['What modality?', 'CT scan', 'It is computed tomography.', true],
    ['What modality?', 'X-Ray', 'This is a radiograph.', true],
    ['Where is the mass?', 'right upper lobe', 'In the upper lobe on the right.', true],
    ['How many?', '2', 'two', true],
  ])('%s (%s) %s', (question, reference, text, correct) => {
    expect(readAnswer({ task: 'vqa', question, reference, text })).toMatchObject({ decided: true, correct })
  })

  it('does not take normal for no, nor a choice for an answer', () => {
    const read = (question: string, reference: string, text: string) =>
      readAnswer({ task: 'vqa', question, reference, text }).decided
    expect(read('Is it large?', 'No', 'Normal.')).toBe(false)
    expect(read('CT or MRI?', 'CT', 'It is CT or MRI.')).toBe(false)
    expect(read('CT or MRI?', 'CT', 'It is not MRI.')).toBe(false)
    expect(read('How big?', '3 cm', '3 mm')).toBe(false)
  })
})

describe('the word lists', () => {
  it('name partners that exist and are other terms', () => {
    for (const group of groups) {
      for (const term of group.terms.keys()) {
        for (const partner of group.partners(term)) {
          expect(group.terms.has(partner), `${group.name}: ${partner}`).toBe(true)
          expect(partner, group.name).not.toBe(term)
        }
      }
    }
  })

  it('find each spelling as the term it belongs to', () => {
    for (const group of groups) {
      for (const [term, slots] of group.terms) {
        for (const spelling of slots.flat()) {
          const found = findMentions(`the ${spelling}.`)
          expect(found.map((mention) => [mention.group.name, mention.term, mention.end - mention.start])).toEqual([
            [group.name, term, spelling.length],
          ])
        }
      }
    }
  })

  it('know words that only look like terms', () => {
    const terms = (text: string) => findMentions(text).map(({ term }) => term)
    expect(terms('a right-to-left shunt')).toEqual([])
    expect(terms('heart failure')).toEqual([])
    expect(terms('large bowel')).toEqual(['colon'])
    expect(terms('transverse colon')).toEqual(['colon'])
    expect(terms('a T2-weighted image')).toEqual(['t2'])
  })

  it('know numbers from what only has digits', () => {
    const values = (text: string) => findNumbers(text).map(({ value }) => value)
    expect(values('T2, L4, the 4th rib, 3/4, 1.5 cm and two')).toEqual([1.5, 2])
    expect(values('one of them, no one, 12 mm')).toEqual([12])
  })

  it('bend words', () => {
    expect(['MRI', 'effusion', 'CT', 'X-ray', 'unilateral mass', '8 mm', 'ultrasound', 'US'].map(articleFor)).toEqual([
      ...['an', 'an', 'a', 'an', 'a', 'an', 'an', 'a'],
    ])
    expect(['pleural effusion', 'evidence', 'masses', 'mass'].map(articleOf)).toEqual(['a ', '', '', 'a '])
    expect(['abscess', 'opacities', 'diagnosis', 'lungs'].map(isPlural)).toEqual([false, true, false, true])
    expect(['show', 'have', 'suggest', 'do'].map(thirdPerson)).toEqual(['shows', 'has', 'suggests', 'does'])
    expect([matchCase('Left', 'right'), matchCase('ct', 'MRI'), matchCase('effusion', 'mass')]).toEqual([
      'Right',
      'mri',
      'mass',
    ])
  })
})
