/**
 * Images of a source into the folder of the import: found below one root and nowhere else, decoded once to know that they
 * are whole, hashed, and stored under their hash, so that equal bytes are one file.
 */
import { constants } from 'node:fs'
import { copyFile, readdir, realpath, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, extname, isAbsolute, join, relative, sep, win32 } from 'node:path'
import { makeFolder, sha256, sha256File } from '../data/files.js'
import { describeWithNotes } from '../data/images.js'
import type { ImageRef } from '../data/records.js'
import { asFileError, DataError, fileError, UnsupportedError } from '../errors.js'
import { type ImageSource, LeftOut } from './draft.js'
import type { Notes } from './fields.js'

export interface ImageStoreOptions {
  /** Where names are looked up. */
  root: string
  /** Folders below the root, in the order they are tried; '' is the root itself. */
  folders: readonly string[]
  /** The folder of the import. */
  out: string
}

export class ImageStore {
  readonly #options: ImageStoreOptions
  readonly #known = new Map<string, Promise<ImageRef>>()
  /** Files written, by path below the folder of the import. */
  readonly #stored = new Map<string, Promise<void>>()
  /** Those that hold an image, or of whose frames one is. */
  readonly #whole = new Set<string>()
  #missing = 0
  #sameContent = 0

  constructor(options: ImageStoreOptions) {
    this.#options = options
  }

  /**
   * The reference of an image, which then lies in the folder.
   * @param note is told what is unusual about the image, once.
   * @throws {LeftOut} `unsafe_path`, `missing_image`, `damaged_image`, `unsupported_image` or `frames`, the same for every
   * record that names it.
   */
  take(source: ImageSource, folder = 'images', note: Notes = () => {}): Promise<ImageRef> {
    if (source.bytes) return this.#takeBytes(source.bytes, source.name, folder, note)
    const key = `${folder}/${source.name}`
    let known = this.#known.get(key)
    if (!known) {
      known = this.#takeEither(source, folder, note)
      this.#known.set(key, known)
      known.catch(() => {
        this.#missing += 1
      })
    }
    return known
  }

