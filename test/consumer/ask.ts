/** One question about one image. */
import { Chat, decodeImage, openEngine } from 'fire-train'

export async function ask(model: string, picture: string, question: string): Promise<string> {
  await using engine = await openEngine({ model })
  const chat = await Chat.load(model, engine.info)
  const image = await decodeImage(picture)
  const [{ tokens }] = await engine.encodeImages([image])
  const prompt = { ids: chat.promptIds(question, [tokens]), images: [image.id], seed: 0 }
  const [answer] = await engine.generate([prompt], { maxNewTokens: 64, stopTokens: [chat.endTokenId] })
  return chat.tokenizer.decode(answer.tokens, { skipSpecial: true })
}
