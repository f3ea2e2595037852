import { describe, expect, it } from 'vitest'
import type { Pair } from '../../src/data/records.js'
import { refineProposals } from '../../src/pairs/diff.js'
import { applyEdits, diffWords, styleGap, verifyPair } from '../../src/pairs/index.js'
import { splitSentences, splitTokens, wordDistance } from '../../src/pairs/words.js'

const base = {
  task: 'vqa',
  question: 'Where is the mass?',
  reference: 'left lung',
  edited: 'rejected',
} as const
const fault = (chosen: string, rejected: string, change = {}) =>
  verifyPair({ ...base, chosen, rejected, ...change })?.fault ?? null

describe('verifyPair', () => {
  it.each<[string | null, string, string, object?]>([
    [null, 'The mass is in the left lung.', 'The mass is in the right lung.'],
    [null, 'left', 'right', { reference: 'left' }],
    [
      null,
      'No, it does not show a mass.',
      'Yes, it shows a mass.',
      { question: 'Does it show a mass?', reference: 'No' },
    ],
    ['unread', 'The mass is in the left lung.', 'The mass is in the left clung.'],
    // "No" to a large effusion leaves a small one open.
    [
      'unread',
      'There is no effusion.',
      'There is a large effusion.',
      { question: 'Is there a large effusion?', reference: 'No', edited: 'chosen' },
    ],
    [
      null,
      'There is no large effusion.',
      'There is a large effusion.',
      { question: 'Is there a large effusion?', reference: 'No', edited: 'chosen' },
    ],
    ['unread', 'Some thing sits in the left lung.', 'Some thing sits in the right lung.'],
    ['chosen_not_in_reference', 'The blorp is in the stall.', 'The blorp is in the quux.'],
    ['foreign_characters', 'The mass is in the left lung.', 'The mass is in the \u202eright lung.'],
    ['foreign_characters', 'The mass is in the left lung.', 'The mass is in the right\u0000 lung.'],
    ['foreign_characters', 'The mass is in the left lung.', 'The mass is in the right\ud800 lung.'],
    ['foreign_characters', 'The mass is in the left lung.', 'The mass is in the\u200b left lung.'],
    ['broken_language', 'There is a mass in the left lung.', 'There is an mass in the right lung.'],
    ['broken_language', 'There is a mass in the left lung.', 'There is a a mass in the right lung.'],
    ['broken_language', 'A small nodule is seen.', 'An other nodule is seen.'],
    ['broken_language', 'There is an effusion.', 'There is a splenomegaly.'],
    ['broken_language', 'It is a grade 1 injury.', 'It is a grade 3 injuries.'],
    ['broken_language', 'There is only one nodule.', 'There is only two nodules.'],
    ['broken_language', 'There are just two nodules.', 'There are no just two nodules.'],
    ['broken_language', 'It is an urethral stone.', 'It is an ureteral stone.'],
    ['broken_language', 'EMPHYSEMA IS SEEN.', 'EMPHYSEMA IS not SEEN.'],
    ['broken_language', 'Emphysema is seen.', 'FIbrosis is seen.'],
    ['broken_language', 'It is a CT scan.', 'It is a Sonogram scan.'],
    [
      'chosen_not_in_reference',
      'There is an opacity in the left upper zone.',
      'There is an opacity in the right upper zone.',
      { question: 'Where is the tip of the line?', reference: 'left subclavian vein' },
    ],
    ['trivial_change', 'The lession is in the left lung.', 'The lesion is in the left lung.', { reference: 'Lesion' }],
    [null, 'This is magnetic resonance imaging.', 'This is computed tomography.', { reference: 'MRI' }],
    ['edit_ratio', 'The mass is in the left lung.', 'Some dark spot sits in the right lung.'],
    ['length', 'In the left lung.', 'In the right lung of this poor old tired patient.', { task: 'report' }],
    ['sentence_count', 'The mass is left, in the lung.', 'The mass is right. In the lung.'],
    ['list_markers', '- left lung\n- mass', '- right lung\n* mass'],
    ['first_letter', 'Left lung has the mass', 'right lung has the mass'],
    ['final_punctuation', 'The mass is in the left lung.', 'The mass is in the right lung!'],
    ['trivial_change', 'The mass is in the left lung.', 'A mass was in the left lung.'],
    ['trivial_change', 'This is a CT image.', 'This is a computed tomography image.', { reference: 'CT' }],
    ['chosen_contradicts_reference', 'The mass is in the right lung.', 'The mass is in the left lung.'],
    ['rejected_agrees_with_reference', 'The mass is in the left lung.', 'The large mass is in the left lung.'],
    [
      'self_contradiction',
      'No, there is no mass.',
      'Yes, there is no mass.',
      { question: 'Is there a mass?', reference: 'No' },
    ],
    [
      'self_contradiction',
      'No, there is a mass.',
      'Yes, there is a mass.',
      { question: 'Is there a mass?', reference: 'No' },
    ],
  ])('%s: %s / %s', (expected, chosen, rejected, change) => {
    expect(fault(chosen, rejected, change)).toBe(expected)
  })

  it('finds a sentence of the reference pasted in, not one that was there', () => {
    const reference = 'There is dense opacity in the left lower lung zone.'
    const change = { task: 'report', reference, edited: 'chosen' }
    expect(
      fault(
        'The heart is fine. Dense opacity in the left lung.',
        'The heart is fine. Grey shadow of that old lung.',
        change,
      ),
    ).toBe('edit_ratio')
    const limits = {
      maxEditRatio: 1,
      looseWords: 9,
      maxWordsPerSentence: 9,
      lengthShare: 1,
      lengthWords: 9,
      pastedRun: 5,
    }
    const candidate = { ...base, reference, edited: 'chosen' as const }
    const paste = {
      ...candidate,
      chosen: 'It shows dense opacity in the left lower lung.',
      rejected: 'It shows nothing of note.',
    }
    expect(verifyPair(paste, limits)?.fault).toBe('pasted_reference')
    const swap = {
      ...candidate,
      chosen: 'Dense opacity in the left lower lung zone.',
      rejected: 'Dense opacity in the right lower lung zone.',
    }
    expect(verifyPair(swap, limits)).toBeNull()
  })

  it('counts changed words of a report by the sentence', () => {
    const text = 'There is a small left effusion. There is no mass.'
    const change = { task: 'report', reference: text }
    expect(fault(text, 'There is a small right effusion. There is a mass.', change)).toBeNull()
    expect(fault(text, 'There are two large right cysts. There is no mass.', change)).toBe('edit_ratio')
  })
})

