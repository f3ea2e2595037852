import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { Chat } from '../../src/text/chat.js'
import { temporaryFolder } from '../fakes/world.js'

const root = fileURLToPath(new URL('../..', import.meta.url))

it('makes a folder whose prompts can be written', async () => {
  const folder = await temporaryFolder()
  const script = join(root, 'bench', 'large', 'make_checkpoint.mjs')
  await promisify(execFile)(process.execPath, [script, folder, join(root, 'models', 'phantom', 'config.json')])
  const config = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8'))
  const chat = await Chat.load(folder, { imageTokenId: config.image_token_id, eosTokenIds: [] })
  expect(chat.promptIds('Is there a nodule?', [4]).length).toBeGreaterThan(4)
}, 120_000)
