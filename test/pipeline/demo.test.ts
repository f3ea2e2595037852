/** The bundled demo, a pipeline like any other: on an engine that talks of the phantom world, and on the real one. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { parseHTML } from 'linkedom'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { decodeImage } from '../../src/data/images.js'
import { loadPairs } from '../../src/data/pairs.js'
import type { Response, Sample } from '../../src/data/records.js'
import type { NativeModule } from '../../src/engine/engine.js'
import type { HiddenAnswers } from '../../src/evaluate/hidden.js'
import { type EvaluationResults, readEvaluation, type VerdictRecord } from '../../src/evaluate/index.js'
import { judge, readTruth } from '../../src/phantom/index.js'
import { loadPipeline, type PipelineReport, runPipeline } from '../../src/pipeline/index.js'
import { say, server } from '../endpoint/world.js'
import { removeScratch, scratchFolder, type Talker, talker } from '../fakes/talker.js'
import { sectionTitles } from '../report/fixture.js'
import { readLines } from '../sample/records.js'

const at = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url))
const execute = promisify(execFile)
const small = ['import.trainStudies=6', 'import.testStudies=12', 'evaluate.attentionQuestions=5']

async function run(
  out: string,
  settings: string[],
  native?: NativeModule,
  signal?: AbortSignal,
): Promise<PipelineReport> {
  const pipeline = await loadPipeline(at('models/phantom/demo.yaml'), [`output=${out}`, ...small, ...settings])
  return runPipeline(pipeline, { native, signal })
}

const reasons = ({ stages }: PipelineReport) => stages.map(({ name, reason }) => [name, reason])
const names = ['import', 'sample', 'pairs', 'corrupt', 'train', 'evaluate', 'report']

afterAll(removeScratch)

describe('the demo', () => {
  let world: Talker
  let out: string
  let settings: string[]

  beforeAll(async () => {
    world = await talker(3, { train: 6, test: 12 })
    out = join(await scratchFolder(), 'demo')
    settings = ['seed=3', 'train.lora.rank=4', `model=${world.model}`]
    expect((await run(out, settings, world.native)).stages.map(({ name }) => name)).toEqual(names)
  })

  it('opens an engine to sample, one to train and one to evaluate', () => {
    expect(world.opened).toBe(3)
  })

  it('leaves pairs that other commands read, with the model’s own words on one side', async () => {
    const { pairs, counts } = await loadPairs(join(out, 'corrupt', 'pairs.jsonl'), { emptyPhrase: 'error' })
    expect(counts.read).toBeGreaterThan(10)
    expect(counts).toMatchObject({ kept: counts.read, identical: 0, withoutCorrupted: 0, corruptedSameAsClean: 0 })
    const responses = (await readLines(join(out, 'sample', 'responses.jsonl'))) as Response[]
    const said = new Map(responses.map(({ sampleId, text }) => [sampleId, text]))
    const samples = (await readLines(join(out, 'import', 'samples.jsonl'))) as Sample[]
    const truths = new Map(samples.map(({ id, meta }) => [id, readTruth(meta)]))
    for (const pair of pairs) {
      expect(pair[pair.origin === 'repaired' ? 'rejected' : 'chosen']).toBe(said.get(pair.sampleId))
      const truth = truths.get(pair.sampleId)!
      expect([judge(truth, pair.chosen).correct, judge(truth, pair.rejected).correct]).toEqual([true, false])
    }
  })

  it('puts noise under the mask of what is asked, and nowhere else', async () => {
    const { pairs } = await loadPairs(join(out, 'corrupt', 'pairs.jsonl'), { emptyPhrase: 'error' })
    const masked = pairs.filter(({ corrupted }) => corrupted?.masks.length === 1)
    expect(masked.length).toBeGreaterThan(0.9 * pairs.length)
    for (const { images, corrupted } of masked.slice(0, 10)) {
      const files = [images[0].path, corrupted!.images[0].path, corrupted!.masks[0]]
      const [clean, noisy, mask] = await Promise.all(files.map((path) => decodeImage(join(out, 'corrupt', path))))
      const changed = clean.rgb.map((value, i) => (value === noisy.rgb[i] ? 0 : 1))
      expect(changed.some(Boolean)).toBe(true)
      expect(changed.every((change, i) => !change || mask.rgb[i] === 255)).toBe(true)
    }
  })

  it('concludes from the numbers, in results and page alike', async () => {
    const lines = (await readLines(join(out, 'evaluate', 'verdicts.jsonl'))) as unknown as VerdictRecord[]
    const results = await readEvaluation(join(out, 'evaluate'))
    const right = (name: string) =>
      lines.filter(({ system, verdict }) => system === name && verdict === 'correct').length
    const [{ groups, conclusion }] = results.comparisons
    const { bothRight, lost, gained } = groups[0].counts
    expect([bothRight + lost, bothRight + gained]).toEqual([right('base'), right('train')])
    expect(groups.slice(0, 3).map(({ name }) => name)).toEqual(['overall', 'closed', 'open'])
    expect(results).toMatchObject({ judging: { first: 'truth' }, leakage: { seen: 0 }, attention: { count: 5 } })
    const { document } = parseHTML(await readFile(join(out, 'report.html'), 'utf8'))
    // The demo trains once.
    expect([...document.querySelectorAll('h2')].map(({ textContent }) => textContent)).toEqual(
      sectionTitles.filter((title) => title !== 'Rounds'),
    )
    expect(document.querySelector('h1')?.textContent).toBe('fire-train demo: FiRe-MPO')
    // Twelve images are too few for an interval by image, and so for a conclusion, however small p is.
    expect([conclusion, groups[0].mcnemar.exact < 0.001]).toEqual(['not_resolved', true])
    expect(document.querySelector('.verdict')?.textContent).toBe('A change in accuracy is not resolved')
    // Six pairs, clean and noisy; three questions, in view and hidden twice; four probes, each as image, before and after.
    expect(document.querySelectorAll('svg.picture').length).toBe(6 * 2 + 3 * 3 + 4 * 3)
    const text = document.querySelector('main')?.textContent
    for (const shown of ['1/7 import', 'NaN', 'undefined']) expect(text).not.toContain(shown)
    for (const shown of ['import', 'evaluate', 'name: fire', 'LoRA rank 4', 'seed 3']) expect(text).toContain(shown)
  })

  it('asks again with the lesion hidden where there is one, and nothing else is hidden', async () => {
    const results: EvaluationResults = JSON.parse(await readFile(join(out, 'evaluate', 'evaluation.json'), 'utf8'))
    expect(results.hidden.map(({ method, sigma }) => [method, sigma])).toEqual([
      ['lesion-noise', 90],
      ['lesion-blackout', 0],
    ])
    const lines = (await readLines(join(out, 'evaluate', 'hidden.jsonl'))) as unknown as HiddenAnswers[]
    const samples = (await readLines(join(out, 'import', 'samples.jsonl'))) as Sample[]
    const truths = new Map(samples.map(({ id, meta }) => [id, readTruth(meta)]))
    for (const { method, hidden, visible } of results.hidden) {
      const own = lines.filter((line) => line.method === method)
      expect(own.length).toBeGreaterThan(20)
      const right = (view: 'hidden' | 'visible') => own.filter((line) => line[view].after.correct).length
      const counted = [hidden, visible].map(({ groups: [{ counts }] }) => counts.bothRight + counts.gained)
      expect(counted).toEqual([right('hidden'), right('visible')])
      expect([hidden, visible].map(({ groups: [{ count }] }) => count)).toEqual([own.length, own.length])
    }
    for (const { method, sampleId, image, twin, mask, hidden } of lines) {
      const { ask, findings } = truths.get(sampleId)!
      expect(ask.intent !== 'report' && findings.some(({ type }) => type === ask.finding)).toBe(true)
      expect(hidden.after.correct).toBe(judge(truths.get(sampleId)!, hidden.after.text).correct)
      const paths = [image.path, twin.path, mask].map((path) => decodeImage(join(out, 'evaluate', path)))
      const [clean, changed, inside] = (await Promise.all(paths)).map(({ rgb }) => rgb)
      expect(changed.every((value, i) => inside[i] === 255 || value === clean[i])).toBe(true)
      if (method === 'lesion-blackout') expect(changed.every((value, i) => inside[i] === 0 || value === 0)).toBe(true)
    }
  })

  it('hides nothing where answers stay the same, whoever judges those in view', async () => {
    // What is said here does not depend on the lesion, and the judge finds every answer in view wrong.
    server.answer = (response) => say(response, '{"verdict":"incorrect","reason":"no"}')
    const judge = [
      'truth=null',
      `judge.url=${server.url}/v1`,
      'judge.model=m',
      'judgeOn=all',
      'hideLesions=[lesion-blackout]',
      'hiddenSigma=45',
    ]
    const elsewhere = join(await scratchFolder(), 'demo')
    await run(elsewhere, [...settings, ...judge.map((each) => `evaluate.${each}`)], world.native)
    const { hidden, systems, comparisons } = await readEvaluation(join(elsewhere, 'evaluate'))
    expect(systems.map(({ groups }) => groups[0].accuracy.successes)).toEqual([0, 0])
    expect(comparisons[0].groups[0].counts).toMatchObject({ gained: 0, lost: 0 })
    const [{ visible, hidden: away, fall }] = hidden
    expect(visible.groups[0].counts.bothRight).toBeGreaterThan(0)
    expect(away.groups[0].counts).toEqual(visible.groups[0].counts)
    expect([fall.before.value, fall.after.value, fall.change.value]).toEqual([0, 0, 0])
  })

  it('does nothing twice, runs again for another seed, and comes out the same', { timeout: 90_000 }, async () => {
    const opened = world.opened
    const pairs = await readFile(join(out, 'corrupt', 'pairs.jsonl'))
    const page = await readFile(join(out, 'report.html'))
    expect(reasons(await run(out, settings, world.native))).toEqual(names.map((name) => [name, null]))
    expect(world.opened).toBe(opened)
    expect(await readFile(join(out, 'report.html'))).toEqual(page)
    const other = await talker(4, { train: 6, test: 12 })
    const again = await run(out, ['seed=4', 'train.lora.rank=4', `model=${other.model}`], other.native)
    expect(again.stages.every(({ reason }) => reason !== null)).toBe(true)
    expect(await readFile(join(out, 'corrupt', 'pairs.jsonl'))).not.toEqual(pairs)
    await run(out, settings, world.native)
    expect(await readFile(join(out, 'corrupt', 'pairs.jsonl'))).toEqual(pairs)
  })

  it.each(['dpo', 'sft', 'mdpo'])('runs with the objective %s, on the same pairs', async (objective) => {
    const again = await run(out, [...settings, `train.objective.name=${objective}`], world.native)
    expect(reasons(again).slice(0, 5)).toEqual([
      ...names.slice(0, 4).map((name) => [name, null]),
      ['train', 'its settings changed'],
    ])
    expect(await readFile(join(out, 'report.html'), 'utf8')).toContain(`fire-train demo: ${objective}`)
  })

  it('goes on where it was stopped', async () => {
    const folder = join(await scratchFolder(), 'demo')
    const controller = new AbortController()
    world.onGenerate = () => {
      if (existsSync(join(folder, 'evaluate', 'answers', 'base.responses.jsonl'))) controller.abort()
    }
    const stopped = await run(folder, settings, world.native, controller.signal)
    world.onGenerate = undefined
    expect(stopped.interrupted).toBe('evaluate')
    expect(reasons(await run(folder, settings, world.native)).slice(4)).toEqual([
      ['train', null],
      ['evaluate', 'it was cut off'],
      ['report', 'it never ran'],
    ])
    await run(out, settings, world.native)
    const results = (root: string) => countedIn(join(root, 'evaluate'))
    expect(await results(folder)).toBe(await results(out))
  })
})

/** evaluation.json but for its time. */
async function countedIn(folder: string): Promise<string> {
  const { made, ...counted } = JSON.parse(await readFile(join(folder, 'evaluation.json'), 'utf8'))
  expect(Date.parse(made.at)).toBeGreaterThan(0)
  return JSON.stringify(counted)
}

