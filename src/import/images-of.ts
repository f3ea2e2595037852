/** The forms in which records name or hold their images. */
import { type ImageSource, LeftOut } from './draft.js'
import { type Fields, kindOf } from './fields.js'

const fields = ['images', 'image', 'image_path', 'image_paths', 'image_name']

/** What the first of the image fields holds: one image or a list. `place` names those that come as bytes. */
export function imagesOf(record: Fields, place: string): ImageSource[] {
  const there = fields.filter((name) => record.has(name))
  if (there.length === 0) return []
  const [key] = there
  if (there.some((other) => JSON.stringify(record.get(other)) !== JSON.stringify(record.get(key)))) {
    record.note('several_image_fields')
  }
  const value = record.get(key)
  return (Array.isArray(value) ? value : [value]).map((item, index) =>
    imageSource(item, key, `${place}#${key}${index}`),
  )
}

/**
 * A path, bytes, or an object with one of them: the hub's `{bytes, path}`, the parts of chat messages.
 * @param key the field it stands in, for messages
 * @param name for an image that has none
 */
export function imageSource(value: unknown, key: string, name: string): ImageSource {
  if (typeof value === 'string' && value !== '') return fromText(value, name)
  if (value instanceof Uint8Array) return { name, bytes: value }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    throw new LeftOut('wrong_type', `${key}: expected a path, found ${kindOf(value)}`)
  }
  const { bytes, path, url, image, data, base64 } = value as Record<string, unknown>
  const named = typeof path === 'string' && path !== '' ? path : undefined
  const held = bytesOf(bytes ?? base64 ?? data)
  if (held) return { name: named ?? name, bytes: held }
  const inner = named ?? url ?? image
  if (inner !== undefined && inner !== null) return imageSource(inner, key, name)
  throw new LeftOut('no_image', `${key} has neither bytes nor a path`)
}

/** A path, unless it is the image itself. */
function fromText(text: string, name: string): ImageSource {
  const [uri, parameters] = /^data:([^,]{0,200}),/i.exec(text) ?? []
  if (uri !== undefined) {
    if (!/;\s*base64\s*$/i.test(parameters)) {
      throw new LeftOut('damaged_image', `a data URI "${uri}…" that is not base64 is not read`)
    }
    return { name, bytes: bytesOf(text.slice(uri.length)) ?? new Uint8Array() }
  }
  if (/^(https?|ftp|s3|gs|hf):\/\//i.test(text)) {
    throw new LeftOut('missing_image', `${text} is an address, and nothing is fetched: save the image as a file`)
  }
  // Base64 of PNG, JPEG, GIF and RIFF; a path is never so long without a dot.
  const bytes = /^(iVBORw0KGgo|\/9j\/|R0lGOD|UklGR)/.test(text) && text.length > 80 ? bytesOf(text) : undefined
  return bytes ? { name, bytes } : { name: text }
}

const base64 = /^[A-Za-z0-9+/_\s-]*={0,2}\s*$/

/** Bytes as parquet has them, as base64, as a list of numbers, or as Node writes a Buffer. */
function bytesOf(value: unknown): Uint8Array | undefined {
  if (value instanceof Uint8Array) return value.length > 0 ? value : undefined
  if (typeof value === 'string') return value !== '' && base64.test(value) ? Buffer.from(value, 'base64') : undefined
  const list = Array.isArray(value) ? value : (value as { data?: unknown } | null | undefined)?.data
  const isBytes =
    Array.isArray(list) && list.length > 0 && list.every((byte) => Number.isInteger(byte) && byte >= 0 && byte < 256)
  return isBytes ? Uint8Array.from(list) : undefined
}
