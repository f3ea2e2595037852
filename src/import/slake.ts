/** SLAKE: questions in English and Chinese, organ and disease masks named by mask.txt, detection boxes. */
import { readdir, readFile, stat } from 'node:fs/promises'
import { join, posix } from 'node:path'
import type { ManifestLine } from '../corrupt/index.js'
import { decodeImage } from '../data/images.js'
import type { ImageRef, Sample } from '../data/records.js'
import { type ConvertSettings, type Draft, type ImageSource, LeftOut, type Row } from './draft.js'
import type { Fields, Notes } from './fields.js'
import type { ImageStore } from './images.js'
import { type Kind, type Source, splitFrom } from './source.js'

const keys = ['img_name', 'q_lang', 'question', 'answer']

function convert(fields: Fields, row: Row, { language }: ConvertSettings): Draft {
  const spoken = fields.text('q_lang')
  if (language !== 'all' && spoken !== language) {
    throw new LeftOut('language', `the question is in "${spoken}", asked for is ${language}`)
  }
  return {
    id: `slake-${fields.id('qid')}`,
    split: splitFrom(fields, row),
    task: 'vqa',
    language: spoken,
    images: [imageOf(fields.text('img_name'), fields)],
    question: fields.text('question'),
    answer: fields.answer(),
    closed: fields.closed(),
    meta: fields.rest([...keys, 'qid', 'answer_type']),
  }
}

/** Some mirrors repeat the folder in the names of its files. */
function imageOf(said: string, fields: Fields): ImageSource {
  const name = said.replaceAll('\\', '/')
  if (name !== said) fields.note('backslash_in_path')
  const { dir, base } = posix.parse(name)
  return base === 'source.jpg' ? { name, otherName: `${dir}/source_${posix.basename(dir)}.jpg` } : { name }
}

interface Box {
  label: string
  /** x, y, width, height in pixels. */
  box: [number, number, number, number]
}

/** What lies beside `imgs/xmlabN/source.jpg`, made once an image. */
class Annotations {
  readonly #known = new Map<string, Promise<Record<string, unknown>>>()
  #labels: Promise<Map<number, string> | undefined> | undefined

  of(source: ImageSource, store: ImageStore, note: Notes): Promise<Record<string, unknown>> {
    const { name } = source
    const known = this.#known.get(name) ?? this.#read(source, store, note)
    this.#known.set(name, known)
    return known
  }

  async #read(source: ImageSource, store: ImageStore, note: Notes): Promise<Record<string, unknown>> {
    const folder = posix.dirname(source.name)
    const study = posix.basename(folder)
    const image = await store.take(source)
    const maskName = await firstThere(store, [`${folder}/mask.png`, `${folder}/mask_${study}.png`])
    const boxName = await firstThere(store, [`${folder}/detection.json`])
    const mask = maskName === undefined ? undefined : await this.#mask(maskName, image, store, note)
    const boxes = boxName === undefined ? undefined : await readBoxes(await store.find(boxName), image, note)
    if (mask === undefined) note('no_mask')
    return { ...(mask && { mask }), ...(boxes && { boxes }) }
  }

  /** Class ids are grey values; `mask.txt` names them, and nothing else does. */
  async #mask(name: string, image: ImageRef, store: ImageStore, note: Notes): Promise<object | undefined> {
    this.#labels ??= readLabels(store)
    const labels = await this.#labels
    if (labels === undefined) note('no_mask_txt')
    try {
      const { path, sha256, width, height } = await store.take({ name }, 'masks')
      if (width !== image.width || height !== image.height) {
        note('mask_of_another_size')
        return undefined
      }
      const { rgb } = await decodeImage(await store.find(name))
      const values = new Set<number>()
      for (let at = 0; at < rgb.length; at += 3) values.add(rgb[at])
      const classes = [...values].filter((value) => value !== 0).sort((a, b) => a - b)
      if (labels && classes.some((value) => !labels.has(value))) note('mask_class_not_in_mask_txt')
      return { path, sha256, classes: classes.map((value) => ({ value, label: labels?.get(value) ?? null })) }
    } catch (error) {
      if (!(error instanceof LeftOut)) throw error
      note('mask_unreadable')
      return undefined
    }
  }
}

async function firstThere(store: ImageStore, names: readonly string[]): Promise<string | undefined> {
  for (const name of names) {
    const path = await store.find(name).catch((error) => {
      if (error instanceof LeftOut) return undefined
      throw error
    })
    if (path !== undefined) return name
  }
  return undefined
}

