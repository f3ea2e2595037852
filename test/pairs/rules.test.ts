import { describe, expect, it } from 'vitest'
import { constructPair, RulesProvider } from '../../src/pairs/index.js'
import type { Claim } from '../../src/pairs/rules/grammar/claims.js'
import { english, ownWords } from '../../src/pairs/rules/grammar/english.js'
import { openWordsOf, scan } from '../../src/pairs/rules/grammar/lexemes.js'
import { articleFor, articleOf, isPlural, matchCase, thirdPerson } from '../../src/pairs/rules/inflection.js'
import { readAnswer } from '../../src/pairs/rules/judge.js'
import { groups, words } from '../../src/pairs/rules/lexicon.js'
import { readText } from '../../src/pairs/rules/reading.js'
import { makeTask } from './records.js'

const context = { provider: new RulesProvider(), blindJudge: null, mode: 'on-policy', seed: 1 } as const

/** The other side of the pair that an answer becomes, or why it becomes none. */
async function twin(question: string, reference: string, text: string, change = {}): Promise<string> {
  const { pair, rejection } = await constructPair(makeTask(question, reference, text, change), context)
  return pair ? (pair.chosen === text ? pair.rejected : pair.chosen) : rejection
}

/** What a sentence claims, as "+ mass, left" (there is one), "heart: enlarged" (it is) or the reason why it is not read. */
function claimsIn(text: string, question = ''): string[] | string {
  const { problem, statements } = readText(text, { open: openWordsOf(question), asked: [] })
  const names = (features: Claim['about']) => features.map(({ term }) => term).join(', ')
  return (
    problem ??
    statements.flatMap(({ claims }) =>
      claims.map(({ kind, about, says, positive }) => {
        const sign = positive ? '+' : '-'
        return kind === 'there' ? `${sign} ${names(about)}` : `${sign} ${names(about) || kind}: ${names(says)}`
      }),
    )
  )
}

