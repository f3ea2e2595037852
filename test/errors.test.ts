/** The codes of both languages held against each other, and what becomes of the errors of the system and of libraries. */
import { readdirSync, readFileSync } from 'node:fs'
import { constants } from 'node:os'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import * as errors from '../src/errors.js'
import {
  DataError,
  DiskFullError,
  errorCodes,
  errorFromCode,
  FileError,
  FireError,
  InternalError,
} from '../src/errors.js'
import { EditError } from '../src/pairs/edits.js'

const root = new URL('../', import.meta.url)
const text = (path: string): string => readFileSync(new URL(path, root), 'utf8')

const classes = [...Object.values(errors), EditError].filter(
  (each): each is typeof DataError => Object.getPrototypeOf(each) === FireError || each === EditError,
)

/** Every `Code::name` of the C++ sources, as it reaches JavaScript. */
function thrownCodes(): string[] {
  const sources = ['native', 'cuda'].flatMap((folder) =>
    readdirSync(fileURLToPath(new URL(folder, root)), { recursive: true, encoding: 'utf8' })
      .filter((name) => /\.(h|cpp|cu|cuh)$/.test(name))
      .map((name) => text(`${folder}/${name}`)),
  )
  return sources.flatMap((source) =>
    [...source.matchAll(/Code::([a-z]\w*)/g)].map(([, name]) => `ERR_FIRE_${name.toUpperCase()}`),
  )
}

describe('the list of codes', () => {
  it('has one class for each', () => {
    expect(classes.map(({ code }) => code).sort()).toEqual([...errorCodes].sort())
  })

  it('holds what C++ spells and throws, each with a class of its own', () => {
    const spelled = [...text('native/tensor/error.h').matchAll(/"(ERR_FIRE_\w+)"/g)].map(([, code]) => code)
    const native = new Set([...spelled.slice(1), ...thrownCodes()])
    expect(native.size).toBeGreaterThan(8)
    expect([...new Set(thrownCodes())].filter((code) => !spelled.includes(code))).toEqual([])
    for (const code of native) {
      expect(errorCodes).toContain(code)
      expect(errorFromCode(code, 'x')).toMatchObject({ code })
    }
  })

  it('is documented: the class, what happened and what to do', () => {
    const row = /^\| `(ERR_FIRE_\w+)` \| `(\w+)` \| [^|\s][^|]* \| [^|\s][^|]* \|$/gm
    const rows = [...text('docs/errors.md').matchAll(row)]
    expect(rows.map(([, code, name]) => [code, name])).toEqual(
      classes.map(({ code, name }) => [code, name]).sort(([a], [b]) => (a < b ? -1 : 1)),
    )
  })

  it('is documented, with what to do about errors of CUDA that the engine knows', () => {
    const known = [
      ...text('cuda/runtime.cpp')
        .split('const char* advice')[1]
        .split('default:')[0]
        .matchAll(/case (\w+):/g),
    ]
    expect(known.length).toBeGreaterThan(2)
    expect(known.map(([, name]) => name).filter((name) => !text('docs/errors.md').includes(name))).toEqual([])
  })

  it('takes a code of another version for a defect', () => {
    expect(errorFromCode('ERR_FIRE_OF_TOMORROW', 'x')).toBeInstanceOf(InternalError)
  })
})

describe('errors of the system', () => {
  const { ENOSPC, EDQUOT, EROFS, EACCES, EMFILE } = constants.errno

  it.each([
    ['ENOSPC', ENOSPC, DiskFullError, /Free some space/],
    ['EDQUOT', EDQUOT, DiskFullError, /Free some space/],
    ['EROFS', EROFS, FileError, /another disk/],
    ['EACCES', EACCES, FileError, /right/],
    ['EMFILE', EMFILE, FileError, /ulimit/],
  ])(
    '%s has the same class, code and hint from both languages, whatever its text',
    (systemCode, errno, Class, hint) => {
      const thrown = Object.assign(new Error('anything'), { code: 'EWHATEVER', errno: -errno })
      const native = errorFromCode('ERR_FIRE_IO', 'n’importe quoi', { path: '/a', errno: String(errno) })
      for (const error of [native, errors.fileError(thrown, 'Writing', '/a')]) {
        expect(error).toBeInstanceOf(Class)
        expect(error).toMatchObject({ detail: { path: '/a', systemCode }, hint: expect.stringMatching(hint) })
      }
    },
  )

  it('are of a record unless the next one would meet them too', () => {
    const failed = (errno: number) => errorFromCode('ERR_FIRE_IO', 'cannot open x', { errno: String(errno) })
    const { EACCES, EIO, EMFILE, ENOENT, ENOMEM, ESTALE } = constants.errno
    expect([ENOENT, EACCES].map(failed).every(errors.isOfRecord)).toBe(true)
    expect([EIO, EMFILE, ENOMEM, ESTALE].map(failed).some(errors.isOfRecord)).toBe(false)
    expect(errors.isOfRecord(errorFromCode('ERR_FIRE_CHECKPOINT', 'm was cut while it was in use'))).toBe(false)
  })

  it('are not read out of a message', () => {
    expect(errorFromCode('ERR_FIRE_IO', 'cannot write x: No space left on device')).not.toBeInstanceOf(DiskFullError)
  })
})

describe('guarded', () => {
  const refuse = (reason: string, cause: unknown) => new DataError(`a.csv: ${reason}`, { cause })
  const throws = (what: unknown) => () => {
    throw what
  }

  it.each([[new TypeError('odd')], ['odd']])('makes what a library throws the error it is told (%s)', async (what) => {
    const expected = { code: 'ERR_FIRE_DATA', message: 'a.csv: odd', cause: what }
    expect(() => errors.guarded(throws(what), refuse)).toThrow(expect.objectContaining(expected))
    await expect(errors.guarded(async () => throws(what)(), refuse)).rejects.toMatchObject(expected)
  })

  it('does not take a limited address space for what is wrong with the content', () => {
    const refused = new RangeError(
      'WebAssembly.instantiate(): Out of memory: Cannot allocate Wasm memory for new instance',
    )
    const expected = expect.objectContaining({
      code: 'ERR_FIRE_OUT_OF_MEMORY',
      hint: expect.stringContaining('ulimit -v'),
    })
    expect(() => errors.guarded(throws(refused), refuse)).toThrow(expected)
    expect(errors.addressSpaceError(new RangeError('WebAssembly.instantiate(): bad import'))).toBeUndefined()
    expect(errors.addressSpaceError(new RangeError('Out of memory'))).toBeUndefined()
  })

  it('lets results and typed errors pass', async () => {
    const typed = new FileError('gone')
    expect(errors.guarded(() => 1, refuse)).toBe(1)
    expect(await errors.guarded(async () => 1, refuse)).toBe(1)
    expect(() => errors.guarded(throws(typed), refuse)).toThrow(typed)
  })
})

describe('atPlace', () => {
  it('keeps class, hint and detail', () => {
    const typed = new DiskFullError('full', { detail: { path: 'a' } })
    expect(() => errors.atPlace('p.jsonl:3', { id: 'x' })(typed)).toThrow(
      expect.objectContaining({
        name: 'DiskFullError',
        message: 'p.jsonl:3: full',
        hint: typed.hint,
        detail: { path: 'a', id: 'x' },
      }),
    )
    expect(() => errors.atPlace('p.jsonl:3')(new TypeError('defect'))).toThrow(/^defect$/)
  })
})
