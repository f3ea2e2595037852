// @ts-check
/**
 * Decodes parquet in a thread of its own: a damaged file can send the decoder into endless loops or out of memory, and this
 * thread can be ended. Plain JavaScript, so that it is the same file before and after compiling.
 *
 * hyparquet reads row groups without native code; hyparquet-compressors adds what it lacks (gzip, brotli, zstd, lz4).
 */
import { isUtf8 } from 'node:buffer'
import { parentPort, workerData } from 'node:worker_threads'
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } from 'hyparquet'
import { compressors } from 'hyparquet-compressors'

/** A row group is what must be decoded at once. */
const mostBytes = 2 ** 29
const mostRows = 2 ** 20

const port = /** @type {import('node:worker_threads').MessagePort} */ (parentPort)

/**
 * A text to the letter, byte-order mark included; bytes that are no text stay bytes.
 * @param {Uint8Array} bytes
 */
const textOf = (bytes) => (bytes && isUtf8(bytes) ? Buffer.from(bytes).toString() : bytes)

async function main() {
  const file = await asyncBufferFromFile(workerData.path)
  const metadata = await parquetMetadataAsync(file)
  let rowStart = 0
  for (const group of metadata.row_groups) {
    const rows = Number(group.num_rows)
    const bytes = group.columns.reduce((sum, { meta_data }) => sum + Number(meta_data?.total_uncompressed_size ?? 0), 0)
    if (!(rows >= 0 && rows <= mostRows && bytes >= 0 && bytes <= mostBytes)) {
      throw new Error(`a row group of ${rows} rows and ${bytes} bytes; at most ${mostRows} and ${mostBytes} are read`)
    }
    const rowEnd = rowStart + rows
    const values = await parquetReadObjects({
      file,
      metadata,
      rowStart,
      rowEnd,
      utf8: false,
      compressors,
      parsers: { stringFromBytes: textOf },
    })
    if (values.length !== rows) throw new Error(`${values.length} rows where the row group has ${rows}`)
    /** @type {ArrayBuffer[]} */
    const moved = []
    const plainValues = values.map((value) => plain(value, moved))
    await answer({ rowStart, values: plainValues }, moved)
    rowStart = rowEnd
  }
  if (rowStart !== Number(metadata.num_rows)) {
    throw new Error(`${rowStart} rows in its groups where the file has ${metadata.num_rows}`)
  }
}

/**
 * 64-bit columns hold counts and ids; what a number cannot hold becomes its digits. Bytes are copied out of their page,
 * which would travel along whole.
 * @param {unknown} value
 * @param {ArrayBuffer[]} moved what is handed over to the reader without another copy
 * @returns {unknown}
 */
function plain(value, moved) {
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value)
  if (Array.isArray(value)) return value.map((item) => plain(item, moved))
  if (value instanceof Uint8Array) {
    const bytes = new Uint8Array(value)
    moved.push(bytes.buffer)
    return bytes
  }
  if (value === null || typeof value !== 'object' || value instanceof Date || ArrayBuffer.isView(value)) return value
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item, moved)]))
}

/**
 * The reader asks for each message: it misses none, and no more than one row group lies in memory.
 * @param {object} message
 * @param {ArrayBuffer[]} moved
 */
async function answer(message, moved) {
  await new Promise((resolve) => port.once('message', resolve))
  port.postMessage(message, moved)
}

main().then(
  () => answer({ done: true }, []),
  (error) =>
    answer({ failed: error instanceof Error ? error.message : String(error), code: error?.syscall && error.code }, []),
)
