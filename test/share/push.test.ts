/** `fire-train push`: what it shows, what it sends, what it says of a run, and what it keeps to itself. */
import { cp, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse, stringify } from 'yaml'
import { hashModel } from '../../src/data/files.js'
import { writeMergedFrom } from '../../src/data/merged.js'
import type { ModelInfo } from '../../src/engine/engine.js'
import { evaluateStage } from '../../src/evaluate/stage.js'
import { loadPipeline, runPipeline } from '../../src/pipeline/index.js'
import { modelCard } from '../../src/share/card.js'
import { planShipment } from '../../src/share/push.js'
import { readAbout } from '../../src/share/run.js'
import { silent } from '../../src/stage/progress.js'
import { checkSettings } from '../../src/stage/stage.js'
import { counted } from '../../src/text/plural.js'
import type { Example } from '../../src/train/collate.js'
import { resolveTrainConfig } from '../../src/train/config.js'
import { shareOf } from '../../src/train/held-out.js'
import { train } from '../../src/train/train.js'
import { runCommand } from '../command.js'
import { fakeNative, type World, writeWorld } from '../fakes/world.js'
import { WritableHub } from '../hub/writable.js'
import { makeSample, writeRecords } from '../sample/records.js'

const repo = 'clinic/chest-adapter'
const token = 'hf_4711471147114711'
let world: World
let run: string
let evaluation: string
let hub: WritableHub

beforeAll(async () => {
  world = await writeWorld(12)
  hub = await WritableHub.start()
  const samples = world.records.map(({ id, images, prompt }) => makeSample(id, { images, question: prompt }))
  await writeRecords(join(world.root, 'samples.jsonl'), samples)
  const config = {
    ...{ output: 'out', model: 'model' },
    train: { data: { train: 'pairs.jsonl' }, batchSize: 4, epochs: 1, lora: { rank: 3 } },
    evaluate: { samples: 'samples.jsonl', limit: 6 },
  }
  await writeFile(join(world.root, 'p.yaml'), stringify(config))
  await runPipeline(await loadPipeline(join(world.root, 'p.yaml')), { native: fakeNative() })
  run = join(world.root, 'out', 'train')
  evaluation = join(world.root, 'out', 'evaluate')
})
afterAll(() => hub.close())

const plan = (changes: object = {}) => planShipment({ folder: run, repo, baseModel: 'clinic/base', ...changes })

const push = (...words: string[]) =>
  runCommand(['push', ...words], { env: { HF_ENDPOINT: hub.endpoint, HF_TOKEN: token } })

describe('the command', () => {
  it('shows everything and asks nobody, sends it with --send, and does not send it twice', async () => {
    const words = [run, repo, '--base-model', 'clinic/base', '--evaluation', evaluation, '--license', 'apache-2.0']
    const shown = await push(...words)
    expect(shown).toMatchObject({ code: 0, stderr: '' })
    expect(hub.asked).toEqual([])
    expect(shown.stdout).toContain('Nothing was sent. --send sends it.')
    const { card, files } = await plan({ evaluation, license: 'apache-2.0' })
    expect(shown.stdout).toContain(card)
    for (const { path, sha256 } of files) expect(shown.stdout).toMatch(new RegExp(`^${path} .*${sha256}$`, 'm'))

    const sent = await push(...words, '--send')
    expect(sent.code).toBe(0)
    expect(sent.stdout).toBe(`${hub.endpoint}/${repo} at ${sent.stdout.match(/[0-9a-f]{40}/)}\n3 files of 3 sent\n`)
    expect(hub.repo).toEqual({ name: repo, visibility: 'private' })
    expect([...hub.files.keys()].sort()).toEqual(['README.md', 'adapter_config.json', 'adapter_model.safetensors'])
    expect(hub.files.get('README.md')?.toString()).toBe(card)
    const again = await push(...words, '--send')
    expect(again.stdout).toContain('0 files of 3 sent')
    expect(hub.commits).toHaveLength(2)
    for (const { stdout, stderr } of [shown, sent, again]) expect(stdout + stderr).not.toContain(token)
  })

  it('names the base model on the hub, and no folder of this machine', async () => {
    const { base_model_name_or_path, ...config } = JSON.parse(hub.files.get('adapter_config.json')?.toString() ?? '')
    expect(base_model_name_or_path).toBe('clinic/base')
    const local = JSON.parse(await readFile(join(run, 'adapter', 'adapter_config.json'), 'utf8'))
    expect(config).toEqual({ ...local, base_model_name_or_path: undefined })
    for (const [path, content] of hub.files) expect(content.includes(world.root), path).toBe(false)
  })
})

