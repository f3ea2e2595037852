/** Sampling: seeds that follow the record, resumption after kills, failures beside answers. */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, statSync } from 'node:fs'
import { appendFile, mkdir, readFile, rename, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Response, Sample } from '../../src/data/records.js'
import type { NativeModule } from '../../src/engine/native.js'
import { ArgumentError, DataError, FileError } from '../../src/errors.js'
import { generateStudies } from '../../src/phantom/index.js'
import { heard } from '../../src/sample/answerer.js'
import { failuresPath } from '../../src/sample/files.js'
import {
  collectAnswers,
  engineAnswerer,
  type SampleRequest,
  sampleAnswers,
  sampleSettings,
} from '../../src/sample/index.js'
import { fileQuestions } from '../../src/sample/question-file.js'
import { canListOpenFiles, openFilesBelow } from '../fakes/open-files.js'
import { fakeNative, fakeNativePath, temporaryFolder, writeImage, writeModel } from '../fakes/world.js'
import { makeSample, readLines, writePng, writeRecords } from './records.js'

const at = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url))

const silence = { tokens: new Int32Array(0), logprob: 0, finish: 'stop' as const }

let root: string
let samples: Sample[]

beforeAll(async () => {
  root = await temporaryFolder()
  await writeModel(join(root, 'model'))
  const images = await Promise.all([0, 1, 2].map((level) => writeImage(root, `${level}.png`, level)))
  samples = Array.from({ length: 12 }, (_, index) =>
    makeSample(`s${index}`, {
      images: [images[index % 3]],
      question: `Question ${index}?`,
      split: index < 9 ? 'a' : 'b',
    }),
  )
  await writeRecords(join(root, 'samples.jsonl'), samples)
})

let out: string
beforeEach(async () => {
  out = join(await temporaryFolder(), 'responses.jsonl')
})

interface Changes extends Partial<Omit<SampleRequest, 'settings'>> {
  settings?: object
  batchSize?: number
}

async function run({ settings, batchSize = 2, ...request }: Changes = {}, context = {}) {
  const all = sampleSettings.parse({ samples: 's', out: 'o', ...settings })
  const native = fakeNative()
  const options = {
    model: join(root, 'model'),
    adapter: null,
    dtype: 'f32' as const,
    batchSize,
    imageRoot: root,
    native,
  }
  const asked = { samples: join(root, 'samples.jsonl'), out, settings: all, ...request }
  return sampleAnswers(asked, await engineAnswerer(options, all), context)
}

async function changeWeights(): Promise<void> {
  const file = join(root, 'model', 'config.json')
  await writeFile(file, `${await readFile(file, 'utf8')} `)
}

const responses = (path = out): Promise<Response[]> => readLines<Response>(path)

