import type { Size } from './records.js'

/** What a decoder makes of a file: `rgb` [height, width, 3], 0..255. */
export interface Decoded extends Size {
  rgb: Uint8Array
  notes: ImageNote[]
}

/** What a reader should know of an image that could be decoded. */
export interface ImageNote {
  kind: 'dark_16_bits' | 'window_replaced'
  /** In words, with the numbers, to follow the name of the image. */
  message: string
}