  /** Deletes what turned out to be no image, and counts: files stored, names with the bytes of another, names in vain. */
  async close(): Promise<{ stored: number; sameContent: number; missing: number }> {
    for (const path of this.#stored.keys()) {
      if (!this.#whole.has(path)) await rm(join(this.#options.out, path), { force: true })
    }
    const stored = [...this.#whole].filter(isPicture).length
    return { stored, sameContent: this.#sameContent, missing: this.#missing }
  }

  /** The real path of a file below the root; a name with `\\` may have been written on Windows. */
  async find(name: string): Promise<string> {
    checkName(name)
    const { root, folders } = this.#options
    const realRoot = await realpath(root).catch(asFileError('Reading', root))
    let special: string | undefined
    const names = name.includes('\\') ? [name, name.replaceAll('\\', '/')] : [name]
    for (const place of folders.flatMap((folder) => names.map((each) => join(root, folder, each)))) {
      const path = await realpath(place).catch(() => undefined)
      if (path === undefined) continue
      if (!isInside(realRoot, path)) {
        throw new LeftOut('unsafe_path', `${name} is a link to ${path}, outside the image root ${root}`)
      }
      // A pipe or device would block for ever.
      const about = await stat(path)
      if (about.isFile()) return path
      if (!about.isDirectory()) special = path
    }
    if (special !== undefined) {
      throw new LeftOut('unsupported_image', `${special} is a pipe or device, not a plain file`)
    }
    throw new LeftOut('missing_image', `${name} is not below ${root}${await this.#archiveHint()}`)
  }

  async #takeEither({ name, otherName }: ImageSource, folder: string, note: Notes): Promise<ImageRef> {
    if (otherName === undefined) return this.#takeFile(name, folder, note)
    return this.#takeFile(name, folder, note).catch((error) =>
      this.#takeFile(otherName, folder, note).catch(() => {
        throw error
      }),
    )
  }

  async #takeFile(name: string, folder: string, note: Notes): Promise<ImageRef> {
    const [file, frame] = await this.#findFrame(name)
    const hash = await sha256File(file)
    const path = `${folder}/${hash}${extname(file).toLowerCase()}`
    const image = await this.#keep(path, frame, name, note, async (target) => {
      await copyFile(file, target, constants.COPYFILE_FICLONE)
    })
    if (frame === '' && image.sha256 !== hash) throw new LeftOut('damaged_image', `${name} changed while it was read`)
    return { ...image, name }
  }

  /** `scan.dcm#3` is the third frame of a file, unless a file is called so. */
  async #findFrame(name: string): Promise<[file: string, frame: string]> {
    const [, file, frame] = /^(.+)(#[1-9]\d*)$/.exec(name) ?? []
    if (file === undefined) return [await this.find(name), '']
    return this.find(name).then(
      (path): [string, string] => [path, ''],
      async (): Promise<[string, string]> => [await this.find(file), frame],
    )
  }

  async #takeBytes(bytes: Uint8Array, name: string, folder: string, note: Notes): Promise<ImageRef> {
    const path = `${folder}/${sha256(bytes)}${extensionOf(bytes)}`
    return this.#keep(path, '', name, note, (target) => writeFile(target, bytes))
  }

  async #keep(
    path: string,
    frame: string,
    name: string,
    note: Notes,
    write: (target: string) => Promise<void>,
  ): Promise<ImageRef> {
    const { out } = this.#options
    const target = join(out, path)
    const earlier = this.#stored.get(path)
    const written = earlier ?? store(target, write)
    this.#stored.set(path, written)
    if (earlier && isPicture(path)) this.#sameContent += 1
    await written
    try {
      const { ref, notes } = await describeWithNotes(`${path}${frame}`, out)
      this.#whole.add(path)
      for (const { kind } of notes) note(kind)
      return ref
    } catch (error) {
      throw leftOut(error, target, name)
    }
  }

  /** The commonest reason for missing images is an archive that was not unpacked. */
  async #archiveHint(): Promise<string> {
    const names = await readdir(this.#options.root).catch(() => [])
    const archive = names.find((name) => /\.(zip|tar|tgz|tar\.gz|7z)$/i.test(name))
    return archive === undefined ? '' : ` (${archive} lies there: unpack it first)`
  }
}

/** Why an image cannot be used, and what to do about it, in the name that the record has for it. */
function leftOut(error: unknown, target: string, name: string): unknown {
  if (!(error instanceof DataError || error instanceof UnsupportedError)) return error
  const text = [error.message, error.hint].filter(Boolean).join('. ').replaceAll(target, name)
  if (error.detail.frames !== undefined) return new LeftOut('frames', text)
  return new LeftOut(error instanceof UnsupportedError ? 'unsupported_image' : 'damaged_image', text)
}

async function store(target: string, write: (target: string) => Promise<void>): Promise<void> {
  try {
    await makeFolder(dirname(target))
    await write(target)
  } catch (error) {
    throw fileError(error, 'Writing', target)
  }
}

const isPicture = (path: string): boolean => path.startsWith('images/')

function checkName(name: string): void {
  const steps = name.split(/[\\/]/)
  if (name === '' || name.includes('\0') || isAbsolute(name) || win32.isAbsolute(name) || steps.includes('..')) {
    throw new LeftOut('unsafe_path', `${JSON.stringify(name)} is not a plain path below the image root`)
  }
}

function isInside(root: string, path: string): boolean {
  const way = relative(root, path)
  return way !== '' && way !== '..' && !way.startsWith(`..${sep}`) && !isAbsolute(way)
}

/** Bytes of a table have no name to go by. */
function extensionOf(bytes: Uint8Array): string {
  const start = Buffer.from(bytes.subarray(0, 132)).toString('latin1')
  if (start.startsWith('\x89PNG')) return '.png'
  if (start.startsWith('\xff\xd8\xff')) return '.jpg'
  if (start.startsWith('RIFF')) return '.webp'
  return start.endsWith('DICM') ? '.dcm' : ''
}