describe('the card', () => {
  it('says where it comes from in fields that the hub reads', async () => {
    const { card } = await plan({ license: 'mit' })
    expect(parse(card.split('---\n')[1])).toMatchObject({
      license: 'mit',
      base_model: 'clinic/base',
      base_model_relation: 'adapter',
      library_name: 'peft',
      tags: expect.arrayContaining(['lora', 'fire']),
    })
    expect(parse((await plan()).card.split('---\n')[1]).license).toBeUndefined()
  })

  it('has data, settings, accuracy with intervals and limits', async () => {
    const { card } = await plan({ evaluation })
    expect(card.match(/^## .*$/gm)).toEqual(['## Data', '## Training', '## Evaluation', '## Limits', '## Use'])
    expect(card).toContain('**This is not a medical device.**')
    expect(card).toContain('- 12 pairs of 12 were used.')
    expect(card).toContain('| LoRA | rank 3, alpha ')
    // The engine of the test repeats its prompt, so nothing is right.
    expect(card).toContain('| All questions | 0.0 [0.0, 39.0], 0/6 | 0.0 [0.0, 39.0], 0/6 |')
    expect(card).toContain('6 of the questions are about images that were trained on.')
    expect(card).toContain('- 6 questions can show large effects only.')
    // vLLM takes no rank between 1 and 8.
    expect(card).toContain(`vllm serve clinic/base --enable-lora --max-lora-rank 8 --lora-modules tuned=${repo}`)
  })

  it('is of the best adapter where the run kept one, with the steps and the pairs behind it', async () => {
    const output = join(world.root, 'best-run')
    const images = new Set(world.records.map(({ images: [{ sha256 }] }) => sha256))
    const places = [...images].map((image) => shareOf([{ input: { images: [image] } } as Example]))
    const [first, second] = places.sort((a, b) => a - b)
    const settings = {
      ...{ model: world.model, output, batchSize: 4, epochs: 2, evalEvery: 1, seed: 1 },
      data: { train: world.pairs, evalShare: (first + second) / 2 },
      lora: { init: join(run, 'adapter') },
      checkpoint: { best: 'eval_logps/chosen' },
    } as const
    const report = await train(resolveTrainConfig(settings), { native: fakeNative() })
    const { folder, card } = await plan({ folder: output })
    expect(folder).toBe(join(output, 'best'))
    const steps = report.best?.step ?? 0
    expect(card).toContain(
      `- Trained in 2 runs, each from the adapter of the one before: 12 pairs of 12 in 3 steps; ${12 - report.heldOut} pairs of 12 in ${counted(steps, 'step')}.`,
    )
    expect(card).toContain(`| run | the last of 2, which took ${3 + steps} steps together |`)
    // One file, read by both.
    expect(card).toContain('- The file of the pairs is about ')
    expect(card).toContain(`| steps | ${steps} of ${report.totalSteps}, 4 pairs each |`)
    const last = await plan({ folder: join(output, 'adapter') })
    expect(last.card).toContain(`| steps | ${report.step} of ${report.totalSteps}, 4 pairs each |`)

    // An evaluation calls it by its run, not `best`.
    const out = join(world.root, 'best-evaluation')
    const asked = { samples: join(world.root, 'samples.jsonl'), model: world.model, adapter: folder, limit: 2, out }
    const evaluated = checkSettings(evaluateStage, asked, () => undefined)
    await evaluateStage.run(evaluated, { progress: silent, native: fakeNative() })
    expect((await plan({ folder: output, evaluation: out })).card).toContain(
      '| correct, % [95 %], n | base | best-run-best |',
    )

    // A run that diverged after its best step: the last adapter is refused, of the best one this is said.
    const path = join(output, 'train.json')
    const complete = await readFile(path, 'utf8')
    await writeFile(path, JSON.stringify({ ...report, problem: 'the loss diverged' }))
    const said = `Training run 2 of 2 ended with a problem: the loss diverged. Its adapter of step ${steps} is what was taken.`
    const diverged = await plan({ folder: output })
    expect(diverged.card).toContain(`**${said}**`)
    expect(diverged.problems).toEqual([said])
    const shown = await push(output, repo, '--base-model', 'clinic/base')
    expect(shown.stderr).toContain(`warning: ${said}`)

    // Another adapter at the place of the first: nobody knows what that one was trained on.
    await writeFile(path, complete)
    expect((await plan({ folder: output })).problems).toEqual([])
    const config = join(run, 'adapter', 'adapter_config.json')
    const own = await readFile(config, 'utf8')
    await writeFile(config, `${own}\n`)
    const { card: alone } = await plan({ folder: output })
    await writeFile(config, own)
    expect(alone).toContain(`- ${12 - report.heldOut} pairs of 12 were used.`)
    expect(alone).toContain(
      '- Training began with another adapter, loaded or merged into the model; what that one was trained on is not known',
    )
  })

  it('knows adapters of the run that were moved, merged or deleted since', async () => {
    const output = join(world.root, 'tidied')
    const settings = {
      ...{ model: world.model, output, batchSize: 4, epochs: 1, evalEvery: 1 },
      data: { train: world.pairs, eval: world.pairs },
      checkpoint: { best: 'eval_logps/chosen' },
    } as const
    await train(resolveTrainConfig(settings), { native: fakeNative() })
    const last = join(output, 'adapter')
    const card = (await plan({ folder: last })).card
    await rm(join(output, 'best'), { recursive: true })
    expect((await plan({ folder: last })).card).toBe(card)

    const merged = join(world.root, 'tidied-merged')
    await cp(world.model, merged, { recursive: true })
    await writeFile(join(merged, 'model.safetensors'), '')
    await writeMergedFrom(merged, { adapterSha256: await hashModel(last) })
    const moved = join(world.root, 'moved')
    await rename(last, moved)
    expect((await plan({ folder: moved, run: output })).card).toBe(card)
    expect((await plan({ folder: merged, run: output })).card).toContain('- 12 pairs of 12 were used.')

    // A report of an earlier build has no hashes: what is gone cannot be known again.
    const path = join(output, 'train.json')
    const report = JSON.parse(await readFile(path, 'utf8'))
    const { sha256: _, ...best } = report.best
    await writeFile(path, JSON.stringify({ ...report, adapterSha256: undefined, best }))
    await expect(plan({ folder: moved, run: output })).rejects.toThrow(
      `the run ${output} has another: ${join(output, 'best')}, now gone, ${last}, now gone`,
    )
  })

  it('has numbers of the adapter that is sent and of its baseline, and of no other', async () => {
    const folder = join(world.root, 'out', 'several')
    await cp(evaluation, folder, { recursive: true })
    const path = join(folder, 'evaluation.json')
    const results = JSON.parse(await readFile(path, 'utf8'))
    const [base, tuned] = results.systems
    const other = { ...tuned, name: 'other', about: { ...tuned.about, adapterSha256: 'f'.repeat(64) } }
    const comparisons = [...results.comparisons, { ...results.comparisons[0], system: 'other' }]
    await writeFile(path, JSON.stringify({ ...results, systems: [base, tuned, other], comparisons }))
    expect((await plan({ evaluation: folder })).card).toBe((await plan({ evaluation })).card)

    await writeFile(path, JSON.stringify({ ...results, systems: [base, other] }))
    const sent = join(run, 'adapter')
    await expect(plan({ evaluation: folder })).rejects.toMatchObject({
      code: 'ERR_FIRE_CHECKPOINT',
      message: `The evaluation ${folder} is of ${sent} with SHA-256 ${other.about.adapterSha256}, not of ${sent} with SHA-256 ${tuned.about.adapterSha256}`,
      hint: expect.stringContaining('evaluate --adapter'),
    })
    // What a server answered with is not known, whoever started it.
    const about = { kind: 'server', model: 'tuned', url: 'http://localhost:8000/v1' }
    await writeFile(path, JSON.stringify({ ...results, systems: [base, { ...tuned, name: 'served', about }] }))
    await expect(plan({ evaluation: folder })).rejects.toThrow(
      `${folder} has no adapter with a hash, so nothing shows that it is of ${sent} with SHA-256 ${tuned.about.adapterSha256}; its systems: base (model), served (server)`,
    )
  })

  it('says that nothing is known of an accuracy that was not measured', async () => {
    expect((await plan()).card).toContain('nothing is known of its accuracy')
  })

  it('sets counts apart from what they count, and rounds what 32 bits made of a setting', async () => {
    const about = await readAbout({ kind: 'adapter', folder: join(run, 'adapter') }, undefined, evaluation)
    const { training, pairs } = about
    const lora = { ...training.report.model.lora, rank: 3, dropout: Math.fround(0.05) }
    const report = { ...training.report, model: { ...training.report.model, lora } as ModelInfo }
    const twins = { 'lesion-noise, σ 45': 259, 'image-noise, σ 12': 20 }
    const changed = { ...about, training: { ...training, report }, pairs: pairs && { ...pairs, twins } }
    const card = modelCard({ kind: 'adapter' }, changed, { repo, baseModel: 'clinic/base' })
    expect(card).toContain('- Images with the evidence hidden: lesion-noise, σ 45 (259); image-noise, σ 12 (20).')
    expect(card).toMatch(/^\| LoRA .* dropout 0\.05 \|$/m)
    expect(card).toContain('by answer\\_type, as the data set says, else by the rule of the import |')
  })

  it('is the one that is given instead', async () => {
    const own = join(world.root, 'card.md')
    await writeFile(own, '# Mine\n')
    expect(await plan({ card: own })).toMatchObject({
      card: '# Mine\n',
      files: [{ path: 'README.md', size: 7 }, {}, {}],
    })
  })

  it('makes no markup of what files say', async () => {
    const folder = join(world.root, 'hostile')
    await cp(evaluation, folder, { recursive: true })
    const path = join(folder, 'evaluation.json')
    const text = await readFile(path, 'utf8')
    await writeFile(path, text.replaceAll('"base"', '"<script>|[x](y)"'))
    const { card } = await plan({ evaluation: folder })
    expect(card).not.toContain('<script>')
    expect(card).toContain('&lt;script&gt;\\|\\[x\\](y)')
  })
})

describe('a merged model', () => {
  it('goes with what loaders read, and without the rest', async () => {
    const folder = join(world.root, 'merged')
    await cp(world.model, folder, { recursive: true })
    await writeMergedFrom(folder, { adapterSha256: await hashModel(join(run, 'adapter')) })
    for (const name of ['model.safetensors', 'chat_template.jinja', 'README.md', 'notes.txt', 'LICENSE']) {
      await writeFile(join(folder, name), name)
    }
    const { kind, files, leftOut, card } = await plan({ folder, run })
    const names = files.map(({ path }) => path)
    expect(kind).toBe('model')
    expect(names).toEqual(
      expect.arrayContaining(['README.md', 'config.json', 'model.safetensors', 'chat_template.jinja', 'LICENSE']),
    )
    expect(leftOut).toEqual(expect.arrayContaining(['README.md', 'fire-train.merge.json', 'notes.txt']))
    expect(card).toContain('base_model_relation: finetune')
    expect(card).toContain(`vllm serve ${repo}\n`)
    await expect(plan({ folder })).rejects.toThrow(/in no training run.*nothing to write its card from/)
    expect((await plan({ folder, run, evaluation })).card).toContain('| All questions | ')
  })

  it('that was trained on is counted as something that is not known', async () => {
    const base = join(world.root, 'merged-base')
    await cp(world.model, base, { recursive: true })
    await writeMergedFrom(base, { adapterSha256: await hashModel(join(run, 'adapter')) })
    const output = join(world.root, 'on-merged')
    const settings = { model: base, output, data: { train: world.pairs }, maxSteps: 1 }
    await train(resolveTrainConfig(settings), { native: fakeNative() })
    const said = '- Training began with another adapter, loaded or merged into the model; what that one was trained on'
    const { card } = await plan({ folder: output })
    expect(card).toContain(said)
    // It is the run that knows, not a folder that may be another by now; reports of earlier builds do not have it.
    await rm(join(base, 'fire-train.merge.json'))
    expect((await plan({ folder: output })).card).toBe(card)
    const path = join(output, 'train.json')
    const report = JSON.parse(await readFile(path, 'utf8'))
    await writeFile(path, JSON.stringify({ ...report, mergedSha256: undefined }))
    expect((await plan({ folder: output })).card).not.toContain(said)
    await writeMergedFrom(base, { adapterSha256: report.mergedSha256 })
    expect((await plan({ folder: output })).card).toBe(card)
  })

  it('is of the run that made its adapter, or is refused', async () => {
    const folder = join(world.root, 'merged-other')
    await cp(world.model, folder, { recursive: true })
    await writeFile(join(folder, 'model.safetensors'), '')
    await expect(plan({ folder, run })).rejects.toMatchObject({
      code: 'ERR_FIRE_CHECKPOINT',
      message: `Nothing in ${folder} says which adapter was merged into it, so it cannot be checked`,
      hint: expect.stringContaining('Merge again'),
    })
    const adapterSha256 = 'f'.repeat(64)
    await writeMergedFrom(folder, { adapterSha256 })
    const own = join(run, 'adapter')
    await expect(plan({ folder, run })).rejects.toThrow(
      `${folder} has an adapter with SHA-256 ${adapterSha256}, and the run ${run} has another: ${own} with SHA-256 ${await hashModel(own)}`,
    )
    const record = join(folder, 'fire-train.merge.json')
    await writeFile(record, '{}')
    await expect(plan({ folder, run })).rejects.toThrow(`${record} does not say what the model was merged from`)
  })
})

describe('push', () => {
  it.each<[string, object, RegExp]>([
    ['a name without an owner', { repo: 'adapter' }, /Expected OWNER\/NAME for the repository but received 'adapter'/],
    ['a base that is none', { baseModel: '/models/x' }, /Expected OWNER\/NAME for the base model/],
    ['a base that nothing names', { baseModel: undefined }, /Nothing says where .* is on the hub/],
  ])('refuses %s', async (_, changes, message) => {
    await expect(plan(changes)).rejects.toThrow(message)
  })

  it('refuses a folder that is neither, and an adapter that taught nothing', async () => {
    const folder = join(world.root, 'neither')
    await mkdir(folder)
    await expect(plan({ folder })).rejects.toThrow(/neither an adapter nor a model folder/)
    await expect(plan({ folder: join(world.root, 'out') })).rejects.toMatchObject({
      hint: `It holds training runs. Name one: ${run}`,
    })
    const problem = join(run, 'adapter', 'problem.json')
    await writeFile(problem, '{"problem": "its loss diverged"}')
    await expect(plan()).rejects.toThrow(/is not to be used: its loss diverged/)
    await rm(problem)
  })

  it('knows the base where `pull` wrote down where it had it from', async () => {
    const manifest = {
      repo: 'Qwen/Base',
      revision: 'main',
      commit: 'a'.repeat(40),
      complete: true,
      include: null,
      files: [],
    }
    const path = join(world.model, 'fire-train.pull.json')
    await writeFile(path, JSON.stringify(manifest))
    expect((await plan({ baseModel: undefined })).card).toContain('base_model: Qwen/Base')
    await rm(path)
  })
})
