import { join } from 'node:path'
import { parquetWriteFile } from 'hyparquet-writer'
import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import { loadPairs, pairProblem } from '../../src/data/pairs.js'
import type { Pair } from '../../src/data/records.js'
import { readTags } from '../../src/import/preference.js'
import { diffEdits } from '../../src/pairs/index.js'
import { fixtureWith, notes, reasons, runImport, sourceOf } from './support.js'

/** The words of each edit, on both sides. */
const words = (pair: Pair): [string, string][] =>
  pair.edits.map(({ chosen, rejected }) => [pair.chosen.slice(...chosen), pair.rejected.slice(...rejected)])

describe('diffEdits', () => {
  it.each([
    ['The left lung is clear.', 'The right lung is clear.', [['left', 'right']]],
    ['No effusion.', 'Small left effusion.', [['No', 'Small left']]],
    ['It measures 3.2 cm.', 'It measures 2.3 cm.', [['3.2', '2.3']]],
    ['A right-sided mass.', 'A left-sided mass.', [['right', 'left']]],
    ['There is no effusion.', 'There is effusion.', [['no effusion', 'effusion']]],
    [
      'left lung, left arm',
      'right lung, right arm',
      [
        ['left', 'right'],
        ['left', 'right'],
      ],
    ],
    ['Clear. Clear.', 'Clear.', [['Clear. Clear.', 'Clear.']]],
    ['Yes', 'No, it is normal.', [['Yes', 'No, it is normal.']]],
  ])('finds what differs between %j and %j', (chosen, rejected, expected) => {
    const edits = diffEdits(chosen, rejected, 'diff')
    const pair = { ...frame, chosen, rejected, edits }
    expect(pairProblem(pair)).toBeUndefined()
    expect(words(pair)).toEqual(expected)
  })

  it('gives no edit for equal texts and one for texts without anything in common', () => {
    expect(diffEdits('same', 'same', 'diff')).toEqual([])
    const [chosen, rejected] = ['a', 'b'].map((word) => Array.from({ length: 3000 }, (_, i) => word + i).join(' '))
    expect(pairProblem({ ...frame, chosen, rejected, edits: diffEdits(chosen, rejected, 'diff') })).toBeUndefined()
  })

  it('keeps the invariants of pairs on texts at random', () => {
    let state = 7
    const draw = (n: number) => {
      state = (state * 48271) % 2147483647
      return state % n
    }
    const vocabulary = ['left', 'right', 'no', '3.2', ',', '.', '肺', '肝脏', 'x-ray', '😀', 'é', "don't", '\n']
    const text = () =>
      Array.from({ length: 1 + draw(9) }, () => vocabulary[draw(vocabulary.length)]).join(draw(2) ? ' ' : '')
    for (let round = 0; round < 500; round += 1) {
      const [chosen, rejected] = [`a ${text()}`, `a ${text()}`]
      expect(pairProblem({ ...frame, chosen, rejected, edits: diffEdits(chosen, rejected, 'diff') })).toBeUndefined()
    }
  })
})

const frame = { id: 'x', sampleId: 'x', images: [], prompt: '', origin: '', provenance: {} }

describe('readTags', () => {
  it.each([
    ['The <mask>left</mask> lung.', 'The left lung.', ['left']],
    ['The <MASK>left</MASK> lung.', 'The left lung.', ['left']],
    ['The <mask> left </mask> lung', 'The left lung', ['left']],
    [' <mask>Yes</mask> , a <mask>mass</mask> ', 'Yes , a mass', ['Yes', 'mass']],
    ['No tag', 'No tag', []],
    ['a <mask></mask> b', 'a b', ['']],
  ])('reads %j', (marked, text, phrases) => {
    const read = readTags(marked)
    expect(read.text).toBe(text)
    expect(read.spans.map((span) => read.text.slice(...span))).toEqual(phrases)
  })

  it.each(['<mask>a', 'a</mask>', '<mask><mask>a</mask></mask>'])('refuses %j', (marked) => {
    expect(() => readTags(marked)).toThrow(/partner|not closed/)
  })
})

