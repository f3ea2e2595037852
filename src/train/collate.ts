/** From pair records to what the engine takes: token ids, phrase masks, image ids. */
import { imageSource } from '../data/images.js'
import type { ImageRef, Pair } from '../data/records.js'
import type { PairInput } from '../engine/engine.js'
import type { ImageSource } from '../engine/image-cache.js'
import { atPlace, DataError } from '../errors.js'
import { checkOptions } from '../options.js'
import { type Chat, refuseBeyondContext } from '../text/chat.js'
import type { Range } from '../text/normalize.js'
import { encodeTagged, phraseMask } from '../text/phrases.js'

/** A pair ready for the engine, with the images it needs. */
export interface Example {
  input: PairInput
  /** With the placeholder tokens that each takes. */
  images: (ImageSource & { tokens: number })[]
  /** With `maskMode: authors`: tokens or phrases are not those of the clean text. */
  differs: boolean
}

/** What tokenising a pair needs beside the pair. */
export interface CollateContext {
  chat: Chat
  /** Placeholder tokens of an image of this size. */
  imageTokens(width: number, height: number): number
  /** Folder that image paths are relative to. */
  imageRoot: string
  /** Load the corrupted twins; false when the objective never looks at them. */
  corrupted: boolean
  /** Take pairs that are longer than the model's context. */
  beyondContext?: boolean
  /** `objective.maskMode`; default: offsets. */
  maskMode?: 'offsets' | 'authors'
}

/**
 * Tokenises a pair. The answer is encoded apart from the prompt and closed with the end token, which is never part of a
 * phrase.
 */
export function collate(pair: Pair, context: CollateContext): Example {
  checkOptions('collate', context, {
    chat: true,
    imageTokens: true,
    imageRoot: true,
    corrupted: true,
    maskMode: true,
    beyondContext: true,
  })
  try {
    const { chat } = context
    const tokens = pair.images.map((image) => context.imageTokens(image.width, image.height))
    const prompt = chat.promptIds(pair.prompt, tokens)
    const chosenSpans = pair.edits.map((edit) => edit.chosen)
    const rejectedSpans = pair.edits.map((edit) => edit.rejected)
    const chosen = encodeAnswer(context, pair.chosen, chosenSpans)
    const rejected = encodeAnswer(context, pair.rejected, rejectedSpans)
    const twins = context.corrupted ? (pair.corrupted?.images ?? null) : null
    if (twins) checkTwins(pair.images, twins, tokens, context)
    const input: PairInput = {
      id: pair.id,
      prompt,
      chosen: chosen.ids,
      rejected: rejected.ids,
      chosenMask: chosen.mask,
      rejectedMask: rejected.mask,
      images: pair.images.map((image) => image.sha256),
      corruptedImages: twins && twins.length > 0 ? twins.map((image) => image.sha256) : null,
      weight: pair.weight ?? 1,
      rejectedScore: pair.rejectedScore ?? 1,
    }
    const length = prompt.length + Math.max(chosen.ids.length, rejected.ids.length)
    if (!context.beyondContext) refuseBeyondContext(length, chat)
    // A twin takes as many tokens as the image in its place.
    const images = [...pair.images, ...(twins ?? [])].map((image, index) => ({
      ...imageSource(image, context.imageRoot),
      tokens: tokens[index % tokens.length],
    }))
    return { input, images, differs: chosen.differs || rejected.differs }
  } catch (error) {
    return atPlace(`record ${pair.id}`, { id: pair.id })(error)
  }
}

interface Answer {
  ids: Int32Array
  mask: Uint8Array
  differs: boolean
}

function encodeAnswer({ chat, maskMode }: CollateContext, text: string, spans: readonly Range[]): Answer {
  const { ids, offsets } = chat.tokenizer.encodeWithOffsets(text)
  const mask = phraseMask(offsets, spans, ids.length + 1)
  const clean = { ids: Int32Array.from([...ids, chat.endTokenId]), mask, differs: false }
  if (maskMode !== 'authors') return clean
  const tagged = encodeTagged(chat.tokenizer, text, spans)
  const answer = { ids: Int32Array.from([...tagged.ids, chat.endTokenId]), mask: Uint8Array.from([...tagged.mask, 0]) }
  return { ...answer, differs: !isSame(answer.ids, clean.ids) || !isSame(answer.mask, clean.mask) }
}

function isSame(a: ArrayLike<number>, b: ArrayLike<number>): boolean {
  return a.length === b.length && Array.from(a).every((value, index) => value === b[index])
}

/** The twins share the clean prompt's tokens, so they must take the same number of placeholders. */
function checkTwins(images: ImageRef[], twins: ImageRef[], tokens: number[], context: CollateContext): void {
  twins.forEach((twin, index) => {
    const count = context.imageTokens(twin.width, twin.height)
    if (count === tokens[index]) return
    const message = `corrupted image ${twin.path} takes ${count} tokens, ${images[index].path} takes ${tokens[index]}`
    throw new DataError(message, { hint: 'A corrupted image must have the size of its clean twin.' })
  })
}
