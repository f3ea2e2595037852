/** An adapter or a merged model as a repository of the hub, with a card made from its run. */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { sha256File } from '../data/files.js'
import { ArgumentError, asFileError } from '../errors.js'
import type { LocalFile } from '../hub/index.js'
import { readManifest } from '../hub/manifest.js'
import { type CardSettings, modelCard } from './card.js'
import { type Shared, sharedFolder } from './folder.js'
import { problemsOf } from './lineage.js'
import { readAbout } from './run.js'

/** What is shared, and what is said of it. */
export interface ShareSettings extends Pick<CardSettings, 'repo' | 'license'> {
  /** An adapter, a merged model, or the folder of a training run. */
  folder: string
  /** The training run; default: that of the adapter's own folder. */
  run?: string
  /** Folder of an evaluation, for its numbers. */
  evaluation?: string
  /** On the hub; default: where `pull` had the model from. */
  baseModel?: string
  /** A card to send instead of the one that is made. */
  card?: string
}

/** Everything that would be sent. */
export interface Shipment extends Pick<Shared, 'kind' | 'folder' | 'leftOut'> {
  repo: string
  files: (LocalFile & { sha256: string })[]
  card: string
  /** Of the commit. */
  title: string
  /** What speaks against the training; the card says it too. */
  problems: string[]
}

/**
 * Decides what is sent; asks nobody and writes nothing.
 * @throws {ArgumentError} for names that are none of a hub. @throws {FireError} for folders that cannot be shared.
 */
export async function planShipment(settings: ShareSettings): Promise<Shipment> {
  const { repo, run, evaluation, license } = settings
  checkName('the repository', repo)
  const first = await sharedFolder(settings.folder, '')
  const about = await readAbout(first, run, evaluation)
  const baseModel = settings.baseModel ?? (await readManifest(about.training.config.model))?.repo
  if (baseModel === undefined) {
    throw new ArgumentError(`Nothing says where ${about.training.config.model} is on the hub`, {
      hint: 'Name the model that was trained with --base-model OWNER/NAME.',
    })
  }
  checkName('the base model', baseModel)
  const { kind, folder, files, leftOut } = await sharedFolder(settings.folder, baseModel)
  const card =
    settings.card === undefined
      ? modelCard({ kind }, about, { repo, baseModel, license })
      : await readFile(settings.card, 'utf8').catch(asFileError('Reading', settings.card))
  const content = Buffer.from(card)
  const all = [{ path: 'README.md', size: content.length, content }, ...files]
  const title = `${kind === 'adapter' ? 'Adapter' : 'Model'} of fire-train ${about.training.report.version}`
  const hashed: Shipment['files'] = []
  for (const file of all) hashed.push({ ...file, sha256: await hashOf(file) })
  return { repo, kind, folder, leftOut, card, title, problems: problemsOf(about), files: hashed }
}

function checkName(what: string, name: string): void {
  if (/^[\w-][\w.-]*\/[\w-][\w.-]*$/.test(name)) return
  throw new ArgumentError(`Expected OWNER/NAME for ${what} but received '${name.slice(0, 80)}'`)
}

const hashOf = ({ content }: LocalFile): Promise<string> | string =>
  content instanceof URL ? sha256File(fileURLToPath(content)) : createHash('sha256').update(content).digest('hex')
