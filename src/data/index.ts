/** `fire-train/data`: the records that stages exchange, JSON Lines, image files, and writes that a crash cannot spoil. */

export { JsonlAppender, writeFileAtomic, writeFolderAtomic } from './files.js'
export {
  checkReferenced,
  decodeImage,
  decodeReferenced,
  describeImage,
  imageSource,
  type PortableImage,
  portableImage,
} from './images.js'
export { type Line, readJsonl, writeJsonl } from './jsonl.js'
export {
  emptySide,
  type LoadedPairs,
  type LoadPairsOptions,
  loadPairs,
  type PairCounts,
  pairProblem,
} from './pairs.js'
export {
  type Edit,
  edit,
  type ImageRef,
  imageRef,
  type Pair,
  pair,
  type Response,
  response,
  type Sample,
  sample,
  type Verdict,
} from './records.js'
