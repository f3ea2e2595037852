/** The in-memory engine with a tongue: it recognises phantom studies by their pixels and answers in their sentences. */
import { createHash } from 'node:crypto'
import { rm } from 'node:fs/promises'
import type {
  Generation,
  ImageInput,
  NativeEngine,
  NativeModule,
  PromptInput,
  SequenceInput,
} from '../../src/engine/engine.js'
import {
  counterfactual,
  generateStudies,
  Rng,
  type Study,
  type StudyQuestion,
  type Truth,
} from '../../src/phantom/index.js'
import { sayClaim, sayReport } from '../../src/phantom/language.js'
import { Tokenizer } from '../../src/text/tokenizer.js'
import { fakeNative, temporaryFolder, writeModel } from './world.js'

const made: string[] = []

/** A folder that `removeScratch` deletes. */
export async function scratchFolder(): Promise<string> {
  const folder = await temporaryFolder()
  made.push(folder)
  return folder
}

export async function removeScratch(): Promise<void> {
  await Promise.all(made.splice(0).map((folder) => rm(folder, { recursive: true, force: true })))
}

const hash = (bytes: Uint8Array | string) => createHash('sha256').update(bytes).digest()

function truth({ truth: { ask, claim, findings } }: StudyQuestion): string {
  if (ask.intent !== 'report') return sayClaim(ask, claim!, 0)
  return sayReport(ask.scope, findings, 0)
}

/** One claim of the true answer made wrong, in a report that of its first sentence. */
function falsehood(question: StudyQuestion): string {
  const [first, ...rest] = question.task === 'report' ? truth(question).split(/(?<=\.) /) : [truth(question)]
  const wrong = counterfactual(question.truth as Truth, first, new Rng('talker', question.id))
  return [wrong ?? 'I cannot say.', ...rest].join(' ')
}

/** The study of a corrupted twin: all but the lesion is as it was. */
function nearest({ rgb }: ImageInput, studies: Map<string, Study>): Study | undefined {
  const shared = (study: Study) => study.rgb.reduce((sum, value, i) => sum + (value === rgb[i] ? 1 : 0), 0)
  return [...studies.values()].find((study) => shared(study) > 0.5 * rgb.length)
}

export interface Talker {
  model: string
  native: NativeModule
  /** How often an engine was opened that computes. */
  opened: number
  /** Called before each batch of answers. */
  onGenerate?: () => void
}

/** Right about half of the time, with an adapter nine times in ten; what it says depends on question and adapter only. */
export async function talker(seed: number, counts: { train: number; test: number }): Promise<Talker> {
  const model = await scratchFolder()
  await writeModel(model)
  const tokenizer = await Tokenizer.load(model)
  const studies = new Map<string, Study>()
  for (const split of ['train', 'test'] as const) {
    for (const study of generateStudies({ seed, split, count: counts[split] }))
      studies.set(hash(study.rgb).toString('hex'), study)
  }
  const module = fakeNative()
  const self: Talker = { model, native: module, opened: 0 }
  const openEngine: NativeModule['openEngine'] = async (spec, ...rest) => {
    if (!spec.planOnly) self.opened++
    return teach(await module.openEngine(spec, ...rest), studies, tokenizer, () => self.onGenerate?.())
  }
  self.native = { ...module, openEngine }
  return self
}

function teach(
  engine: NativeEngine,
  studies: Map<string, Study>,
  tokenizer: Tokenizer,
  onGenerate: () => void,
): NativeEngine {
  const seen = new Map<string, Study>()
  const encode = engine.encodeImages.bind(engine)
  const answer = (prompt: PromptInput, adapter: boolean): Generation => {
    const study = seen.get(prompt.images[0])
    const asked = tokenizer.decode(prompt.ids, { skipSpecial: true })
    const question = study?.questions.find((candidate) => asked.includes(candidate.question))
    if (!study || !question) throw new Error(`nobody asked this of a phantom: ${asked}`)
    const right = hash(question.id)[adapter ? 1 : 0] < (adapter ? 230 : 128)
    const text = right ? truth(question) : falsehood(question)
    return { tokens: Int32Array.from(tokenizer.encode(text)), logprob: -1, finish: 'stop' }
  }
  return Object.assign(engine, {
    encodeImages: async (images: ImageInput[], ...rest: [null]) => {
      for (const image of images) {
        const study = studies.get(hash(image.rgb).toString('hex')) ?? nearest(image, studies)
        if (study) seen.set(image.id, study)
      }
      return encode(images, ...rest)
    },
    generate: async (...[prompts, sampling, , onEnd]: Parameters<NativeEngine['generate']>) => {
      onGenerate()
      return prompts.map((prompt, index) => {
        const said = answer(prompt, sampling.adapter)
        onEnd?.(index, said)
        return said
      })
    },
    attention: async (_sequence: SequenceInput, positions: number[], adapter: boolean) =>
      positions.map((position) => {
        const tokens = 36
        const weights = Float32Array.from({ length: tokens }, (_, i) =>
          adapter && i === position % tokens ? 0.5 : 0.01,
        )
        return { layers: 1, heads: 1, tokens, weights }
      }),
  })
}
