/** One folder for everything the tests write, removed at the end. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export default function setup(): () => void {
  const folder = mkdtempSync(join(tmpdir(), 'fire-train-tests-'))
  process.env.FIRE_TEST_FOLDER = folder
  return () => rmSync(folder, { recursive: true, force: true })
}
