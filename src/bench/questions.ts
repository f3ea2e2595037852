/** Random tokenised questions, several about each image, in the one file that every variant reads. */
import type { ImageInput, PromptInput } from '../engine/engine.js'
import { drawImage, drawPrompt, pixels, readImages, required } from './pairs.js'
import { Draws } from './random.js'
import { int64, readSafetensors, type Tensor, toNumbers, writeSafetensors } from './safetensors.js'
import type { BenchSpec } from './spec.js'

/** Names and types: bench/peer/README.md, "Questions file". Question k is about image k % images. */
export async function writeQuestions(
  path: string,
  spec: BenchSpec,
  counts: { images: number; questions: number },
  seed: number,
): Promise<void> {
  const tensors = new Map<string, Tensor>()
  for (let i = 0; i < counts.images; i++) {
    tensors.set(`image${i}.rgb`, pixels(drawImage(spec.pairs.image, new Draws(`image${i}`, seed))))
  }
  for (let k = 0; k < counts.images * counts.questions; k++) {
    tensors.set(`question${k}.prompt`, int64(drawPrompt(spec, new Draws(`question${k}`, seed))))
    tensors.set(`question${k}.image`, int64([k % counts.images]))
  }
  await writeSafetensors(path, tensors)
}

export interface BenchQuestions {
  images: ImageInput[]
  prompts: PromptInput[]
}

export async function readQuestions(path: string): Promise<BenchQuestions> {
  const tensors = await readSafetensors(path)
  const found: BenchQuestions = { images: readImages(tensors), prompts: [] }
  for (let k = 0; tensors.has(`question${k}.prompt`); k++) {
    const [image] = toNumbers(required(tensors, `question${k}.image`, path))
    const ids = Int32Array.from(toNumbers(required(tensors, `question${k}.prompt`, path)))
    found.prompts.push({ ids, images: [`image${image}`], seed: k })
  }
  return found
}

/**
 * The same questions, each with an image of its own, so that nothing is shared, as in the peer's batch. The engine knows equal pixels
 * under any name, so one value of each copy is off by a grey level.
 */
export function withOwnImages({ images, prompts }: BenchQuestions): BenchQuestions {
  const byId = new Map(images.map((image) => [image.id, image]))
  const own = prompts.map((prompt, k) => {
    const copies = prompt.images.map((id) => {
      const image = byId.get(id) as ImageInput
      const rgb = Uint8Array.from(image.rgb)
      rgb[k] ^= 1
      return { ...image, id: `${id} of ${k}`, rgb }
    })
    return { copies, prompt: { ...prompt, images: copies.map(({ id }) => id) } }
  })
  return { images: own.flatMap(({ copies }) => copies), prompts: own.map(({ prompt }) => prompt) }
}