describe('verification of careless edits', () => {
  it('ends soon, however long the edit is', () => {
    const started = performance.now()
    const long = Array.from({ length: 200_000 }, (_, i) => `word${i}`).join(' ')
    expect(fault('The mass is in the left lung.', `The mass is in the ${long}.`)).toBe('length')
    expect(fault(`The mass is in the left lung. ${long}`, `The mass is in the right lung. ${long}x`)).not.toBeNull()
    expect(performance.now() - started).toBeLessThan(20_000)
  })

  it('lets a judge vouch for a name that the rules do not know, and for nothing else', () => {
    const check = (chosen: string, rejected: string, edited: 'chosen' | 'rejected') =>
      verifyPair({ ...base, question: 'What is seen?', reference: 'Pneumothorax', chosen, rejected, edited })
    expect(check('A pneumothorax is seen.', 'A cholesteatoma is seen.', 'chosen')).toMatchObject({ vouchable: true })
    expect(check('A pneumothorax is seen.', 'A cholesteatoma is seen.', 'rejected')).toMatchObject({ vouchable: false })
    expect(check('A pneumothorax is seen.', 'A pneumotorax is seen.', 'chosen')).toMatchObject({ vouchable: false })
    expect(check('No pneumothorax, I think.', 'No cholesteatoma, I think.', 'chosen')?.vouchable).toBe(false)
  })
})

