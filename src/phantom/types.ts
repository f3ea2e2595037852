/** The words of the phantom world: what a study can contain and what can be asked about it. */

/** A side of the patient, not of the picture. */
export type Side = 'left' | 'right'
/** A third of a lung, from the top. */
export type Zone = 'upper' | 'middle' | 'lower'
/** How large a finding is drawn. */
export type Size = 'small' | 'large'
/** What a study may show. */
export type FindingType = 'cardiomegaly' | 'effusion' | 'nodule' | 'opacity' | 'fracture' | 'pacemaker'

/** Each of the four regions is normal or carries one finding. */
export type Region = 'heart' | 'pleura' | 'lungs' | 'wall'

/** `pretrain` is the bundled model's own stream: no other split shares an image with it. */
export type Split = 'pretrain' | 'train' | 'validation' | 'test'

/**
 * How hard a world is to read. What its studies hold and what they are asked does not depend on it, so a harder world has the same
 * questions about the same findings.
 */
export interface Difficulty {
  /** Of the findings, as a share of the standard world's; the heart's size and metal keep theirs. In (0, 1]. */
  contrast: number
  /**
   * Of opacities, fractures and findings called small, as a share of the standard world's; an enlarged heart comes as much nearer to
   * a normal one. What is called large keeps its size, or it would be called falsely. In [0.6, 1].
   */
  size: number
  /** Every report is on all four regions: four sentences instead of two to four. */
  fullReports: boolean
}

/** The world of the bundled model. */
export const STANDARD: Readonly<Difficulty> = { contrast: 1, size: 1, fullReports: false }

export const SIDES: readonly Side[] = ['left', 'right']
export const ZONES: readonly Zone[] = ['upper', 'middle', 'lower']
export const SIZES: readonly Size[] = ['small', 'large']
export const REGIONS: readonly Region[] = ['heart', 'pleura', 'lungs', 'wall']
export const COUNTS: readonly number[] = [1, 2, 3]

export const REGION_FINDINGS: Readonly<Record<Region, readonly FindingType[]>> = {
  heart: ['cardiomegaly'],
  pleura: ['effusion'],
  lungs: ['nodule', 'opacity'],
  wall: ['fracture', 'pacemaker'],
}

export const FINDING_TYPES: readonly FindingType[] = REGIONS.flatMap((region) => REGION_FINDINGS[region])

export function regionOf(type: FindingType): Region {
  for (const region of REGIONS) if (REGION_FINDINGS[region].includes(type)) return region
  throw new RangeError(`unknown finding type "${type}"`)
}

/** What can be said of a finding. Sides are the patient's: `left` lies at the right of the picture. */
export interface FindingFacts {
  type: FindingType
  side: Side | null
  /** Null where it does not apply, and for several nodules scattered over one lung. */
  zone: Zone | null
  size: Size | null
  count: number
}

/** A finding and the pixels that show it. */
export interface Finding extends FindingFacts {
  /** width * height, row-major; 1 inside the lesion. */
  mask: Uint8Array
}

/** What a question asks: the intent and its object. Closed intents are `presence` and `side-check`. */
export type Ask =
  | { intent: 'presence' | 'side' | 'zone' | 'where' | 'size' | 'count'; finding: FindingType }
  | { intent: 'side-check'; finding: FindingType; asked: Side }
  | { intent: 'kind'; finding: FindingType; region: Region }
  | { intent: 'report'; scope: Region[] }

/** What a full-sentence answer to a question states. Only the slots of the intent are set. */
export interface Claim {
  finding: FindingType
  present?: boolean
  side?: Side
  zone?: Zone
  size?: Size
  count?: number
}

/** A question about a study, with its reference answer and truth. */
export interface StudyQuestion {
  id: string
  task: 'vqa' | 'report'
  question: string
  /** Terse reference ("yes", "left upper"); never in the style of the model's sentences. */
  answer: string
  answerType: 'closed' | 'open'
  /** The finding type or, for a report, `report`: what the lesion mask is chosen by. */
  concept: string
  /** `{ ask: Ask, claim: Claim | null, findings: FindingFacts[] }` */
  truth: Truth
}

/** Everything a judge needs: what is asked, the right claim (null for a report), and what is in the picture. */
export type Truth = { ask: Ask; claim: Claim | null; findings: FindingFacts[] }

/** A synthetic radiograph with its findings, report and questions. */
export interface Study {
  id: string
  split: Split
  width: number
  height: number
  /** width * height * 3 bytes, row-major, interleaved. */
  rgb: Uint8Array
  findings: Finding[]
  /** Terse reference report. */
  report: string
  questions: StudyQuestion[]
  /** Where each finding would lie if it were there; used to corrupt the picture for an absent concept. */
  regions: Record<FindingType, Uint8Array>
}

export type EditCategory = 'presence' | 'laterality' | 'location' | 'size' | 'count' | 'finding'
