/** A segmentation service that keeps the contract: it sees a rectangle whose place follows from the prompt. */
import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import sharp from 'sharp'
import { encodeRle } from '../../src/corrupt/masks/rle.js'

export interface Asked {
  image: string
  prompts: string[]
  threshold: number
  nms_iou: number
}

/** Answers instead of the service and returns true, or lets the request pass. */
export type Fault = (asked: Asked, response: ServerResponse, attempt: number) => boolean

/** The rectangle that the service sees for a prompt: a third of each side, at an eighth or a half of it. */
export function seen(prompt: string, width: number, height: number): Uint8Array {
  const left = Math.floor(prompt.length % 2 === 0 ? width / 8 : width / 2)
  const top = Math.floor(height / 8)
  return Uint8Array.from({ length: width * height }, (_, at) => {
    const [x, y] = [at % width, Math.floor(at / width)]
    return x >= left && x < left + width / 3 && y >= top && y < top + height / 3 ? 1 : 0
  })
}

export class FakeSegmenter {
  asked: Asked[] = []
  authorization: (string | undefined)[] = []
  fault: Fault = () => false
  readonly #server: Server

  private constructor() {
    this.#server = createServer(async (request, response) => {
      const chunks: Buffer[] = []
      for await (const chunk of request) chunks.push(chunk as Buffer)
      if (request.method !== 'POST' || request.url !== '/v1/segment') {
        response.writeHead(404).end('not here')
        return
      }
      const asked = JSON.parse(Buffer.concat(chunks).toString('utf8')) as Asked
      this.asked.push(asked)
      this.authorization.push(request.headers.authorization)
      if (this.fault(asked, response, this.asked.length)) return
      response.setHeader('content-type', 'application/json')
      response.end(JSON.stringify(await answerTo(asked)))
    })
  }

  static async start(): Promise<FakeSegmenter> {
    const service = new FakeSegmenter()
    await new Promise<void>((resolve) => service.#server.listen(0, '127.0.0.1', resolve))
    return service
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** What the stage is told of it. */
  get settings() {
    return { url: this.url, threshold: 0.5, nmsIou: 0.5, timeoutMs: 5000, retries: 0, delayMs: 1 }
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }
}

export async function answerTo({ image, prompts }: Asked) {
  const { width, height } = await sharp(Buffer.from(image.split(',')[1], 'base64')).metadata()
  const results = prompts.map((prompt) => ({
    prompt,
    detections: prompt.startsWith('no ')
      ? []
      : [
          { score: 0.9, box: [0, 0, 1, 1], rle: encodeRle({ width, height, inside: seen(prompt, width, height) }) },
          { score: 0.1, box: [0, 0, 1, 1], rle: { size: [height, width], counts: [0, width * height] } },
        ],
  }))
  return { model: 'stub', width, height, results }
}
