/** An image that is inspected by itself, not as part of a record. */
import { open, stat } from 'node:fs/promises'
import { isDicom, isPicture } from '../data/image-kinds.js'
import { describeWithNotes } from '../data/images.js'
import { asFileError, isOfRecord } from '../errors.js'
import { document } from './files.js'
import { type Inspection, Problems } from './report.js'

/** What tells a DICOM file ends here. */
const telling = 132

/** Size and notes of a PNG, JPEG, WebP or DICOM file; undefined for any other. */
export async function readImage(path: string): Promise<Inspection | undefined> {
  const start = await readStart(path)
  if (!isPicture(start) && !isDicom(start) && !/\.(png|jpe?g|webp|dcm)$/i.test(path)) return undefined
  const problems = new Problems()
  const facts: Inspection['facts'] = []
  try {
    const { ref, notes } = await describeWithNotes(path, '')
    facts.push(['width', ref.width], ['height', ref.height], ['sha256', ref.sha256])
    for (const { message } of notes) problems.add('warning', 'the image may not show what it holds', message)
  } catch (error) {
    if (!isOfRecord(error)) throw error
    problems.add('error', 'the image cannot be used', [error.message, error.hint].filter(Boolean).join('. '))
  }
  return { ...document(path, 'image', facts), problems: problems.list() }
}

async function readStart(path: string): Promise<Buffer> {
  // Opening a pipe would wait for a writer.
  if (!(await stat(path).catch(asFileError('Reading', path))).isFile()) return Buffer.alloc(0)
  await using file = await open(path).catch(asFileError('Reading', path))
  const { buffer, bytesRead } = await file.read(Buffer.alloc(telling), 0, telling, 0)
  return buffer.subarray(0, bytesRead)
}
