/** A user's own questions, masks and references through every stage: rules judge and edit, and the page shows it all. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseHTML } from 'linkedom'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { decodeImage } from '../../src/data/images.js'
import { writeJsonl } from '../../src/data/jsonl.js'
import type { ProbedQuestion } from '../../src/evaluate/grounding.js'
import type { HiddenAnswers } from '../../src/evaluate/hidden.js'
import type { EvaluationResults } from '../../src/evaluate/index.js'
import { conceptMask, generateStudies } from '../../src/phantom/index.js'
import { loadPipeline, runPipeline } from '../../src/pipeline/index.js'
import { removeScratch, scratchFolder, type Talker, talker } from '../fakes/talker.js'
import { fakeNative, type World, writeWorld } from '../fakes/world.js'
import { sectionTitles } from '../report/fixture.js'
import { makeSample, readLines, writePng, writeRecords } from '../sample/records.js'

afterAll(removeScratch)

const titles = (page: string): string[] =>
  [...parseHTML(page).document.querySelectorAll('h2')].map(({ textContent }) => textContent ?? '')

describe('a pipeline of one’s own', () => {
  let root: string
  let world: Talker

  beforeAll(async () => {
    world = await talker(8, { train: 8, test: 12 })
    root = await scratchFolder()
    const rows: object[] = []
    const masks: object[] = []
    for (const split of ['train', 'test'] as const) {
      for (const study of generateStudies({ seed: 8, split, count: split === 'train' ? 8 : 12 })) {
        const image = `${study.id}.png`
        const ref = await writePng(root, image, study)
        for (const question of study.questions.filter(({ task }) => task === 'vqa')) {
          const { id, question: asked, answer, answerType, concept } = question
          rows.push({ id, image, split, question: asked, answer, answer_type: answerType, concept })
          if (study.findings.every(({ type }) => type !== concept)) continue
          const mask = `${id}-mask.png`
          const grey = conceptMask(study, question).map((inside) => 255 * inside)
          await writePng(root, mask, { ...study, rgb: grey })
          masks.push({ image: ref.sha256, concept, mask })
        }
      }
    }
    await writeJsonl(join(root, 'own.jsonl'), rows)
    await writeJsonl(join(root, 'masks.jsonl'), masks)
    const config = {
      output: 'out',
      model: world.model,
      seed: 8,
      import: { kind: 'jsonl', source: 'own.jsonl' },
      sample: { split: 'train' },
      pairs: {},
      corrupt: { masks: 'masks.jsonl' },
      train: { lora: { rank: 4, alpha: 8 }, batchSize: 4, epochs: 1 },
      evaluate: {
        ...{ split: 'test', masks: 'masks.jsonl' },
        ...{ attentionQuestions: 6, hideLesions: ['lesion-noise-elsewhere', 'lesion-blackout'] },
      },
      report: { title: 'My questions', notes: ['They are about <chests>.'] },
    }
    await writeFile(join(root, 'pipeline.yaml'), stringify(config))
    await runPipeline(await loadPipeline(join(root, 'pipeline.yaml'), []), { native: world.native })
  })

  it('has a page with every part', async () => {
    const page = await readFile(join(root, 'out', 'report.html'), 'utf8')
    expect(titles(page)).toEqual(sectionTitles.filter((title) => title !== 'Rounds'))
    const text = parseHTML(page).document.querySelector('main')?.textContent
    expect(text).toContain('My questions: FiRe-MPO')
    expect(text).toContain('They are about <chests>.')
    expect(text).toContain('judged by rule against the reference answer')
    expect(text).toContain('On so few questions only a large effect can be told from chance.')
    expect(text).not.toMatch(/NaN|undefined/)
  })

  it('asks again with noise beside the lesion, which stays in view, about the same questions', async () => {
    const folder = join(root, 'out', 'evaluate')
    const lines = await readLines<HiddenAnswers>(join(folder, 'hidden.jsonl'))
    const asked = (method: string) => lines.filter((line) => line.method === method).map(({ sampleId }) => sampleId)
    expect(asked('lesion-noise-elsewhere')).toEqual(asked('lesion-blackout'))
    expect(asked('lesion-blackout').length).toBeGreaterThan(0)
    for (const { method, image, twin, mask } of lines.filter(({ method }) => method !== 'lesion-blackout')) {
      expect(method).toBe('lesion-noise-elsewhere')
      const [clean, noisy, lesion] = await Promise.all(
        [image, twin, { path: mask }].map(({ path }) => decodeImage(join(folder, path))),
      )
      const changed = noisy.rgb.filter((value, at) => value !== clean.rgb[at]).length
      const inside = lesion.rgb.filter((value) => value > 0).length
      expect(lesion.rgb.some((value, at) => value > 0 && noisy.rgb[at] !== clean.rgb[at])).toBe(false)
      expect(changed).toBeGreaterThan(0.5 * inside)
      expect(changed).toBeLessThanOrEqual(inside)
    }
  })

  it('probes attention at the words that decide, where there is a lesion to look at', async () => {
    const folder = join(root, 'out', 'evaluate')
    const probed = await readLines<ProbedQuestion>(join(folder, 'attention.jsonl'))
    expect(probed).toHaveLength(6)
    const results: EvaluationResults = JSON.parse(await readFile(join(folder, 'evaluation.json'), 'utf8'))
    expect(results).toMatchObject({ judging: { first: 'rules', judge: null }, attention: { count: 6 } })
    const studies = new Map(generateStudies({ seed: 8, split: 'test', count: 12 }).map((study) => [study.id, study]))
    for (const { sampleId, answer, span, before, after } of probed) {
      const study = studies.get(sampleId.replace(/-q\d+$/, ''))
      const { concept } = study!.questions.find(({ id }) => id === sampleId)!
      expect(study!.findings.map(({ type }) => type)).toContain(concept)
      expect(answer.slice(...span)).toMatch(/^(Yes|No|left|right|upper|middle|lower|small|large)$/)
      expect(before.values).toHaveLength(before.rows * before.columns)
      expect(after.values).not.toEqual(before.values)
    }
  })
})

describe('a report of what there is', () => {
  let world: World
  const run = async (name: string, sections: object): Promise<string> => {
    const path = join(world.root, `${name}.yaml`)
    await writeFile(path, stringify({ output: name, model: 'model', ...sections, report: {} }))
    await runPipeline(await loadPipeline(path, []), { native: fakeNative() })
    return readFile(join(world.root, name, 'report.html'), 'utf8')
  }
  const train = { data: { train: 'pairs.jsonl' }, batchSize: 4, epochs: 1 }

  beforeAll(async () => {
    world = await writeWorld(8)
    const samples = world.records.map(({ id, images, prompt }) => makeSample(id, { images, question: prompt }))
    await writeRecords(join(world.root, 'samples.jsonl'), samples)
  })

  it('shows training and pairs that were given', async () => {
    expect(titles(await run('trained', { train }))).toEqual(['The method', 'Training', 'Pairs', 'What was run'])
  })

  it('shows an evaluation without attention', async () => {
    expect(titles(await run('judged', { train, evaluate: { samples: 'samples.jsonl' } }))).toEqual([
      'The method',
      'Accuracy on the held-out questions',
      'Training',
      'Pairs',
      'What was run',
    ])
  })

  it('is refused where there is nothing', async () => {
    await expect(run('nothing', { sample: { samples: 'samples.jsonl' } })).rejects.toThrow(/nothing to show/)
  })
})
