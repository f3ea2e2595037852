/**
 * Opens a model and scores one answer about one image: seconds to start, seconds to score.
 *
 *   node bench/large/score.mjs MODEL IMAGE      after `npm run build`
 */
import { decodeImage } from '../../dist/data/images.js'
import { openEngine } from '../../dist/engine/engine.js'
import { Chat } from '../../dist/text/chat.js'

const [model, path] = process.argv.slice(2)
const seconds = (since) => ((performance.now() - since) / 1000).toFixed(2)
let start = performance.now()
const engine = await openEngine({ model, dtype: 'bf16' })
console.log(`open: ${seconds(start)} s, ${engine.info.parameters.toLocaleString('en')} parameters`)

const chat = await Chat.load(model, engine.info)
const image = await decodeImage(path)
const prompt = chat.promptIds('Is there a nodule?', [engine.imageTokens(image.width, image.height)])
const answer = chat.tokenizer.encode('Yes, there is a nodule in the left upper zone.')
start = performance.now()
await engine.encodeImages([image])
console.log(`image: ${seconds(start)} s`)
start = performance.now()
const ids = Int32Array.from([...prompt, ...answer])
const [logprobs] = await engine.logprobs([{ ids, images: [image.id] }])
const sum = logprobs.subarray(prompt.length - 1).reduce((total, value) => total + value, 0)
console.log(`score: ${seconds(start)} s for ${ids.length} tokens; log p of the answer ${sum.toFixed(2)}`)
await engine.close()