describe('diffWords', () => {
  const hunks = (from: string, to: string) =>
    diffWords(from, to, 'c').map(({ start, end, replacement }) => [from.slice(start, end), replacement])

  it.each([
    ['The left lung, left lobe.', 'The left lung, right lobe.', [['left', 'right']]],
    ['A mass of 3.2 cm.', 'A mass of 2.3 cm.', [['3.2', '2.3']]],
    ['It does not contain it.', 'It contains it.', [['does not contain', 'contains']]],
    ['There is no mass.', 'There is mass.', [['no ', '']]],
    ['It is seen', 'It is seen now', [['', ' now']]],
    ['A right-sided mass.', 'A left-sided mass.', [['right-sided', 'left-sided']]],
    ['XXXX is left.', 'XXXX is right.', [['left', 'right']]],
    ['No mass. No mass.', 'No mass. A mass.', [['No', 'A']]],
    ['一个左肺', '一个右肺', [['左', '右']]],
    ['left, upper lobe', 'right, lower lobe', [['left, upper', 'right, lower']]],
    [
      'On the left. Upper lobe',
      'On the right. Lower lobe',
      [
        ['left', 'right'],
        ['Upper', 'Lower'],
      ],
    ],
    ['same', 'same', []],
    ['two  spaces here', 'two spaces there', [['two  spaces here', 'two spaces there']]],
    ['', 'all new', [['', 'all new']]],
  ])('%s → %s', (from, to, expected) => {
    expect(hunks(from, to)).toEqual(expected)
  })

  it('always gives edits that make the other text', () => {
    let state = 9
    const next = (below: number) => {
      state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff
      return (state >> 8) % below
    }
    const words = ['a', 'no', 'left', 'right', 'lung', '3.2', ',', '.', '左', '\n', "isn't"]
    const draw = () => Array.from({ length: next(12) }, () => words[next(words.length)]).join(next(4) ? ' ' : '  ')
    let several = 0
    for (let round = 0; round < 3000; round++) {
      const [from, to] = [draw(), draw()]
      const edits = diffWords(from, to, 'c')
      if (edits.length > 1) several++
      const made = [...edits].reverse().reduce((t, e) => t.slice(0, e.start) + e.replacement + t.slice(e.end), from)
      expect(made, JSON.stringify([from, to])).toBe(to)
      try {
        expect(applyEdits(from, edits).text).toBe(to)
      } catch (error) {
        // Texts that differ in spaces alone, or have no word on one side.
        expect(error).toHaveProperty('code', 'ERR_FIRE_EDIT')
      }
    }
    expect(several).toBeGreaterThan(300)
  })

  it('finds fewest hunks among alignments of equal length', () => {
    expect(hunks('a b c', 'a x c b c')).toEqual([['', 'x c ']])
    expect(
      refineProposals('see the left lung here', [{ start: 4, end: 17, replacement: 'the right lung', category: 'c' }]),
    ).toEqual([{ start: 8, end: 12, replacement: 'right', category: 'c' }])
  })
})

describe('words', () => {
  it('keep decimals, hyphens and apostrophes together', () => {
    expect(splitTokens("It isn't 3.2cm, T2-weighted.").map(({ text }) => text)).toEqual([
      ...['It', "isn't", '3.2cm', ',', 'T2-weighted', '.'],
    ])
  })

  it.each([
    ['One. Two? Three!', ['One.', 'Two?', 'Three!']],
    ['It is 3.2 cm. Dr. Who says so.', ['It is 3.2 cm.', 'Dr. Who says so.']],
    ['1. No mass.\n2. Clear..', ['1. No mass.', '2. Clear..']],
    ['左肺。右肺。', ['左肺。', '右肺。']],
    ['  ', []],
  ])('split %j into sentences', (text, expected) => {
    const sentences = splitSentences(text)
    expect(sentences.map((sentence) => sentence.text)).toEqual(expected)
    for (const { start, end, text: sentence } of sentences) expect(text.slice(start, end)).toBe(sentence)
  })

  it('are counted apart', () => {
    expect(wordDistance(['a', 'b', 'c'], ['a', 'c', 'd'])).toBe(2)
    expect(wordDistance([], ['a'])).toBe(1)
  })
})

describe('styleGap', () => {
  const pair = (chosen: string, rejected: string) => ({ chosen, rejected }) as Pair

  it('sees nothing where the sides mirror each other', () => {
    const gap = styleGap([pair('left lung', 'right lung'), pair('right lung', 'left lung')])
    expect(gap).toMatchObject({ longerIsChosen: 0.5, unigramDivergence: 0, bigramDivergence: 0, tellingWords: [] })
  })

  it('names what gives a side away', () => {
    const pairs = Array.from({ length: 20 }, (_, i) => pair(`mass ${i}`, `there is probably a mass ${i}`))
    const gap = styleGap(pairs)
    expect(gap).toMatchObject({
      longerIsChosen: 0,
      chosen: { meanWords: 2, medianWords: 2 },
      rejected: { meanWords: 6 },
    })
    expect(gap?.tellingWords.map(({ word }) => word).sort()).toEqual(['a', 'is', 'probably', 'there'])
    expect(gap?.unigramDivergence).toBeGreaterThan(0.3)
    expect(styleGap([pair('x', 'y')])).toMatchObject({ unigramDivergence: 1, bigramDivergence: 0 })
    expect(styleGap([])).toBeNull()
  })
})
