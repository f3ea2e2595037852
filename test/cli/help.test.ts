/** Help in every width: no word, flag, path or example is broken. */
import { describe, expect, it } from 'vitest'
import type { Command } from '../../src/cli/command.js'
import { helpOfAll, helpOfCommand, helpOfGroup } from '../../src/cli/help.js'
import { commands } from '../../src/cli/run.js'

const single = commands.flatMap((each): [string, Command][] =>
  'commands' in each
    ? each.commands.map((inner): [string, Command] => [`${each.name} ${inner.name}`, inner])
    : [[each.name, each]],
)
const widths = [20, 32, 40, 57, 80, 110, 200]
const words = (text: string): string[] => text.split(/\s+/).filter((word) => word !== '')

/** Lines that are too long although a word could have gone to the next one. */
function tooLong(text: string, width: number, whole: readonly string[]): string[] {
  return text
    .split('\n')
    .filter(
      (line, index) =>
        index > 0 &&
        line.length > width &&
        !whole.includes(line.trim()) &&
        words(line.replace(/"[^"]*"/g, 'quoted')).filter((word) => word !== '\\').length > 1,
    )
    .filter((line) => !/^ {2}\S+( (PATH|TEXT|N|<\S+|\[\S+|bench|\S+))*$/.test(line))
}

describe('help', () => {
  it.each(single)('of %s has the same words in every width', (title, command) => {
    const wide = words(helpOfCommand(command, title, 10_000))
    const examples = command.examples.map(([line]) => `fire-train ${line}`)
    for (const width of widths) {
      const text = helpOfCommand(command, title, width)
      // As a shell joins lines.
      const joined = text.replace(/ \\\n +/g, ' ')
      expect(words(joined)).toEqual(wide)
      expect(tooLong(text, width, [])).toEqual([])
      for (const example of examples) expect(joined).toContain(`\n  ${example}\n`)
    }
  })

  it('of the program and its groups too', () => {
    const groups = commands.flatMap((each) => ('commands' in each ? [each] : []))
    const pages = [
      (width: number) => helpOfAll(commands, width),
      ...groups.map((each) => (width: number) => helpOfGroup(each, width)),
    ]
    for (const page of pages) {
      for (const width of widths) {
        expect(words(page(width))).toEqual(words(page(10_000)))
        expect(tooLong(page(width), width, [])).toEqual([])
      }
    }
  })

  it('fits a terminal of 80 columns', () => {
    for (const [title, command] of single) {
      const lines = helpOfCommand(command, title, 80).split('\n')
      expect(lines.filter((line) => line.length > 80)).toEqual([])
    }
  })
})