describe('mmedpo', () => {
  it('makes a pair and a sample of each record', async () => {
    const source = await fixtureWith('mmedpo', ['synpic54610.jpg', 'synpic29265.jpg', 'xmlab100_source.jpg'])
    const done = await runImport({ kind: 'mmedpo', source })
    expect(reasons(done)).toEqual([
      ['mmedpo-slake_dpo_weighted-7', 'missing_image'],
      ['mmedpo-slake_dpo_weighted-8', 'missing_image'],
    ])
    expect(done.report).toMatchObject({ samples: 2, pairs: 2, counts: { train: { records: 2, closed: 2, images: 2 } } })
    expect(done.pairs[1]).toMatchObject({
      prompt: 'Are the lungs normal appearing?',
      chosen: 'No',
      rejected: 'Yes, the chest X-ray shows normal appearing lungs.',
      weight: 0.8,
      provenance: { score: 0.8, split: 'train' },
    })
    expect(done.samples[1]).toMatchObject({ id: done.pairs[1].sampleId, answer: 'No' })
    expect((await loadPairs(join(done.out, 'pairs.jsonl'), { emptyPhrase: 'error' })).counts.kept).toBe(2)
  })

  it('leaves the weight out where the score is not positive', async () => {
    const turns = (answer: string) => [
      { from: 'human', value: '<image>\nq?' },
      { from: 'gpt', value: answer },
    ]
    const source = await sourceOf({
      'a_dpo_weighted.json': [
        { id: 1, image: 'a.png', conversations: turns('x'), rejected_conversations: turns('y'), weighted_score: 0 },
        { id: 2, image: 'a.png', conversations: turns('x'), rejected_conversations: turns(' x'), weighted_score: 1 },
      ],
      'a.png': 1,
    })
    const done = await runImport({ kind: 'mmedpo', source })
    expect(done.pairs[0]).not.toHaveProperty('weight')
    expect(notes(done)).toMatchObject({ score_not_positive: 1 })
    expect(reasons(done)).toEqual([['mmedpo-a_dpo_weighted-2', 'identical_answers']])
  })
})

describe('rrpo', () => {
  it('takes the edits from the tags', async () => {
    const record = { question: 'Where?', answer: 'In the left lung.', pred: 'In the right upper lung.', image: 'a.png' }
    const source = await sourceOf({
      'rrpo.jsonl': [
        {
          ...record,
          answer_masked: 'In the <MASK>left</MASK> lung.',
          pred_masked: 'In the <MASK>right upper</MASK> lung.',
        },
        {
          ...record,
          answer_masked: 'In <MASK>the left</MASK> lung.',
          pred_masked: 'In <MASK>the</MASK> <MASK>right</MASK> lung.',
        },
        { ...record, answer_masked: 'In the <MASK>left lung.', pred_masked: 'x' },
        record,
      ]
        .map((line) => JSON.stringify(line))
        .join('\n'),
      'a.png': 1,
    })
    const done = await runImport({ kind: 'rrpo', source: join(source, 'rrpo.jsonl') })
    expect(done.report).toMatchObject({ layout: 'masked', pairs: 3, samples: 3 })
    expect(words(done.pairs[0])).toEqual([['left', 'right upper']])
    expect(done.pairs[0].edits[0].category).toBe('tag')
    expect(words(done.pairs[1])).toEqual([['left', 'right']])
    expect(done.pairs[1].edits[0].category).toBe('diff')
    expect(words(done.pairs[2])).toEqual([['left', 'right upper']])
    expect(notes(done)).toEqual({ tags_do_not_align: 1, masked_text_differs: 2 })
    expect(reasons(done)).toEqual([['rrpo-rrpo-2', 'unbalanced_tags']])
  })

  it('reads inline-tag records with the image of their visual pair', async () => {
    const record = { id: 'q1', qid: 4, prompt: 'Where?', was_correct: true, image_path: 'a.png' }
    const answers = { chosen: 'It is <mask>left</mask>.', rejected: 'It is <mask>right</mask>.' }
    const source = await sourceOf({
      'pairs.json': [
        { ...record, ...answers, rejected_image_path: 'noisy.png' },
        { ...record, ...answers, id: 'q2', rejected_image_path: 'none.png' },
      ],
      'a.png': 1,
      'noisy.png': 2,
    })
    const done = await runImport({ kind: 'rrpo', source })
    expect(done.report).toMatchObject({ layout: 'inline-tags', pairs: 2, samples: 0 })
    expect(done.pairs[0]).toMatchObject({
      id: 'rrpo-pairs-q1',
      chosen: 'It is left.',
      corrupted: { method: 'as-published' },
    })
    expect(done.pairs[0].corrupted?.images[0].sha256).not.toBe(done.pairs[0].images[0].sha256)
    expect(done.pairs[1]).not.toHaveProperty('corrupted')
    expect(done.pairs[0].provenance).toMatchObject({ qid: 4, was_correct: true })
    expect(notes(done)).toMatchObject({ corrupted_image_missing: 1 })
    expect((await loadPairs(join(done.out, 'pairs.jsonl'), { emptyPhrase: 'error' })).counts.withoutCorrupted).toBe(1)
  })
})

