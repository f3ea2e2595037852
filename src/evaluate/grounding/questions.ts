/** Questions with boxes of what they ask about: the files of VGMED, and records of one's own in their form. */
import { basename, dirname, resolve, sep } from 'node:path'
import { z } from 'zod'
import { placeOf, readJsonl } from '../../data/jsonl.js'
import { DataError } from '../../errors.js'
import { hashNumber } from '../../pairs/choice.js'
import { type Box, cornersOf } from './boxes.js'

export const groundingKinds = ['localization', 'attribute'] as const
/** What is asked: where something is, or what it is like. */
export type GroundingKind = (typeof groundingKinds)[number]

export const boxFormats = ['auto', 'xywh', 'xyxy'] as const
/** `auto` is VGMED's own rule: `xywh` where the path of the image begins with `Slake`, else `xyxy`. */
export type BoxFormat = (typeof boxFormats)[number]

/** A question about an image and the boxes that answer it. */
export interface GroundingQuestion {
  /** Of the record, or `VGMED_localization-12` for line 12 of that file. */
  id: string
  kind: GroundingKind
  /** Path below the folder of images. */
  image: string
  question: string
  /** Corners in pixels of the image; empty where the record has none. */
  boxes: Box[]
}

const box = z.tuple([z.number(), z.number(), z.number(), z.number()])
const boxes = z.union([z.array(box), box.transform((one) => [one])])
const record = z.object({
  id: z.union([z.string(), z.number()]).optional(),
  kind: z.enum(groundingKinds).optional(),
  image: z.string().min(1),
  question: z.string().min(1),
  bbox: boxes.optional(),
  original_bboxes: boxes.optional(),
})

/** Questions whose images lie below one folder. */
export interface GroundingSet {
  questions: GroundingQuestion[]
  /** Paths of images are relative to it. */
  root: string
}

/**
 * Reads files of questions with boxes, one set for each folder of images.
 * @param format how boxes are written; a record that has both fields is read by `bbox`.
 * @param images folder of all images; default: each file's own.
 * @throws {DataError} for a record of another form, for a kind that neither the record nor the name of the file says, and for an id
 * that is there twice: systems are compared by it.
 */
export async function readGroundingFiles(
  files: readonly string[],
  format: BoxFormat = 'auto',
  images?: string,
): Promise<GroundingSet[]> {
  const sets = new Map<string, GroundingQuestion[]>()
  const taken = new Map<string, string>()
  for (const [i, name] of namesOf(files).entries()) {
    const root = images ?? dirname(files[i])
    const questions = sets.get(resolve(root)) ?? []
    sets.set(resolve(root), questions)
    for (const { line, ...question } of await readGroundingQuestions(files[i], name, format)) {
      const place = placeOf(files[i], line)
      const earlier = taken.get(question.id)
      if (earlier !== undefined) {
        throw new DataError(`${place}: the id ${question.id} is taken by ${earlier}`, {
          detail: { path: files[i], line, id: question.id },
          hint: 'Systems are compared question by question, so each must have an id of its own.',
        })
      }
      taken.set(question.id, place)
      questions.push(question)
    }
  }
  return [...sets].map(([root, questions]) => ({ questions, root }))
}

/** What tells files apart: their paths without what all share, and without the ending. */
function namesOf(files: readonly string[]): string[] {
  const paths = files.map((file) => resolve(file).split(sep))
  const isShared = (at: number): boolean => paths.every((path) => at < path.length - 1 && path[at] === paths[0][at])
  let shared = 0
  while (isShared(shared)) shared++
  return paths.map((path) =>
    path
      .slice(shared)
      .join('/')
      .replace(/\.jsonl?$/, ''),
  )
}

async function readGroundingQuestions(
  path: string,
  name: string,
  format: BoxFormat,
): Promise<(GroundingQuestion & { line: number })[]> {
  const named = groundingKinds.find((kind) => basename(path).toLowerCase().includes(kind.slice(0, 9)))
  const questions: (GroundingQuestion & { line: number })[] = []
  for await (const { record: each, line } of readJsonl(path, record)) {
    const kind = each.kind ?? named
    if (!kind) {
      throw new DataError(
        `${placeOf(path, line)}: neither the record nor the file's name says what kind of question it is`,
        {
          detail: { path, line },
          hint: `Add "kind": ${groundingKinds.map((one) => `"${one}"`).join(' or ')}, or put it into the name of the file.`,
        },
      )
    }
    const written = each.bbox ?? each.original_bboxes ?? []
    const isCorners = format === 'xyxy' || (format === 'auto' && !/^slake/i.test(each.image))
    questions.push({
      line,
      id: each.id === undefined ? `${name}-${line}` : String(each.id),
      kind,
      image: each.image,
      question: each.question,
      boxes: isCorners ? written : written.map(cornersOf),
    })
  }
  return questions
}

/** Questions of each kind whose maps are kept. */
const mapsOfKind = 3

/** Kind and id of the questions whose maps are kept: of different images, drawn by the seed. */
export function chosenForMaps(questions: readonly GroundingQuestion[], seed: number): ReadonlySet<string> {
  const ranked = questions
    .filter(({ boxes }) => boxes.length > 0)
    .map((question) => ({ question, rank: hashNumber('map', String(seed), question.kind, question.id) }))
    .sort((a, b) => a.rank - b.rank)
  return new Set(
    groundingKinds.flatMap((kind) => {
      const byImage = new Map<string, string>()
      for (const { question } of ranked) {
        if (question.kind === kind && !byImage.has(question.image))
          byImage.set(question.image, `${kind} ${question.id}`)
      }
      return [...byImage.values()].slice(0, mapsOfKind)
    }),
  )
}
