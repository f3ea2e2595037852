/** Small XML files. saxes is strict and has no way to define or fetch entities. */
import { readFile, stat } from 'node:fs/promises'
import { SaxesParser } from 'saxes'
import { decodeUtf8 } from '../data/jsonl.js'
import { asFileError, guarded } from '../errors.js'
import { LeftOut } from './draft.js'

/** An Open-i report has a few kilobytes. */
const largestXml = 2 ** 22

/** An XML element: attributes, text of its own, children. */
export interface Element {
  name: string
  attributes: Record<string, string>
  text: string
  children: Element[]
}

/**
 * The root element of a small XML file. saxes knows the five entities of XML and no others; a document type, where one
 * could define more or name outside files, is refused before it is looked at.
 * @throws {LeftOut} for what is wrong with the file: one report, one file.
 */
export async function readXml(file: string): Promise<Element> {
  const { size } = await stat(file).catch(asFileError('Reading', file))
  if (size > largestXml) throw new LeftOut('invalid_markup', `${size} bytes are no report (at most ${largestXml})`)
  const parser = new SaxesParser({ position: true, xmlns: false })
  const root: Element = { name: '', attributes: {}, text: '', children: [] }
  const open = [root]
  const refuse = (problem: string): never => {
    throw new LeftOut('invalid_markup', `line ${parser.line}: ${problem}`)
  }
  parser.on('doctype', () => refuse('a document type with its entities is not accepted'))
  parser.on('error', (error) => refuse(error.message))
  parser.on('opentag', ({ name, attributes }) => {
    if (open.length > 64) refuse('elements are nested too deep')
    const element: Element = { name, attributes: { ...attributes }, text: '', children: [] }
    open.at(-1)?.children.push(element)
    open.push(element)
  })
  const addText = (text: string): void => {
    const top = open.at(-1)
    if (top) top.text += text
  }
  parser.on('text', addText)
  parser.on('cdata', addText)
  parser.on('closetag', () => {
    open.pop()
  })
  const bytes = await readFile(file).catch(asFileError('Reading', file))
  const text = guarded(
    () => decodeUtf8(bytes),
    () => new LeftOut('invalid_markup', 'the bytes are not UTF-8'),
  )
  parser.write(text).close()
  return root.children[0] ?? refuse('there is no element')
}
