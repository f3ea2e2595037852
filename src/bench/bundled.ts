/**
 * What the bundled model is measured with: an adapter that is not zero, and pairs in the words of its world, as tokens for
 * the engine and as texts for TRL.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { writeJson } from '../data/files.js'
import { openEngine } from '../engine/engine.js'
import { ArgumentError, asFileError } from '../errors.js'
import { counterfactual, generateStudies, Rng, type Study, type Truth } from '../phantom/index.js'
import { answerStyles, sayClaim, sayReport } from '../phantom/language.js'
import { Chat } from '../text/chat.js'
import { writeAdapter } from './model.js'
import { type Answer, writePairsFile } from './pairs.js'
import { type AdapterSpec, type ModelConfig, packageRoot } from './spec.js'

export const bundledModel = join(packageRoot, 'models', 'phantom')

/** Small enough in its B that the model stays what it is, large enough that the first margins are not zero. */
const adapter: AdapterSpec = {
  r: 16,
  lora_alpha: 32,
  lora_dropout: 0,
  b_std: 0.03,
  target_modules: ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'],
}

/** The adapter that all variants start from, in `folder/adapter`. */
export async function writeBundledAdapter(folder: string, seed: number): Promise<void> {
  const path = join(bundledModel, 'config.json')
  const config = JSON.parse(await readFile(path, 'utf8').catch(asFileError('Reading', path))) as ModelConfig
  await writeAdapter(join(folder, 'adapter'), config, adapter, seed)
}

/** A pair as texts, which TRL gets. */
export interface TextPair {
  question: string
  chosen: string
  rejected: string
}

/**
 * `folder/pairs.safetensors` for the engine and `folder/texts.json` for TRL, the same pairs: a true sentence of the bundled
 * model's world, and the sentence with one claim changed. Pair k is about study k % images.
 */
export async function writeBundledPairs(folder: string, count: number, images: number, seed: number): Promise<void> {
  const studies = generateStudies({ seed, split: 'train', count: images })
  const texts = Array.from({ length: count }, (_, k) =>
    pairAbout(studies[k % images], Math.floor(k / images), k % images),
  )
  await using engine = await openEngine({ model: bundledModel, planOnly: true })
  const chat = await Chat.load(bundledModel, engine.info)
  const pairs = texts.map(({ question, chosen, rejected }, k) => {
    const { width, height } = studies[k % images]
    const prompt = chat.promptIds(question, [engine.imageTokens(width, height)])
    const answers = { chosen: encode(chat, chosen), rejected: encode(chat, rejected) }
    return { prompt, answers, images: [k % images], corrupted: [] }
  })
  await writePairsFile(join(folder, 'pairs.safetensors'), studies, pairs)
  await writeJson(join(folder, 'texts.json'), texts)
}

/** The pair of question `turn` of a study; studies begin with different questions, so that all kinds come. */
function pairAbout({ id, questions }: Study, turn: number, first: number): TextPair {
  if (turn >= questions.length) {
    throw new ArgumentError(`Study ${id} has ${questions.length} questions: too few for so many pairs about an image`, {
      hint: 'Give more --images or fewer --pairs.',
    })
  }
  const { id: question, question: text, truth } = questions[(first + turn) % questions.length]
  const rng = new Rng('bench', question)
  const [sentence, ...rest] = sentencesOf(truth, rng.int(answerStyles(truth.ask)))
  const wrong = counterfactual(truth, sentence, rng) as string
  return { question: text, chosen: [sentence, ...rest].join(' '), rejected: [wrong, ...rest].join(' ') }
}

/** What is true, in the model's own sentences. */
function sentencesOf({ ask, claim, findings }: Truth, style: number): string[] {
  if (ask.intent === 'report') return sayReport(ask.scope, findings, style).split(/(?<=\.) /)
  return [sayClaim(ask, claim as NonNullable<typeof claim>, style)]
}

/** Every token is scored, the end token too. */
function encode(chat: Chat, text: string): Answer {
  const ids = [...chat.tokenizer.encode(text), chat.endTokenId]
  return { ids, mask: ids.map(() => 1) }
}