/** `id:Label` lines; ids are sparse. */
async function readLabels(store: ImageStore): Promise<Map<number, string> | undefined> {
  const name = await firstThere(store, ['mask.txt'])
  if (name === undefined) return undefined
  const lines = (await readFile(await store.find(name), 'utf8')).split(/\r?\n/)
  const entries = lines.map((line) => /^\s*(\d+)\s*[:：]\s*(.+?)\s*$/.exec(line)).filter((match) => match !== null)
  return new Map(entries.map(([, id, label]) => [Number(id), label]))
}

/** `[{"Liver": [x, y, w, h]}, …]`. What does not fit is noted and dropped: boxes are an extra, the question stays. */
async function readBoxes(file: string, image: ImageRef, note: Notes): Promise<Box[]> {
  let list: unknown
  try {
    list = JSON.parse(await readFile(file, 'utf8'))
  } catch {
    note('detection_unreadable')
    return []
  }
  if (!Array.isArray(list)) {
    note('detection_unreadable')
    return []
  }
  return list.flatMap((entry) =>
    Object.entries(entry ?? {}).flatMap(([label, box]): Box[] => {
      const numbers = Array.isArray(box) && box.length === 4 && box.every((side) => Number.isFinite(side))
      const [x, y, width, height] = numbers ? (box as Box['box']) : [0, 0, 0, 0]
      const inside = x >= 0 && y >= 0 && x + width <= image.width && y + height <= image.height
      if (!(width > 0 && height > 0)) note('box_unusable')
      else if (!inside) note('box_beyond_the_image')
      return width > 0 && height > 0 ? [{ label, box: [x, y, width, height] }] : []
    }),
  )
}

/** `imgs/xmlabN/question.json`, the rows of one image, where the split files are not there. */
async function perImageFiles(source: Source): Promise<string[]> {
  if ((await source.filesWith(['.json'], keys)).length > 0) return []
  const folder = join(source.path, 'imgs')
  const studies = await readdir(folder).catch(() => [])
  const files: string[] = []
  for (const study of studies.sort(byNumber.compare)) {
    const file = join(folder, study, 'question.json')
    if (
      await stat(file).then(
        (status) => status.isFile(),
        () => false,
      )
    )
      files.push(file)
  }
  return files
}

const byNumber = new Intl.Collator('en', { numeric: true })

const annotations = (): Pick<Kind['layouts'][number], 'beside'> => {
  const known = new WeakMap<ImageStore, Annotations>()
  return {
    async beside(draft, store, note) {
      const found = known.get(store) ?? new Annotations()
      known.set(store, found)
      return found.of(draft.images[0], store, note)
    },
  }
}

interface Masked {
  mask?: { path: string; classes: { value: number; label: string | null }[] }
  boxes?: Box[]
}

/** One line a label: its pixels, or where no mask shows it, its boxes. */
function masksOf({ images: [image], meta }: Sample): ManifestLine[] {
  if (!image) return []
  const { mask, boxes = [] } = meta as Masked
  const lines = new Map<string, object>()
  for (const { label } of boxes) {
    lines.set(label, { boxes: boxes.filter((each) => each.label === label).map(({ box }) => box) })
  }
  for (const { value, label } of mask?.classes ?? []) {
    if (label !== null) lines.set(label, { file: mask?.path, value })
  }
  return [...lines].map(([concept, shown]) => ({ image: image.sha256, concept, mask: shown }))
}

const imageFolders = ['imgs', 'images', '']

export const slake: Kind = {
  name: 'slake',
  masksOf,
  licence: `SLAKE: CC BY 4.0 (https://www.med-vqa.com/slake). Please cite: Liu, Zhan, Xu, Ma, Yang, Wu: SLAKE: A
Semantically-Labeled Knowledge-Enhanced Dataset for Medical Visual Question Answering. ISBI 2021.
Changed here: rows became sample records; images and masks are stored under their hashes.`,
  layouts: [
    {
      name: 'splits',
      looksLike: 'train.json, validate.json (or validation.json) and test.json, lists with img_name and q_lang',
      find: (source) => source.filesWith(['.json', '.jsonl'], keys),
      imageFolders,
      convert,
      ...annotations(),
    },
    {
      name: 'per-image',
      looksLike: 'imgs/xmlabN/question.json beside each image',
      find: perImageFiles,
      imageFolders,
      convert,
      ...annotations(),
    },
  ],
}
