import { existsSync } from 'node:fs'
import { readdir, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { parquetWriteFile } from 'hyparquet-writer'
import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import { corruptPairs } from '../../src/corrupt/index.js'
import { corruptSettings } from '../../src/corrupt/settings.js'
import { checkReferenced } from '../../src/data/images.js'
import { readLines, writeRecords } from '../sample/records.js'
import { fixtures, fixtureWith, notes, reasons, runImport, sourceOf } from './support.js'

const radFolder = 'VQA_RAD Image Folder'

async function radImages(): Promise<string[]> {
  const rows = JSON.parse(await readFile(join(fixtures, 'vqa-rad', 'VQA_RAD Dataset Public.json'), 'utf8'))
  return [...new Set<string>(rows.map((row: { image_name: string }) => join(radFolder, row.image_name)))]
}

describe('vqa-rad', () => {
  it('reads the public release with its quirks', async () => {
    const source = await fixtureWith('vqa-rad', await radImages())
    const done = await runImport({ kind: 'vqa-rad', source })
    const answers = new Map(done.samples.map(({ id, answer }) => [id, answer]))
    expect(done.report).toMatchObject({ layout: 'raw', read: 14, samples: 14, leftOut: {}, problems: [] })
    expect(answers.get('vqa-rad-0')).toBe('Yes')
    expect(answers.get('vqa-rad-369')).toBe('Heart lungs')
    expect(answers.get('vqa-rad-1511')).toBe('4')
    expect(answers.get('vqa-rad-2239')).toBe("superficial to the patient's skin")
    expect(notes(done)).toEqual({
      number_as_text: 2,
      inner_tabs_or_lines: 1,
      outer_spaces: 2,
      answer_type_spaces: 1,
      replacement_character: 1,
    })
    expect(done.samples.find(({ id }) => id === 'vqa-rad-2156')).toMatchObject({ answerType: 'closed', split: 'train' })
    expect(done.samples.find(({ id }) => id === 'vqa-rad-0')?.meta).toMatchObject({
      phrase_type: 'freeform',
      importedFrom: { line: 2, index: 0, images: ['synpic54610.jpg'] },
    })
    expect(done.samples.find(({ id }) => id === 'vqa-rad-0')?.meta).not.toHaveProperty('question_rephrase')
    for (const sample of done.samples) await checkReferenced(sample.images[0], done.out)
    expect(await readFile(join(done.out, 'LICENSE.md'), 'utf8')).toContain('CC0')
  })

  it.each([
    ['answer_type', 3, 2],
    ['yes_no_exact', 2, 3],
    ['paper_substring', 3, 2],
  ] as const)('counts closed and open by %s', async (closedRule, closed, open) => {
    const { report, samples } = await runImport({
      kind: 'vqa-rad',
      source: join(fixtures, 'vqa-rad'),
      closedRule,
      allowMissingImages: true,
    })
    expect(report.counts.test).toEqual({ records: 5, closed, open, images: 5 })
    const nodules = samples.find(({ answer }) => answer === 'Pulmonary nodules')
    expect(nodules?.answerType).toBe(closedRule === 'paper_substring' ? 'closed' : 'open')
    expect(report.images).toEqual({ stored: 0, sameContent: 0, missing: 13, recordsWithout: 14 })
  })

  it('reports the images that splits share, and splits by image on request', async () => {
    const source = join(fixtures, 'vqa-rad')
    const asPublished = await runImport({ kind: 'vqa-rad', source, allowMissingImages: true })
    const shared = [{ splits: ['train', 'test'], images: 1, share: 0.2 }]
    expect(asPublished.report.leakage).toEqual({ written: shared, source: shared })
    const splitByImage = {
      parts: [
        ['train', 1],
        ['test', 1],
      ] as [string, number][],
      seed: 3,
    }
    const byImage = await runImport({ kind: 'vqa-rad', source, allowMissingImages: true, splitByImage })
    expect(byImage.report.leakage).toEqual({ written: [], source: shared })
    expect(new Set(byImage.samples.map(({ split }) => split))).toEqual(new Set(['train', 'test']))
    const splitOf = (id: string) => byImage.samples.find((sample) => sample.id === id)?.split
    expect(splitOf('vqa-rad-13')).toBe(splitOf('vqa-rad-0'))
    expect(byImage.samples.find(({ id }) => id === 'vqa-rad-13')?.meta.importedFrom).toMatchObject({ split: 'test' })
  })

  it('reads the MEVF split, train before test', async () => {
    const { report, samples } = await runImport({
      kind: 'vqa-rad',
      source: join(fixtures, 'vqa-rad-mevf'),
      allowMissingImages: true,
    })
    expect(report).toMatchObject({ layout: 'mevf', counts: { train: { records: 3 }, test: { records: 2 } } })
    expect(samples.map(({ id }) => id).slice(0, 2)).toEqual(['vqa-rad-mevf-33', 'vqa-rad-mevf-1'])
    expect(samples[0].question).toBe('Are there >12 of ribs?')
  })

  it('reads LLaVA-style conversations', async () => {
    const turns = (question: string, answer: string) => [
      { from: 'human', value: `<image>\n${question}` },
      { from: 'gpt', value: answer },
    ]
    const long = [...turns('a?', 'b'), ...turns('c?', 'd')]
    const source = await sourceOf({
      'train.json': [
        { id: '0', image: 'a.png', answer_type: 'CLOSED', conversations: turns('Normal?', 'Yes') },
        { id: 1, image: 'a.png', answer_type: 'OPEN', conversations: long },
      ],
      'test.json': [{ id: 0, image: 'a.png', answer_type: 'OPEN', conversations: turns('Where?', ' Left') }],
      'a.png': 1,
    })
    const done = await runImport({ kind: 'vqa-rad', source })
    expect(done.samples.map(({ id, question, answer }) => [id, question, answer])).toEqual([
      ['vqa-rad-train-0', 'Normal?', 'Yes'],
      ['vqa-rad-test-0', 'Where?', 'Left'],
    ])
    expect(reasons(done)).toEqual([['1', 'multi_turn']])
  })

  it('reads parquet, images inside or named, and falls back where there is no answer_type', async () => {
    const png = async (level: number) =>
      sharp({ create: { width: 8, height: 8, channels: 3, background: { r: level, g: 0, b: 0 } } })
        .png()
        .toBuffer()
    const source = await sourceOf({ 'b.png': 7, 'data/.keep': '' })
    const images = [
      { bytes: await png(1), path: null },
      { bytes: await png(1), path: 'x.jpg' },
      { bytes: null, path: 'b.png' },
      { bytes: null, path: null },
    ]
    parquetWriteFile({
      filename: join(source, 'data', 'test-00000-of-00001.parquet'),
      rowGroupSize: 2,
      schema: [
        { name: 'root', num_children: 3 },
        { name: 'image', num_children: 2, repetition_type: 'OPTIONAL' },
        { name: 'bytes', type: 'BYTE_ARRAY', repetition_type: 'OPTIONAL' },
        { name: 'path', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'OPTIONAL' },
        { name: 'question', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'OPTIONAL' },
        { name: 'answer', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'OPTIONAL' },
      ],
      columnData: [
        { name: 'image', data: images },
        { name: 'question', data: ['q1?', 'q2?', 'q3?', 'q4?'] },
        { name: 'answer', data: ['yes', 'pneumothorax', 'no', 'no'] },
      ],
    })
    const done = await runImport({ kind: 'vqa-rad', source })
    expect(done.report.counts).toEqual({ test: { records: 3, closed: 2, open: 1, images: 2 } })
    expect(done.report.closedRule).toEqual({ asked: 'answer_type', fallback: 3 })
    expect(done.report.images).toEqual({ stored: 2, sameContent: 1, missing: 0, recordsWithout: 0 })
    expect(done.report.problems).toMatchObject([{ line: 4, reason: 'no_image' }])
    expect((await readdir(join(done.out, 'images'))).length).toBe(2)
  })
})

describe('slake', () => {
  it.each([
    ['en', { train: 4, validation: 1, test: 4 }, 1],
    ['zh', { validation: 1 }, 9],
    ['all', { train: 4, validation: 2, test: 4 }, 0],
  ])('reads the questions in %s', async (language, records, filtered) => {
    const done = await runImport({ kind: 'slake', source: join(fixtures, 'slake'), language, allowMissingImages: true })
    const counts = Object.entries(done.report.counts).map(([split, count]) => [split, count.records])
    expect(Object.fromEntries(counts)).toEqual(records)
    expect(done.report.leftOut).toEqual(filtered === 0 ? {} : { language: filtered })
    expect(done.report.problems.length).toBe(filtered)
  })

  it.each([
    ['answer_type', 1],
    ['yes_no_exact', 0],
    ['paper_substring', 1],
  ] as const)('keeps the answer None and counts it open by %s', async (closedRule, closed) => {
    const { report, samples } = await runImport({
      kind: 'slake',
      source: join(fixtures, 'slake'),
      language: 'en',
      closedRule,
      allowMissingImages: true,
    })
    expect(report.counts.test).toMatchObject({ records: 4, closed })
    expect(samples.find(({ answer }) => answer === 'None')?.answerType).toBe('open')
    expect(samples.find(({ id }) => id === 'slake-1622')?.answer).toBe('')
    expect(report.notes).toMatchObject([{ note: 'empty_answer', count: 1, first: 'train.json:1' }])
  })

  async function maskedSource(mask: number[], files: Record<string, string | object> = {}): Promise<string> {
    const row = {
      img_name: 'xmlab1/source.jpg',
      q_lang: 'en',
      question: 'Where?',
      answer: 'Liver',
      answer_type: 'OPEN',
    }
    const source = await sourceOf({
      'imgs/xmlab1/source.jpg': 5,
      'mask.txt': '1:Liver\r\n70:Lung Cancer\n',
      'imgs/xmlab1/detection.json': [{ Liver: [1.5, 2, 10, 12] }, { Kidney: [30, 30, 9, 9] }, { Spleen: 'x' }],
      'test.json': [
        { ...row, qid: 1 },
        { ...row, qid: 2 },
      ],
      ...files,
    })
    const grey = Buffer.alloc(32 * 32)
    for (const [at, value] of mask.entries()) grey[at] = value
    await sharp(grey, { raw: { width: 32, height: 32, channels: 1 } })
      .png()
      .toFile(join(source, 'imgs/xmlab1/mask.png'))
    return source
  }

  it('names the classes of a mask through mask.txt and reads boxes', async () => {
    const done = await runImport({ kind: 'slake', source: await maskedSource([70, 1, 1]) })
    const [{ meta }] = done.samples
    expect(meta.mask).toMatchObject({
      classes: [
        { value: 1, label: 'Liver' },
        { value: 70, label: 'Lung Cancer' },
      ],
    })
    expect(existsSync(join(done.out, (meta.mask as { path: string }).path))).toBe(true)
    expect(meta.boxes).toEqual([
      { label: 'Liver', box: [1.5, 2, 10, 12] },
      { label: 'Kidney', box: [30, 30, 9, 9] },
    ])
    expect(notes(done)).toEqual({ box_beyond_the_image: 1, box_unusable: 1 })
    expect(done.samples[1].meta.mask).toEqual(meta.mask)
  })

  it('leaves a manifest of the masks, one line a label of an image, that `corrupt` reads', async () => {
    const done = await runImport({ kind: 'slake', source: await maskedSource([70, 1, 1]) })
    const [{ images, meta }] = done.samples
    const [{ sha256: image }] = images
    const file = (meta.mask as { path: string }).path
    expect(await readLines(join(done.out, 'masks.jsonl'))).toEqual([
      { image, concept: 'Liver', mask: { file, value: 1 } },
      { image, concept: 'Kidney', mask: { boxes: [[30, 30, 9, 9]] } },
      { image, concept: 'Lung Cancer', mask: { file, value: 70 } },
    ])
    // The question names the liver, so its three pixels and no others carry the noise.
    const pair = {
      id: 'p',
      sampleId: 'slake-1',
      images,
      prompt: 'Is the liver normal?',
      chosen: 'Yes.',
      rejected: 'No.',
      origin: 'test',
      edits: [{ chosen: [0, 3], rejected: [0, 2], category: 'presence' }],
      provenance: {},
    }
    await writeRecords(join(done.out, 'pairs.jsonl'), [pair])
    const paths = { pairs: join(done.out, 'pairs.jsonl'), masks: join(done.out, 'masks.jsonl') }
    const settings = corruptSettings.parse({ ...paths, out: join(done.out, 'hidden') })
    const { report } = await corruptPairs({ ...settings, segmenter: undefined })
    expect(report).toMatchObject({ methods: { 'lesion-noise': 1 }, sources: { 'manifest: picture': 1 }, missing: {} })
    expect(report.coverage?.most).toBeCloseTo(2 / (32 * 32))
  })

  it('knows the names that mirrors give to files', async () => {
    const source = await maskedSource([1])
    const study = join(source, 'imgs', 'xmlab1')
    await rename(join(study, 'source.jpg'), join(study, 'source_xmlab1.jpg'))
    await rename(join(study, 'mask.png'), join(study, 'mask_xmlab1.png'))
    const done = await runImport({ kind: 'slake', source })
    expect(done.samples.length).toBe(2)
    expect(done.samples[0].meta.mask).toMatchObject({ classes: [{ label: 'Liver' }] })
  })

  it('says which classes mask.txt does not name, and that annotations are broken', async () => {
    const done = await runImport({
      kind: 'slake',
      source: await maskedSource([135], { 'imgs/xmlab1/detection.json': '[{"Liver"' }),
    })
    expect(done.samples[0].meta.mask).toMatchObject({ classes: [{ value: 135, label: null }] })
    expect(notes(done)).toEqual({ mask_class_not_in_mask_txt: 1, detection_unreadable: 1 })
  })
})

describe('iu-xray', () => {
  it("reads R2Gen's annotation, also under a key of spaces", async () => {
    const entry = (id: string, split: string | undefined, images: string[]) => ({
      id,
      report: 'The heart is normal . XXXX lungs are clear .',
      image_path: images,
      ...(split && { split }),
    })
    const views = ['v/0.png', 'v/1.png', 'v/2.png', 'v/3.png', 'v/4.png']
    const source = await sourceOf({
      'annotation.json': {
        train: [entry('CXR1', 'train', views), { ...entry('CXR2', 'train', ['v/0.png']), report: ' ' }],
        val: [entry('CXR3', undefined, ['v/1.png'])],
        '    ': [entry('CXR4', 'test', ['v/0.png', 'v/1.png'])],
      },
      ...Object.fromEntries(views.map((name, index) => [`images/${name}`, index])),
    })
    const done = await runImport({ kind: 'iu-xray', source })
    expect(done.report.counts).toEqual({
      train: { records: 1, closed: 0, open: 1, images: 5 },
      validation: { records: 1, closed: 0, open: 1, images: 1 },
      test: { records: 1, closed: 0, open: 1, images: 2 },
    })
    expect(done.samples[0]).toMatchObject({ task: 'report', id: 'iu-xray-CXR1', answerType: 'open' })
    expect(done.samples[0].images.length).toBe(5)
    expect(notes(done)).toEqual({ redacted_XXXX: 3, split_key_blank: 1 })
    expect(reasons(done)).toEqual([['CXR2', 'empty_text']])
    expect(await readFile(join(done.out, 'LICENSE.md'), 'utf8')).toContain('BY-NC-ND')
  })

  const xml = (findings: string, images: string[], head = '') => `<?xml version="1.0" encoding="utf-8"?>${head}
<eCitation><uId id="CXR9"/><MedlineCitation><Article><Abstract>
<AbstractText Label="INDICATION">Cough &amp; fever, temp &lt; 39</AbstractText>
<AbstractText Label="FINDINGS">${findings}</AbstractText><AbstractText Label="IMPRESSION">1. Normal.</AbstractText>
</Abstract></Article></MedlineCitation><MeSH><major>normal</major></MeSH>
${images.map((id) => `<parentImage id="${id}"><caption>x</caption></parentImage>`).join('')}</eCitation>`

  it('reads Open-i XML, whose images are named inside', async () => {
    const source = await sourceOf({
      'ecgen-radiology/9.xml': xml('Clear &amp; normal.', ['CXR9_IM-1-1001', 'CXR9_IM-1-2001']),
      'ecgen-radiology/10.xml': xml('', ['CXR9_IM-1-1001']).replace('CXR9"', 'CXR10"'),
      'ecgen-radiology/11.xml': xml('Clear.', []).replace('CXR9"', 'CXR11"'),
      'NLMCXR_png/CXR9_IM-1-1001.png': 1,
      'NLMCXR_png/CXR9_IM-1-2001.png': 2,
    })
    const done = await runImport({ kind: 'iu-xray', source })
    expect(done.samples.map(({ id, answer, images }) => [id, answer, images.length])).toEqual([
      ['iu-xray-CXR9', 'Clear & normal.', 2],
    ])
    expect(done.samples[0].meta).toMatchObject({ indication: 'Cough & fever, temp < 39', meshMajor: ['normal'] })
    expect(new Map(done.report.problems.map(({ file, reason }) => [file, reason]))).toEqual(
      new Map([
        ['ecgen-radiology/10.xml', 'empty_text'],
        ['ecgen-radiology/11.xml', 'no_image'],
      ]),
    )
    const both = await runImport({ kind: 'iu-xray', source, section: 'both', allowMissingImages: true })
    expect(both.samples.map(({ answer }) => answer)).toEqual([
      '1. Normal.',
      'Clear.\n1. Normal.',
      'Clear & normal.\n1. Normal.',
    ])
  })

  const laughs = `<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>`
  const outside = '<!DOCTYPE x [<!ENTITY secret SYSTEM "file:///etc/passwd">]>'
  it.each([
    ['entities of its own', xml('&c;', ['i'], laughs), /document type/],
    ['an outside entity', xml('&secret;', ['i'], outside), /document type/],
    ['an entity without a document type', xml('&secret;', ['i']), /entity/],
    ['an element left open', '<eCitation><uId id="CXR9"/>', /unclosed tag/],
    ['deep nesting', '<a>'.repeat(100_000), /too deep/],
    ['nothing', '', /./],
  ])('leaves out XML with %s', async (_what, text, message) => {
    const source = await sourceOf({ '1.xml': text, '2.xml': xml('Clear.', ['i']), 'i.png': 3 })
    const done = await runImport({ kind: 'iu-xray', source })
    expect(done.report.problems).toMatchObject([{ file: '1.xml', reason: 'invalid_markup' }])
    expect(done.report.problems[0].message).toMatch(message)
    expect(done.samples.length).toBe(1)
  })

  it('joins the tables of reports and views', async () => {
    const source = await sourceOf({
      'indiana_reports.csv': `\ufeffuid,MeSH,Problems,image,indication,comparison,findings,impression\r
1,normal,normal,"Xray, PA",pain,,"Clear.\r\nThe ""heart"" is normal.",Normal.\r
2,normal,normal,Xray,pain,,,Normal.\r
3,normal,normal,Xray,pain,,Clear\r
4,normal,normal,Xray,pain,,Clear.,\r
`,
      'indiana_projections.csv':
        'uid,filename,projection\n1,1_a.png,Frontal\n1,1_b.png,Lateral\n2,2.png,Frontal\n7,7.png,Frontal\n',
      'images/images_normalized/1_a.png': 1,
      'images/images_normalized/1_b.png': 2,
    })
    const done = await runImport({ kind: 'iu-xray', source })
    expect(done.samples.map(({ id, answer }) => [id, answer])).toEqual([
      ['iu-xray-1', 'Clear.\r\nThe "heart" is normal.'],
    ])
    expect(done.samples[0].meta.projections).toEqual(['Frontal', 'Lateral'])
    expect(done.report.problems).toMatchObject([
      { record: '2', line: 4, reason: 'empty_text' },
      { line: 5, reason: 'wrong_columns' },
      { record: 'iu-xray-4', line: 6, reason: 'no_image' },
    ])
    expect(notes(done)).toEqual({ views_without_report: 1 })
  })

  it('asks which layout is meant where there are several', async () => {
    const source = await sourceOf({
      'annotation.json': { test: [{ id: 'a', report: 'Clear.', image_path: ['i.png'] }] },
      'ecgen-radiology/1.xml': xml('Clear.', ['i']),
      'i.png': 1,
    })
    await expect(runImport({ kind: 'iu-xray', source })).rejects.toThrow(/more than one layout.*r2gen.*open-i/)
    expect((await runImport({ kind: 'iu-xray', source, layout: 'open-i' })).samples[0].id).toBe('iu-xray-CXR9')
  })
})
