/** A model on a fake hub, pulled into a fresh folder for each test of the file that imports this. */
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, vi } from 'vitest'
import type { FireError } from '../../src/errors.js'
import { type PullOptions, pull } from '../../src/hub/index.js'
import type { Manifest } from '../../src/hub/manifest.js'
import { temporaryFolder } from '../fakes/world.js'
import { FakeHub, type HubFile, repo, sha256 } from './server.js'

export const weights = 'model-00001-of-00002.safetensors'
export const git = (text: string): HubFile => ({ content: Buffer.from(text), kind: 'git' })
export const large = (bytes: number, seed: number, kind: HubFile['kind'] = 'lfs'): HubFile => ({
  // Not periodic in any buffer size, so that a piece in the wrong place changes the bytes.
  content: Buffer.from(Uint8Array.from({ length: bytes }, (_, index) => (index * index * 31 + seed * index) >> 3)),
  kind,
})

export let hub: FakeHub
export let out: string

beforeEach(async () => {
  out = join(await temporaryFolder(), 'model')
  hub = await FakeHub.start({
    'README.md': git('# A model\n'),
    LICENSE: git('MIT'),
    'config.json': git('{"model_type": "tiny"}'),
    'tokenizer.json': git('{}'),
    'chat_template.jinja': git('{{ messages }}'),
    'empty.safetensors': large(0, 0),
    [weights]: large(400_000, 1),
    'model-00002-of-00002.safetensors': large(200_000, 2, 'xet'),
    'model.safetensors.index.json': git('{"weight_map": {}}'),
    'vit/tower é #1/config.json': git('{"hidden": 1024}'),
    'vit/pytorch_model.bin': large(1000, 3),
    'training/optimizer.pt': large(1000, 4),
    '.gitattributes': git('*.safetensors filter=lfs'),
    'figure.png': git('png'),
  })
})

afterEach(async () => {
  vi.restoreAllMocks()
  await hub.close()
})

export function options(changes: Partial<PullOptions> = {}): PullOptions {
  const access = { endpoint: hub.endpoint, token: undefined, offline: false }
  return { repo, out, access, retry: { retries: 3, delayMs: 1 }, ...changes }
}

export async function refused(changes: Partial<PullOptions> = {}): Promise<FireError> {
  return await pull(options(changes)).then(
    () => expect.fail('it was not refused'),
    (error) => error,
  )
}

export async function manifest(): Promise<Manifest> {
  return JSON.parse(await readFile(join(out, 'fire-train.pull.json'), 'utf8'))
}

export async function parts(folder = out): Promise<string[]> {
  return (await readdir(folder, { recursive: true })).filter((name) => name.endsWith('.part'))
}

/** Beside the file, named after the content it will have. */
export function weightsPart(): string {
  return `${weights}.${sha256(hub.files[weights].content).slice(0, 12)}.part`
}

/** Resolves when the half that a stalled server sent has reached the disk. */
export async function halfOfWeights(): Promise<string> {
  const path = join(out, weightsPart())
  while (((await stat(path).catch(() => undefined))?.size ?? 0) < 150_000) await sleep(10)
  return path
}

export async function expectWhole(paths: string[]): Promise<void> {
  for (const path of paths) {
    expect(hub.files[path].content.equals(await readFile(join(out, path))), path).toBe(true)
  }
  expect(await parts()).toEqual([])
}

export const token = { value: 'hf_secret', source: 'HF_TOKEN' }