describe('sampleAnswers', () => {
  it('answers every sample in order, several times each, with seeds of their own', async () => {
    const report = await run({ settings: { answers: 2, temperature: 1, promptSuffix: ' Be short.' } })
    expect(report).toMatchObject({ total: 24, answers: 24, failed: 0, reused: 0, interrupted: false, failures: null })
    const given = await responses()
    expect(given.map(({ sampleId }) => sampleId)).toEqual(samples.flatMap(({ id }) => [id, id]))
    expect(new Set(given.map(({ seed }) => seed)).size).toBe(24)
    expect(given[3].prompt).toBe('Question 1? Be short.')
    expect(existsSync(failuresPath(out))).toBe(false)
    expect(existsSync(`${out}.part`)).toBe(false)
  })

  it('gives a record the same answer under another order, filter and number of answers', async () => {
    await run({ settings: { answers: 2, temperature: 1 } })
    const all = new Map((await responses()).map((response) => [`${response.sampleId} ${response.seed}`, response]))
    const reversed = join(root, 'reversed.jsonl')
    await writeRecords(reversed, [...samples].reverse())
    const other = `${out}.other`
    await run({ samples: reversed, out: other, settings: { temperature: 1, split: 'b', limit: 2 } })
    const some = await responses(other)
    expect(some.map(({ sampleId }) => sampleId)).toEqual(['s11', 's10'])
    for (const response of some) expect(response).toEqual(all.get(`${response.sampleId} ${response.seed}`))
  })

  it.each([
    ['a torn line', async (part: string) => appendFile(part, '{"sampleId": "s5", "mod')],
    ['a line without its end', async (part: string) => truncate(part, (await readFile(part)).length - 1)],
    ['bytes that are no text', async (part: string) => appendFile(part, Buffer.from([0xff, 0xfe, 10, 0x7b]))],
    ['nothing torn', async () => {}],
  ])('goes on from %s to the bytes of one uninterrupted run', async (_, tear) => {
    await run()
    const whole = await readFile(out)
    const lines = whole.toString().trimEnd().split('\n')
    for (const kept of [0, 1, 5, 12]) {
      const again = join(await temporaryFolder(), 'responses.jsonl')
      await writeFile(
        `${again}.part`,
        lines
          .slice(0, kept)
          .map((line) => `${line}\n`)
          .join(''),
      )
      if (kept > 0) await tear(`${again}.part`)
      const { reused } = await run({ out: again })
      expect(kept - reused).toBeLessThanOrEqual(1)
      expect(reused).toBeGreaterThanOrEqual(Math.max(0, kept - 1))
      expect(await readFile(again)).toEqual(whole)
    }
  })

  it('does nothing again where all is done, and refuses what other settings left until told to replace it', async () => {
    await run()
    const before = await readFile(out)
    expect(await run()).toMatchObject({ answers: 12, reused: 12 })
    await expect(run({ settings: { maxNewTokens: 3 } })).rejects.toThrow(FileError)
    expect(await readFile(out)).toEqual(before)
    await run({ settings: { maxNewTokens: 3 }, overwrite: true })
    expect((await responses()).map(({ tokens }) => tokens.length)).toEqual(Array(12).fill(3))
    await writeFile(`${out}.x.part`, before)
    await expect(run({ out: `${out}.x`, settings: { maxNewTokens: 3 } })).rejects.toThrow(/record 1 \(sample s0\)/)
  })

  it('gives up what it replaces when the new file is complete, and goes on there after a stop', async () => {
    await run()
    const before = await readFile(out)
    const stop = new AbortController()
    const onProgress = (done: number): void => void (done === 5 && stop.abort())
    const other = { settings: { maxNewTokens: 3 }, overwrite: true }
    expect(await run(other, { signal: stop.signal, onProgress })).toMatchObject({ interrupted: true })
    expect(await readFile(out)).toEqual(before)
    const { reused } = await run(other)
    expect(reused).toBeGreaterThan(0)
    expect((await responses()).map(({ tokens }) => tokens.length)).toEqual(Array(12).fill(3))
  })

  it('takes no answer of other weights for its own, though they lie at the same place', async () => {
    await run()
    const lines = (await readFile(out, 'utf8')).trimEnd().split('\n')
    const other = `${out}.weights`
    await writeFile(`${other}.part`, `${lines.slice(0, 5).join('\n')}\n`)
    await changeWeights()
    await expect(run()).rejects.toThrow('holds answers of another run')
    await expect(run({ out: other })).rejects.toThrow(/record 1 \(sample s0\)/)
    expect(await run({ out: other, overwrite: true })).toMatchObject({ answers: 12, reused: 0 })
  })

  it('takes no answer about other images, and no reason why one could not be shown', async () => {
    const swapped = samples.map((sample, i) => ({ ...sample, images: [samples[(i + 1) % 3].images[0]] }))
    const other = join(root, 'swapped.jsonl')
    await writeRecords(other, swapped)
    await run()
    expect((await responses()).map(({ images }) => images)).toEqual(samples.map(({ images }) => [images[0].sha256]))
    await expect(run({ samples: other })).rejects.toThrow(/its record 1 \(sample s0\) is not due/)
    if (canListOpenFiles) expect(await openFilesBelow(out)).toEqual([])
    expect(await run({ samples: other, overwrite: true })).toMatchObject({ answers: 12, reused: 0 })
    await run({ samples: other, out: `${out}.fresh` })
    expect(await readFile(out)).toEqual(await readFile(`${out}.fresh`))

    const gone = [{ ...samples[0], images: [{ ...samples[0].images[0], sha256: '0'.repeat(64) }] }, ...samples.slice(1)]
    await writeRecords(other, gone)
    const again = { samples: other, out: `${out}.gone` }
    expect(await run(again)).toMatchObject({ answers: 11, failed: 1 })
    await writeRecords(other, samples)
    // The question that failed is asked again, now with its image.
    expect(await run(again)).toMatchObject({ answers: 12, failed: 0, reused: 11 })
  })

  it('takes no answer about another image at the same path, where a file of questions names it bare', async () => {
    const folder = await temporaryFolder()
    await writeModel(join(folder, 'model'))
    await writeImage(folder, 'x.png', 1)
    const path = join(folder, 'questions.jsonl')
    await writeRecords(path, [
      { id: 'a', prompt: 'What?', images: ['x.png'] },
      { id: 'b', prompt: 'Where?', images: ['gone.png'] },
    ])
    const settings = sampleSettings.parse({ samples: 's', out: 'o' })
    const model = {
      model: join(folder, 'model'),
      adapter: null,
      dtype: 'f32' as const,
      batchSize: 2,
      imageRoot: folder,
    }
    const answerer = await engineAnswerer({ ...model, native: fakeNative() }, settings)
    const asked = () => fileQuestions(path, folder, 0)
    const ask = (overwrite = false) => collectAnswers({ asked, total: 2, out, from: path, overwrite }, answerer)
    expect(await ask()).toMatchObject({ answers: 1, failed: 1, reused: 0 })
    expect(await ask()).toMatchObject({ answers: 1, failed: 1, reused: 1 })
    const { sha256 } = await writeImage(folder, 'x.png', 2)
    await expect(ask()).rejects.toThrow(/record 1 \(sample a\) is not due/)
    expect(await ask(true)).toMatchObject({ answers: 1, failed: 1, reused: 0 })
    expect((await responses())[0].images).toEqual([sha256])
  })

  it('is not finished without an answer: the same call asks again', async () => {
    await rename(join(root, '0.png'), join(root, 'away.png'))
    const settings = { limit: 1 }
    expect(await run({ settings })).toMatchObject({ answers: 0, failed: 1 })
    expect(existsSync(out)).toBe(false)
    await rename(join(root, 'away.png'), join(root, '0.png'))
    expect(await run({ settings })).toMatchObject({ answers: 1, failed: 0, reused: 0 })
  })

  it('is not stopped by a bad record: the reason stands beside the answers, also after a resume', async () => {
    await writeFile(join(root, 'torn.png'), (await readFile(join(root, '0.png'))).subarray(0, 60))
    const bad = [...samples]
    bad[0] = { ...bad[0], images: [{ ...bad[0].images[0], path: 'missing.png' }] }
    bad[4] = { ...bad[4], images: [{ ...bad[4].images[0], sha256: '0'.repeat(64) }] }
    bad[7] = { ...bad[7], question: 'What is <|image_pad|> here?' }
    bad[11] = { ...bad[11], images: [{ ...bad[11].images[0], path: 'torn.png' }] }
    const path = join(root, 'bad.jsonl')
    await writeRecords(path, bad)
    const report = await run({ samples: path })
    expect(report).toMatchObject({ answers: 8, failed: 4, failures: failuresPath(out) })
    const failures = await readLines<{ sampleId: string; code: string; reason: string }>(failuresPath(out))
    expect(failures.map(({ sampleId }) => sampleId)).toEqual(['s0', 's4', 's7', 's11'])
    expect(failures.map(({ code }) => code)).toEqual(['ERR_FIRE_IO', ...Array(3).fill('ERR_FIRE_DATA')])
    expect(failures[1].reason).toContain('is not the image of the record')

    const [whole, wholeFailures] = [await readFile(out), await readFile(failuresPath(out))]
    const again = join(await temporaryFolder(), 'responses.jsonl')
    await writeFile(`${again}.part`, whole.subarray(0, whole.length / 2))
    // The failed file never lags behind, but may be ahead of a torn answer.
    await writeFile(failuresPath(again), wholeFailures)
    await run({ samples: path, out: again })
    expect(await readFile(again)).toEqual(whole)
    expect(await readFile(failuresPath(again))).toEqual(wholeFailures)
    // Told to begin again, it asks those questions again as well.
    await writeRecords(path, samples)
    expect(await run({ samples: path, overwrite: true })).toMatchObject({ answers: 12, failed: 0, reused: 0 })
    expect(existsSync(failuresPath(out))).toBe(false)
    await writeRecords(path, bad)
    await expect(run({ samples: path, out: `${out}.strict`, strict: true })).rejects.toThrow(/Sample s0: .*missing/)
  })

  it('asks again what failed in a run that ended, and nothing else, however often it is stopped there', async () => {
    await run()
    const whole = await readFile(out)
    const away = ['0.png', '1.png', '2.png']
    const other = join(await temporaryFolder(), 'responses.jsonl')
    for (const name of away) await rename(join(root, name), join(root, `away-${name}`))
    const none = { ...samples[1], images: [] }
    const path = join(root, 'some.jsonl')
    await writeRecords(path, [samples[0], none, ...samples.slice(2)])
    expect(await run({ samples: path, out: other })).toMatchObject({ answers: 1, failed: 11, reused: 0 })
    for (const name of away) await rename(join(root, `away-${name}`), join(root, name))
    const stop = new AbortController()
    const onProgress = (done: number): void => void (done === 4 && stop.abort())
    const stopped = await run({ samples: path, out: other }, { signal: stop.signal, onProgress })
    expect(stopped).toMatchObject({ interrupted: true, answers: 4, reused: 1 })
    expect(await run({ samples: path, out: other })).toMatchObject({
      answers: 12,
      failed: 0,
      reused: 4,
      failures: null,
    })
    expect(existsSync(failuresPath(other))).toBe(false)
    const [lines, asBefore] = [await readFile(other, 'utf8'), whole.toString()].map((text) => text.split('\n'))
    expect(lines.toSpliced(1, 1)).toEqual(asBefore.toSpliced(1, 1))
    expect(await run({ samples: path, out: other })).toMatchObject({ answers: 12, reused: 12 })
  })

  it('never takes a file of something else for answers', async () => {
    await writeFile(out, '{"id": "mine"}\n')
    await expect(run()).rejects.toThrow(/exists already and is not what this run would write/)
    expect(await readFile(out, 'utf8')).toBe('{"id": "mine"}\n')
  })

  it('goes on after an image of impossible shape, a text beyond the context and an empty answer', async () => {
    const folder = await temporaryFolder()
    await writeModel(join(folder, 'model'))
    const config = join(folder, 'model', 'config.json')
    const json = JSON.parse(await readFile(config, 'utf8'))
    await writeFile(config, JSON.stringify({ ...json, max_position_embeddings: 600 }))
    const thin = await writeImage(folder, 'thin.png', 3)
    const records = [
      makeSample('thin', { images: [thin], question: 'Thin?' }),
      makeSample('ok', { images: [], question: 'Fine?' }),
      makeSample('long', { images: [], question: 'word '.repeat(2000) }),
      makeSample('mute', { images: [], question: 'Silent?' }),
      makeSample('last', { images: [], question: 'Last?' }),
    ]
    await writeRecords(join(folder, 'samples.jsonl'), records)
    const fake = fakeNative()
    const openEngine: NativeModule['openEngine'] = async (spec, cancel) => {
      const engine = await fake.openEngine(spec, cancel)
      engine.imageTokens = () => {
        throw new ArgumentError('an image of 600x2 pixels has an aspect ratio above 200; crop it first')
      }
      const generate = engine.generate.bind(engine)
      engine.generate = (prompts, sampling, onToken, onEnd, token) =>
        generate(prompts, sampling, onToken, (index, given) => onEnd?.(index, index === 1 ? silence : given), token)
      return engine
    }
    const native = { ...fake, openEngine: openEngine.bind(fake) }
    const all = sampleSettings.parse({ samples: 's', out: 'o' })
    const model = { model: join(folder, 'model'), adapter: null, dtype: 'f32' as const, batchSize: 8 }
    const answerer = await engineAnswerer({ ...model, imageRoot: folder, native }, all)
    const named: string[] = []
    const report = await sampleAnswers({ samples: join(folder, 'samples.jsonl'), out, settings: all }, answerer, {
      onFailure: ({ sampleId }) => named.push(sampleId),
    })
    expect(report).toMatchObject({ total: 5, answers: 2, failed: 3, failures: failuresPath(out) })
    expect(named).toEqual(['thin', 'long', 'mute'])
    expect((await responses()).map(({ sampleId }) => sampleId)).toEqual(['ok', 'last'])
    expect(await readLines(failuresPath(out))).toMatchObject([
      { sampleId: 'thin', reason: expect.stringContaining('600x2') },
      { sampleId: 'long', reason: expect.stringMatching(/takes \d+ tokens, the model's context has 600/) },
      { sampleId: 'mute', reason: 'the answer is empty' },
    ])
    // The same command asks those three again: the engine is silent at its second question only.
    expect(await sampleAnswers({ samples: join(folder, 'samples.jsonl'), out, settings: all }, answerer)).toMatchObject(
      { answers: 3, failed: 2, reused: 2 },
    )
    expect((await responses()).map(({ sampleId }) => sampleId)).toEqual(['ok', 'mute', 'last'])
  })

  it('stops at a signal with what it has', async () => {
    const stop = new AbortController()
    const report = await run({}, { signal: stop.signal, onProgress: (done: number) => done === 5 && stop.abort() })
    expect(report).toMatchObject({ answers: 5, interrupted: true })
    expect(existsSync(out)).toBe(false)
    expect(await run()).toMatchObject({ answers: 12, reused: 5 })
  })

  it('refuses what cannot be meant', async () => {
    await expect(run({ settings: { answers: 2 } })).rejects.toThrow(/greedy answers would all be the same/)
    await expect(run({ settings: { split: 'c' } })).rejects.toThrow(/no sample of split "c"/)
    const twice = join(root, 'twice.jsonl')
    await writeRecords(twice, [samples[0], samples[1], samples[0]])
    await expect(run({ samples: twice })).rejects.toThrow(/twice\.jsonl:3: record s0: the id is taken by line 1/)
    await expect(run({ samples: twice })).rejects.toThrow(DataError)
  })
})

describe('heard', () => {
  const answer = (text: string): Response =>
    ({ sampleId: 's', prompt: 'Q?', images: [], seed: 1, text, tokens: [], model: 'm', sampling: {} }) as never

  it('takes reasoning alone for no answer, whether or not it ends', () => {
    const none = ['<think>The left side looks', '<THINK>Yes.</THINK>\n', '[THINK]no end', 'opened before.</think> ']
    for (const text of none) {
      expect(heard(answer(text))).toMatchObject({ sampleId: 's', seed: 1, reason: 'the answer is reasoning alone' })
    }
    expect(heard(answer(' \n'))).toMatchObject({ reason: 'the answer is empty' })
  })

  it('keeps an answer with its reasoning as it is', () => {
    for (const text of ['<think>Hm.</think>Yes.', 'Hm.</think>Yes.', 'Yes.', 'Yes. <think>But']) {
      expect(heard(answer(text))).toEqual(answer(text))
    }
  })
})

describe('fire-train sample', () => {
  it('stops at SIGINT with 130 and goes on', { timeout: 60_000 }, async () => {
    const args = ['sample', '--samples', join(root, 'samples.jsonl'), '--model', join(root, 'model'), '--out', out]
    const start = (delay: string) => {
      const env = { ...process.env, FIRE_NATIVE_PATH: fakeNativePath, FIRE_FAKE_DELAY_MS: delay }
      return spawn(process.execPath, [at('dist/cli/main.js'), ...args, '--batch-size', '1'], { env })
    }
    const child = start('200')
    let stderr = ''
    child.stderr.on('data', (chunk) => {
      stderr += chunk
    })
    // The engine gives a window of eight at once.
    const poll = setInterval(() => {
      if (sizeOf(`${out}.part`) === 0) return
      clearInterval(poll)
      child.kill('SIGINT')
    }, 5)
    expect(await exit(child)).toBe(130)
    expect(stderr).toMatch(
      /SIGINT: saving and stopping.*\n(.*\n)*stopped; what was finished is kept in .*; run the same command again to continue/,
    )
    expect(await exit(start('0'))).toBe(0)
    const stopped = await readFile(out)
    await run({ out: `${out}.calm` })
    expect(stopped).toEqual(await readFile(`${out}.calm`))
  })
})

const ready = existsSync(at('build/Release/fire.node')) && existsSync(at('models/phantom/model.safetensors'))

/** Starts the built command on the bundled model. */
function start(samplesPath: string, path: string, batchSize = 4, extra: string[] = []): ChildProcess {
  const args = ['sample', '--samples', samplesPath, '--model', at('models/phantom'), '--out', path, '--threads', '1']
  const all = [
    at('dist/cli/main.js'),
    ...args,
    '--answers',
    '6',
    '--temperature',
    '0.8',
    '--batch-size',
    String(batchSize),
    ...extra,
  ]
  return spawn(process.execPath, all, { stdio: 'ignore' })
}

const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0

const exit = (child: ChildProcess): Promise<number | null> =>
  new Promise((resolve) => child.on('close', (code) => resolve(code)))

describe.skipIf(!ready)('fire-train sample on the real engine', () => {
  it('loses and repeats nothing when killed at random moments', { timeout: 120_000 }, async () => {
    const folder = await temporaryFolder()
    await mkdir(join(folder, 'images'))
    const records: Sample[] = []
    for (const study of generateStudies({ seed: 3, split: 'train', count: 8 })) {
      const image = await writePng(folder, `images/${study.id}.png`, study)
      for (const { id, question, answer } of study.questions)
        records.push(makeSample(id, { images: [image], question, answer }))
    }
    const file = join(folder, 'samples.jsonl')
    await writeRecords(file, records)
    const calm = join(folder, 'calm.jsonl')
    expect(await exit(start(file, calm))).toBe(0)
    const whole = await readFile(calm)
    expect(whole.toString().split('\n')).toHaveLength(records.length * 6 + 1)

    const killed = join(folder, 'killed.jsonl')
    const part = `${killed}.part`
    let kills = 0
    for (let round = 0; round < 6 && !existsSync(killed); round += 1) {
      const child = start(file, killed)
      const before = sizeOf(part)
      const target = before + Math.ceil(Math.random() * 0.5 * (whole.length - before))
      const poll = setInterval(() => sizeOf(part) >= target && child.kill('SIGKILL'), 1)
      if ((await exit(child)) === null) kills += 1
      clearInterval(poll)
      if (!existsSync(part)) continue
      // What is there already is the beginning of the result.
      const begun = await readFile(part)
      expect(begun.length).toBeGreaterThanOrEqual(before)
      expect(whole.subarray(0, begun.length).equals(begun)).toBe(true)
    }
    expect(kills).toBeGreaterThan(0)
    expect(await exit(start(file, killed))).toBe(0)
    expect((await readFile(killed)).equals(whole)).toBe(true)

    // Another batch size and a copy in reverse order: the same answers.
    const reversed = join(folder, 'reversed.jsonl')
    await writeRecords(reversed, [...records].reverse())
    const other = join(folder, 'other.jsonl')
    expect(await exit(start(reversed, other, 7, ['--limit', '5']))).toBe(0)
    const lines = new Set(whole.toString().split('\n'))
    for (const line of (await readFile(other, 'utf8')).split('\n')) expect(lines.has(line)).toBe(true)
  })
})
