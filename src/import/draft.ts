/** What the kinds hand to the runner: a record with its images still to be found, or the reason why there is none. */
import type { Sample } from '../data/records.js'

/** Why a record of the source is not in the output; the keys of `leftOut` in the report. */
export type Reason =
  | 'not_an_object'
  | 'missing_field'
  | 'wrong_type'
  | 'wrong_columns'
  | 'empty_text'
  | 'invalid_markup'
  | 'language'
  | 'duplicate_field'
  | 'duplicate_id'
  | 'image_places'
  | 'no_image'
  | 'missing_image'
  | 'damaged_image'
  | 'unsupported_image'
  | 'frames'
  | 'unsafe_path'
  | 'multi_turn'
  | 'identical_answers'
  | 'unbalanced_tags'

/** Thrown where a record turns out to be unusable; the runner makes it a line of the report and goes on. */
export class LeftOut extends Error {
  constructor(
    readonly reason: Reason,
    message: string,
  ) {
    super(message)
  }
}

/** One record as the file has it. */
export interface Row {
  file: string
  /** Line it starts on, from 1; of a parquet file the row, of an XML file 1. */
  line: number
  /** Which of the file's records it is, from 0: a JSON file may be one line. */
  index: number
  value: unknown
  /** The key it stood under where records lie in `{"train": [...], ...}`. */
  group?: string
  /** Its own key where records lie in an object. */
  key?: string
  /** What its reader mended. */
  notes?: readonly string[]
}

/** Where an image is: a name below the image root, or its bytes. */
export interface ImageSource {
  name: string
  /** What mirrors call the same file. */
  otherName?: string
  bytes?: Uint8Array
}

/** Two answers to the question of a draft, as the source has them: `<mask>` tags included. */
export interface Preference {
  chosen: string
  rejected: string
  origin: string
  weight?: number
  provenance: Record<string, unknown>
  /** The images of the visual pair. */
  corrupted?: ImageSource[]
}

export interface Draft extends Omit<Sample, 'images' | 'answerType' | 'dataset'> {
  images: ImageSource[]
  /** What the source says about its kind of question; absent where it says nothing, a reason where it says another word. */
  closed?: boolean | LeftOut
  preference?: Preference
  /** The answer is one of the two preferred texts, not a reference: a pair is written, no sample. */
  pairOnly?: boolean
}

/** Settings that change what a record becomes. */
export interface ConvertSettings {
  language: string
  section: 'findings' | 'impression' | 'both'
  question: string | undefined
}