describe('trl', () => {
  it('reads texts, messages, and prompts inside the answers', async () => {
    const user = { role: 'user', content: [{ type: 'image' }, { type: 'text', text: 'Where?' }] }
    const system = { role: 'system', content: 'Be brief.' }
    const says = (content: string) => [{ role: 'assistant', content }]
    const images = ['a.png']
    const source = await sourceOf({
      'train.json': [
        { prompt: '<image>Where?', chosen: 'Left.', rejected: 'Right.', images },
        { prompt: [system, user], chosen: says('Left.'), rejected: says('Right.'), images },
        { chosen: [user, ...says('Left.')], rejected: [user, ...says('Right.')], image: 'a.png' },
        { prompt: [user, ...says('x'), user], chosen: says('Left.'), rejected: says('Right.'), images },
        { prompt: 'Where?', chosen: 'Left.', images },
        { prompt: 'Where?', chosen: 3, rejected: 'Right.', images },
      ],
      'a.png': 1,
    })
    const done = await runImport({ kind: 'trl', source })
    expect(done.pairs.map(({ prompt, chosen, rejected }) => [prompt, chosen, rejected])).toEqual(
      Array(3).fill(['Where?', 'Left.', 'Right.']),
    )
    expect(done.pairs[1].provenance).toMatchObject({ system: 'Be brief.' })
    expect(done.report.counts).toEqual({ train: { records: 3, closed: 0, open: 3, images: 1 } })
    expect(done.report.problems).toMatchObject([
      { index: 3, reason: 'multi_turn' },
      { index: 4, reason: 'missing_field' },
      { index: 5, reason: 'wrong_type' },
    ])
  })

  it('reads parquet with images inside and 64-bit columns', async () => {
    const png = await sharp({ create: { width: 4, height: 4, channels: 3, background: '#123456' } })
      .png()
      .toBuffer()
    const source = await sourceOf({ 'data/.keep': '' })
    const text = (name: string) => ({ name, type: 'BYTE_ARRAY' as const, converted_type: 'UTF8' as const })
    const optional = { repetition_type: 'OPTIONAL' as const }
    parquetWriteFile({
      filename: join(source, 'data', 'train.parquet'),
      schema: [
        { name: 'root', num_children: 5 },
        { name: 'image', num_children: 1, ...optional },
        { name: 'bytes', type: 'BYTE_ARRAY', ...optional },
        { ...text('prompt'), ...optional },
        { ...text('chosen'), ...optional },
        { ...text('rejected'), ...optional },
        { name: 'votes', type: 'INT64', ...optional },
      ],
      columnData: [
        { name: 'image', data: [{ bytes: png }] },
        { name: 'prompt', data: ['Where?'] },
        { name: 'chosen', data: ['Left.'] },
        { name: 'rejected', data: ['Right.'] },
        { name: 'votes', data: [12n] },
      ],
    })
    const done = await runImport({ kind: 'trl', source })
    expect(done.pairs).toMatchObject([{ id: 'trl-train-0', images: [{ width: 4 }], provenance: { votes: 12 } }])
  })
})
