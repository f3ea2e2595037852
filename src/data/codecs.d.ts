/** What we call of codecs that ship no types. */
declare module 'jpeg-lossless-decoder-js' {
  export class Decoder {
    decode(buffer: ArrayBuffer, offset: number, length: number): Uint8Array | Uint16Array
  }
}

interface WasmFrameInfo {
  width: number
  height: number
  bitsPerSample: number
  componentCount: number
}

/** Memory of a decoder belongs to its module: copy what is kept, and delete the decoder. */
interface WasmDecoder {
  getEncodedBuffer(length: number): Uint8Array
  decode(): void
  getFrameInfo(): WasmFrameInfo
  getDecodedBuffer(): Uint8Array
  /** 0: planes, 1: lines of components, 2: pixels. */
  getInterleaveMode(): number
  delete(): void
}

interface WasmOptions {
  print(): void
  printErr(): void
}

declare module '@cornerstonejs/codec-charls/decodewasmjs' {
  export default function load(options: WasmOptions): Promise<{ JpegLSDecoder: new () => WasmDecoder }>
}

declare module '@cornerstonejs/codec-openjpeg/decodewasmjs' {
  export default function load(options: WasmOptions): Promise<{ J2KDecoder: new () => WasmDecoder }>
}