describe('the grammar', () => {
  it.each([
    ['There is a small left pleural effusion.', ['+ small, left, effusion']],
    ['There is no effusion.', ['- effusion']],
    ['No effusion, mass or nodule is seen.', ['- effusion', '- mass', '- nodule']],
    ['Neither effusion nor edema is present.', ['- effusion', '- edema']],
    ['There is an effusion but no mass.', ['+ effusion', '- mass']],
    ['The image does not show any nodules.', ['- nodule']],
    ['The liver contains a cyst.', ['+ cyst, liver']],
    ['The heart is enlarged.', ['+ heart: enlarged']],
    ['There is no cardiomegaly.', ['- heart: enlarged']],
    ['The trachea is not midline.', ['- trachea: midline']],
    ['The mass is in the left upper lobe.', ['+ mass: left, upper']],
    ['The mass is in the spleen and not in the liver.', ['+ mass: spleen', '- mass: liver']],
    ['The effusion has resolved.', ['- effusion']],
    ['The effusion has not resolved.', ['+ effusion']],
    ['The effusion is no longer seen.', ['- effusion']],
    ['There is no change in the effusion.', ['+ effusion']],
    ['A fracture has been ruled out.', ['- fracture']],
    ['A fracture is not absent.', ['+ fracture']],
    ['There is no lack of gas.', ['+ gas']],
    ['The gallbladder is not without stones.', ['+ stone, gallbladder']],
    ['The right lung is clear, whereas the left lung is abnormal.', ['+ right, lung: clear', '+ left, lung: abnormal']],
    ['Mass: absent', ['- mass']],
    ['The lesion measures 3 cm by 2 cm.', ['+ lesion: length 30 x 20']],
    ['L4, the 4th rib and 3 stones are seen.', ['+ l4', '+ 4, rib', '+ 3, stone']],
    ['<think>Is it left? No mass.</think> There is a mass.', ['+ mass']],
    ['**No** mass.', ['- mass']],
  ])('reads %s', (text, claims) => {
    expect(claimsIn(text, 'gas')).toEqual(claims)
  })

  it.each([
    ['A fracture cannot be excluded.', /^"/],
    ['A fracture is not excluded.', /open/],
    ['There may be a mass.', '"may": hedged'],
    ['If there is a mass, a biopsy helps.', '"if": conditional'],
    ['The report says that there is a mass.', '"report": reported'],
    ['There was a mass.', '"was": about another time'],
    ['The lungs are clear except for a mass.', '"except": excepted'],
    ['There is a mass or a cyst.', '"or": hedged'],
    ['There is a gloop.', '"gloop" is not known'],
    ['Is there a mass?', 'it asks a question'],
    ['There is an effusion, edema and no mass or.', /./],
    ['No edema, effusion.', 'it is open how far its "no" reaches'],
    ['The lungs are clear of effusion.', /effusion/],
    ['The left right lung is clear.', '"left" and "right" in one phrase'],
    ['There is an effusion pneumothorax.', '"effusion" and "pneumothorax" in one phrase'],
    ['The heart is normal. It is white.', 'it is open what "it" means'],
    ['The heart and the liver are not enlarged.', 'several things are denied together'],
    ['', 'nothing is said'],
  ])('does not read %s', (text, reason) => {
    const read = claimsIn(text)
    expect(typeof read).toBe('string')
    if (reason instanceof RegExp) expect(read).toMatch(reason)
    else expect(read).toBe(reason)
  })

  it('keeps its rules and the word classes apart', () => {
    const classes = [...Object.keys(words.classes), 'term', 'open', 'number', 'word']
    expect(classes.filter((name) => english.rules.has(name))).toEqual([])
    const named = new Set([...english.rules.keys(), ...classes])
    const used = JSON.stringify([...english.rules.values()]).matchAll(/"is":"name","name":"(\w+)"/g)
    expect([...used].map((match) => match[1]).filter((name) => !named.has(name))).toEqual([])
    expect(ownWords.has('neither')).toBe(true)
  })

  it('ends soon on what is too tangled to be read', () => {
    const started = performance.now()
    expect(typeof claimsIn(Array.from({ length: 3000 }, () => 'left lung in the').join(' '))).toBe('string')
    expect(performance.now() - started).toBeLessThan(20_000)
  })
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
    [
      'Does it show liver?',
      'No',
      'Yes, this is a CT of the abdomen and it shows the liver.',
      'No, this is a CT of the abdomen and it does not show the liver.',
    ],
    // presence, in every clause that can deny it
    ['Is there an effusion?', 'Yes', 'There is a small effusion.', 'There is no effusion.'],
    ['Is there an effusion?', 'Yes', "There isn't any effusion.", 'There is an effusion.'],
    ['Is there an effusion?', 'No', 'The effusion has resolved.', 'The effusion has not resolved.'],
    ['Is there an effusion?', 'Yes', 'The effusion persists.', 'The effusion has resolved.'],
    ['Is there an effusion?', 'Yes', 'There is a mass but no effusion.', 'There is a mass and an effusion.'],
    ['Is there an effusion?', 'Yes', 'There is a mass without effusion.', 'There is a mass with an effusion.'],
    ['Is there an effusion?', 'Yes', 'There is an effusion but no mass.', 'There is no effusion and no mass.'],
    ['Is there a mass?', 'Yes', 'There is no effusion or mass.', 'There is no effusion but a mass.'],
    ['Is there a mass?', 'Yes', 'A mass has been ruled out.', 'A mass has been confirmed.'],
    ['Is there a mass?', 'Yes', 'A mass cannot be seen.', 'A mass can be seen.'],
    ['Is there a mass?', 'Yes', 'There is clear evidence of a mass.', 'There is no evidence of a mass.'],
    ['Is there a mass?', 'No', 'Multiple masses are seen.', 'No masses are seen.'],
    ['Is the heart enlarged?', 'Yes', 'The heart appears to be enlarged.', 'The heart does not appear to be enlarged.'],
    ['Is the heart enlarged?', 'Yes', 'The heart is mildly enlarged.', 'The heart is not enlarged.'],
    ['Is the lung healthy?', 'No', 'Yes, the X-ray shows a healthy lung.', 'No, the X-ray shows an abnormal lung.'],
    ['Is the mass solid or cystic?', 'Cystic', 'The mass is solid.', 'The mass is cystic.'],
    ['What is its density?', 'Hypodense', 'It is hypodense, not hyperdense.', 'It is hyperdense, not hypodense.'],
    ['Which kidney is absent?', 'Left', 'The left kidney is absent.', 'The right kidney is absent.'],
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
    ['How severe is the stenosis?', 'Mild', 'It is a severe stenosis.', 'It is a mild stenosis.'],
    ['How big is the node?', 'Small', 'A large node', 'A small node'],
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
    ['undecided', 'Is there an effusion?', 'No', 'Yes, there is an effusion because the angle is blunted.'],
    ['no_edit_found', 'Is there an effusion?', 'Yes', 'Neither effusion nor edema is present.'],
    ['no_edit_found', 'What tissue is it?', 'Fat', 'It is fat.'],
    ['undecided', 'What is seen?', 'Cardiomegaly', 'Pneumonia and tuberculosis.'],
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

  it.each([
    ['The lungs are clear. Small left effusion.', 'There is a small right effusion. There is a cavity.'],
    ['No obstruction. The spleen is enlarged.', 'The spleen is normal. The bowel is dilated.'],
    ['The bones are normal. The heart is enlarged.', 'The heart is normal. Osteolysis of the femur.'],
    ['Brain normal. Fracture of the left skull.', 'Fracture of the right skull. There is an infarct.'],
  ])('leave out a report that finds something where all is well: %s', async (reference, text) => {
    expect(await twin('Describe the findings.', reference, text, { task: 'report' })).toBe('wrong_sentence_kept')
  })

  it.each([
    ['Is there a large mass?', 'There is a large mass.', 'There is no large mass.'],
    ['Is the heart mildly enlarged?', 'The heart is mildly enlarged.', 'The heart is not mildly enlarged.'],
    ['Are there two cysts?', 'There are two cysts.', 'no_edit_found'],
    ['Are there multiple cysts?', 'There are multiple cysts.', 'no_edit_found'],
    ['Is there another cyst?', 'There is another cyst.', 'no_edit_found'],
    ['Is there a persistent effusion?', 'There is a persistent effusion.', 'no_edit_found'],
    ['Are both kidneys enlarged?', 'Both kidneys are enlarged.', 'no_edit_found'],
    ['Are all ribs intact?', 'All ribs are intact.', 'no_edit_found'],
    ['Is the cyst in the left kidney?', 'The cyst is in the left kidney.', 'The cyst is not in the left kidney.'],
    ['Is the cyst on the left?', 'Yes, the cyst lies on the left.', 'No, the cyst does not lie on the left.'],
    ['Is this an MRI?', 'This is an MRI.', 'This is not an MRI.'],
    ['Is the mouth open?', 'The mouth is open.', 'The mouth is not open.'],
  ])('deny no more than a bare no does: %s %s', async (question, text, expected) => {
    expect(await twin(question, 'No', text)).toBe(expected)
  })

  it('leave a report alone when not every wrong sentence can be mended', async () => {
    const text = 'There is a left pneumothorax without pleural effusion. The heart is normal.'
    expect(await twin('Describe.', report, text, { task: 'report' })).toBe('no_edit_found')
    // Two words of one sentence are mended together.
    const two = await twin('Describe.', report, 'There is a large right pleural effusion.', { task: 'report' })
    expect(two).toBe('There is a small left pleural effusion.')
  })

  it('leave a report out when a sentence may be wrong and would stand on both sides, or say so', async () => {
    const text = 'No pneumothorax. A small effusion cannot be ruled out.'
    const task = makeTask('Describe.', report, text, { task: 'report' })
    expect(await constructPair(task, context)).toMatchObject({ rejection: 'wrong_sentence_kept' })
    const { pair } = await constructPair(task, { ...context, wrongSentences: 'keep' })
    expect(pair).toMatchObject({ chosen: text, rejected: 'Pneumothorax. A small effusion cannot be ruled out.' })
    expect(pair?.provenance).toMatchObject({ mayBeWrongOnBothSides: ['A small effusion cannot be ruled out.'] })
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
    expect(read('How big?', '3 cm', 'less than 3 cm')).toBe(false)
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

  it('find each spelling as a term of its group', () => {
    for (const group of groups) {
      for (const [term, slots] of group.terms) {
        for (const spelling of slots.flat()) {
          const found = scan(`the ${spelling}.`).features
          expect(found.map(({ start, end }) => end - start)).toEqual([spelling.length])
          if (found[0].group === group.name) expect(found[0].term).toBe(term)
        }
      }
    }
  })

  it('name only terms that exist', () => {
    for (const group of groups) {
      for (const name of [...group.implies.values(), ...group.means.values()].flat()) {
        const other = groups.find((one) => name.startsWith(`${one.name} `))
        expect(other?.terms.has(name.slice((other?.name.length ?? 0) + 1)), name).toBe(true)
      }
    }
  })

  it('know numbers, ordinals, levels and measures', () => {
    const values = (text: string) => scan(text).features.map(({ group, term }) => `${group} ${term}`)
    expect(values('L4, the 4th and the fifth, 1.5 cm, 20 mm and two')).toEqual([
      ...['level l4', 'ordinal 4', 'ordinal 5', 'measure length 15', 'measure length 20', 'number 2'],
    ])
  })

  it('bend words', () => {
    expect(['MRI', 'effusion', 'CT', 'X-ray', 'unilateral mass', '8 mm', 'ultrasound', 'US'].map(articleFor)).toEqual([
      ...['an', 'an', 'a', 'an', 'a', 'an', 'an', 'a'],
    ])
    expect(['pleural effusion', 'evidence', 'masses', 'mass'].map((noun) => articleOf(noun))).toEqual([
      'a ',
      '',
      '',
      'a ',
    ])
    expect(['abscess', 'opacities', 'diagnosis', 'lungs'].map(isPlural)).toEqual([false, true, false, true])
    expect(['show', 'have', 'suggest', 'do'].map(thirdPerson)).toEqual(['shows', 'has', 'suggests', 'does'])
    expect([matchCase('Left', 'right'), matchCase('ct', 'MRI'), matchCase('effusion', 'mass')]).toEqual([
      'Right',
      'mri',
      'mass',
    ])
  })
})
