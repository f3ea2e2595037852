/** An evaluation with every part: questions, two judges, reports, grounding, several answers; texts may mean harm. */
import { join } from 'node:path'
import { writeJsonl } from '../../src/data/jsonl.js'
import { evaluate } from '../../src/evaluate/evaluation.js'
import type { GroundingMap, GroundingRecord } from '../../src/evaluate/records.js'
import { generalPrompt } from '../../src/evaluate/reports/prompt.js'
import { sampleSettings } from '../../src/sample/index.js'
import { say } from '../endpoint/world.js'
import { FakeServer } from '../fakes/server.js'
import { temporaryFolder } from '../fakes/world.js'
import { makeSample, writePng, writeRecords } from '../sample/records.js'

export const names = ['base', 'dpo', 'fire'] as const

/** Whether an answer is right, from numbers alone. */
const isRight = (system: number, i: number, k = 0): boolean => (i * 7 + system * 3 + k * 5) % 11 < 5 + 2 * system

const section = (matched: string): string =>
  `[Clinically Significant Errors]:\n(b) Missing finding: 1. x\n\n[Clinically Insignificant Errors]:\nNone.\n\n[Matched Findings]:\n${matched}`

function groundingOf(system: number, i: number, kind: GroundingRecord['kind']): GroundingRecord {
  const about = { system: names[system], sampleId: `${kind}-${i}`, kind, imageId: `image-${i}` }
  const none = { mass: [], ar: [], kl: [], js: [], shiftedAr: [] }
  if (i === 7) return { ...about, skipped: 'it has no box', grid: [0, 0], maskTokens: 0, outside: 0, ...none }
  const layers = (at: (layer: number) => number) => Array.from({ length: 9 }, (_, layer) => at(layer))
  const noise = (layer: number) => 0.12 * Math.sin(i * 3.1 + layer * 1.7 + system)
  return {
    ...about,
    skipped: null,
    outside: 0,
    grid: [8, 8],
    maskTokens: 6,
    mass: layers((layer) => 0.3 + 0.02 * layer + noise(layer) / 3),
    ar: layers((layer) => 1 + 0.03 * layer * (1 + system) + noise(layer)),
    kl: layers((layer) => 0.2 + 0.05 * layer * (1 + system) + noise(layer) / 4),
    js: layers((layer) => 0.05 + 0.01 * layer + noise(layer) / 20),
    shiftedAr: layers((layer) => 0.95 + noise(layer)),
  }
}

/** A padded image: its frame is a square around it. */
function mapOf(system: number, i: number, image: GroundingMap['image'], hostile: string): GroundingMap {
  const values = Array.from({ length: 64 }, (_, token) => Math.abs(Math.sin(token * (1 + system) + i)))
  return {
    ...{
      system: names[system],
      sampleId: `localization-${i}`,
      kind: 'localization',
      question: `Where is it? ${hostile}`,
    },
    ...{
      image: { ...image, path: `../${image.path}` },
      boxes: [[10, 4, 30, 22]],
      grid: [8, 8],
      layers: [7, 9],
      values,
    },
    frame: { left: 0, top: -4, width: 48, height: 48 },
  }
}

