/** Finished evaluations, read again. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { asFileError, DataError, guarded } from '../errors.js'
import type { EvaluationResults } from './evaluation.js'
import { evaluationFiles } from './files.js'

/** What tells evaluation.json from other JSON, and from that of earlier versions. */
const shape = z.looseObject({
  baseline: z.string(),
  judging: z.looseObject({ first: z.string(), description: z.string() }),
  systems: z.array(z.looseObject({ name: z.string(), about: z.record(z.string(), z.unknown()) })),
  inputs: z.looseObject({ samples: z.string(), imageRoot: z.string() }),
})

/** Reads evaluation.json of a folder. @throws {FileError} when there is none. @throws {DataError} when it is no evaluation. */
export async function readEvaluation(folder: string): Promise<EvaluationResults> {
  const path = join(folder, evaluationFiles.results)
  const text = await readFile(path, 'utf8').catch(asFileError('Reading', path))
  const value = guarded(
    () => JSON.parse(text) as unknown,
    (reason, cause) => new DataError(`${path} is not JSON: ${reason}`, { cause }),
  )
  if (shape.safeParse(value).success) return value as EvaluationResults
  throw new DataError(`${path} is not an evaluation of this version`, {
    detail: { path },
    hint: 'Evaluate again: replies that were paid for are kept in the folder.',
  })
}