const ready = existsSync(at('build/Release/fire.node')) && existsSync(at('models/phantom/model.safetensors'))

/** Everything real: the addon, the bundled model, training and report. */
describe.skipIf(!ready)('the demo on the real engine', () => {
  it('starts from a policy that equals its reference, learns, and does the same again', {
    timeout: 120_000,
  }, async () => {
    const runs = []
    for (const threads of [1, 2]) {
      const out = join(await scratchFolder(), 'demo')
      await run(out, ['seed=5', `threads=${threads}`, 'import.testStudies=6', 'evaluate.attentionQuestions=3'])
      const metrics = (await readLines(join(out, 'train', 'metrics.jsonl'))) as unknown as { loss: number }[]
      const report = JSON.parse(await readFile(join(out, 'pairs', 'pairs.report.json'), 'utf8'))
      runs.push({
        acceptance: report.acceptance,
        losses: metrics.map(({ loss }) => loss),
        pairs: await readFile(join(out, 'corrupt', 'pairs.jsonl'), 'utf8'),
        results: await countedIn(join(out, 'evaluate')),
        attention: await readFile(join(out, 'evaluate', 'attention.jsonl'), 'utf8'),
      })
    }
    const [first, second] = runs
    expect(first.acceptance).toBeGreaterThan(0.9)
    // ln 2 of the text term and gamma ln 2 of the visual one: policy and reference are still the same.
    expect(first.losses[0]).toBeCloseTo(1.1 * Math.LN2, 5)
    expect(first.losses.at(-1)).not.toBe(first.losses[0])
    expect(second).toEqual(first)
  })

  it('is a command that says what came out, and does nothing twice', { timeout: 120_000 }, async () => {
    const out = join(await scratchFolder(), 'demo')
    const command = () => execute(process.execPath, [at('dist/cli/main.js'), 'demo', '--quick', '--out', out])
    const { stdout } = await command()
    expect(stdout).toContain(`report: ${join(out, 'report.html')}`)
    expect(stdout).toMatch(/^overall +\d+ +\d+\.\d \[/m)
    expect(stdout).toMatch(/^A change in accuracy is not resolved: .* became right/m)
    const again = (await command()).stdout
    expect(again.match(/\(unchanged\)$/gm)).toHaveLength(names.length)
    expect(again.split('\n\n').slice(1)).toEqual(stdout.split('\n\n').slice(1))
  })
})