/** @param hostile is in every text that a model, a server or a file says. @returns the folder of the evaluation. */
export async function evaluationFolder(hostile = ''): Promise<string> {
  const folder = await temporaryFolder()
  const images = await Promise.all(
    Array.from({ length: 25 }, (_, i) => {
      const rgb = Uint8Array.from({ length: 48 * 40 * 3 }, (_, at) => (at * (i + 3)) % 251)
      return writePng(folder, `${i}.png`, { width: 48, height: 40, rgb })
    }),
  )
  // An image that is there no more.
  images[22] = { ...images[22], path: 'gone.png' }
  const questions = Array.from({ length: 100 }, (_, i) =>
    makeSample(`slake-${i}`, {
      dataset: 'slake',
      images: [images[i % 25]],
      meta: { ask: i % 3 === 0 ? 'side' : 'presence' },
      ...(i % 2 === 0
        ? { question: `Is there a nodule? ${hostile}`, answer: i % 4 === 0 ? 'yes' : 'no' }
        : { question: `What is shown? ${hostile}`, answer: 'pneumonia', answerType: 'open' as const }),
    }),
  )
  const reports = Array.from({ length: 24 }, (_, i) =>
    makeSample(`iu-xray-${i}`, {
      ...{ dataset: 'iu-xray', task: 'report' as const, images: [images[i]], answerType: 'open' as const },
      answer: 'The heart is enlarged.',
    }),
  )
  const path = join(folder, 'samples.jsonl')
  await writeRecords(path, [...questions, ...reports])
  for (const [system, name] of names.entries()) {
    const answers = questions.flatMap(({ id, answer, answerType }, i) =>
      Array.from({ length: system === 2 ? 4 : 1 }, (_, k) => {
        const wrong =
          answerType === 'open' ? `A long story about lungs, ${i}. ${hostile}` : answer === 'yes' ? 'no' : 'yes'
        return { sampleId: id, k, text: isRight(system, i, k) ? `${answer} ${hostile}` : wrong }
      }),
    )
    const written = reports.map(({ id }, i) => ({
      sampleId: id,
      k: 0,
      text: `${name} ${i} The heart is normal. ${hostile}`,
    }))
    await writeRecords(join(folder, `${name}.jsonl`), [...answers.slice(name === 'base' ? 2 : 0), ...written])
  }
  const server = await FakeServer.start((response, { body }) => {
    if (body.includes('[Matched Findings]') || body.includes('radiolog')) {
      if (body.includes('base 3 ')) return say(response, `Sorry, I cannot. ${hostile}`)
      return say(response, section(body.includes('fire') ? '3. a; b; c' : '1. a'))
    }
    if (body.includes('lungs, 9.')) return say(response, `Who knows? ${hostile}`)
    if (body.includes('lungs, 15.')) return void response.writeHead(500).end('no')
    const isSecond = body.includes('"second"')
    say(
      response,
      JSON.stringify({
        verdict: isSecond && body.includes('5.') ? 'correct' : 'incorrect',
        reason: `other ${hostile}`,
      }),
    )
  })
  const endpoint = (model: string) => ({ url: `${server.url}/v1`, model, retryDelay: 0.001, retries: 0 })
  try {
    await evaluate({
      samples: path,
      imageRoot: folder,
      out: join(folder, 'out'),
      systems: names.map((name) => ({ name, kind: 'file', path: join(folder, `${name}.jsonl`) })),
      asked: sampleSettings.parse({ samples: path, out: 'x' }),
      engine: { device: 'cpu', dtype: 'f32', threads: 1, batchSize: 8 },
      truth: null,
      scores: [],
      judge: {
        ...{ endpoint: endpoint('judge'), second: endpoint('second'), cache: join(folder, 'cache') },
        ...{ on: 'open', protocol: 'ours', secondSample: 60, seed: 1 },
      },
      green: { endpoint: endpoint('green'), prompt: generalPrompt, cache: join(folder, 'cache') },
      baseline: 'base',
      primary: 'fire',
      margin: 0.03,
      maxUnreadable: 0.05,
      seed: 42,
    })
  } finally {
    await server.stop()
  }
  const kinds = ['localization', 'attribute'] as const
  const grounding = kinds.flatMap((kind) =>
    names.flatMap((_, system) => Array.from({ length: 24 }, (_, i) => groundingOf(system, i, kind))),
  )
  await writeJsonl(join(folder, 'out', 'grounding.jsonl'), grounding)
  // The last one's image is there no more.
  const mapped = [0, 1, 22].flatMap((i) => names.map((_, system) => mapOf(system, i, images[i], hostile)))
  await writeJsonl(join(folder, 'out', 'maps.jsonl'), mapped)
  return join(folder, 'out')
}
