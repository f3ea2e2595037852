/** Errors in the words of whoever reads them: a command line speaks of flags, a file of keys. */
import type { FireError } from '../errors.js'
import { stages } from '../pipeline/index.js'
import { flagOf, keyOf, settingsOf } from '../settings/setting.js'
import { optionsOf } from './arguments.js'
import type { Command } from './command.js'

/** Hints name settings as `--flag` or, where they are more than one plain word, as `camelCase` keys. */
export function inWordsOf(
  command: Command | undefined,
  { code, message, hint }: FireError,
): Pick<FireError, 'code' | 'message' | 'hint'> {
  const say = command?.file ? inKeys(command, command.file) : command ? inFlags(command) : (text: string) => text
  return { code, message, hint: hint && say(hint) }
}

type Say = (text: string) => string

/** `--mask-root` is `maskRoot` in a file; flags of the command itself stay. */
function inKeys(command: Command, file: NonNullable<Command['file']>): Say {
  const own = new Set(optionsOf(command).map(({ name }) => name))
  const of = settingsOf(file)
  const known = [...stages.flatMap(({ settings }) => settingsOf(settings)), ...of]
  const keys = new Map(known.map((each) => [flagOf(each), keyOf(each)]))
  // A pipeline chooses where its stages write, below the one folder that it is given.
  if (of.some((each) => keyOf(each) === 'output')) keys.set('out', 'output')
  return (text) =>
    text.replace(/--([a-z]+(?:-[a-z]+)*)/g, (flag, name) => (own.has(name) ? flag : (keys.get(name) ?? flag)))
}

/** `batchSize` is `--batch-size`, `dtype: bf16` is `--dtype bf16`; what the command has no flag for stays. */
function inFlags(command: Command): Say {
  const options = optionsOf(command)
  const flagsOf = (said: string): string | undefined => {
    const meant = options.filter(({ setting }) => keyOf(setting) === said || setting.path.at(-1) === said)
    return meant.length > 0 ? meant.map(({ name }) => `--${name}`).join(' or ') : undefined
  }
  return (text) =>
    text
      .replace(/\b([a-z]+(?:[A-Z][a-z]*)*): (?=[\w"'[{])/g, (said, key) => {
        const flags = flagsOf(key)
        return flags ? `${flags} ` : said
      })
      .replace(/(?<![\w.-])[a-z]+(?:[A-Z][a-z]+)+(?!\w)/g, (key) => flagsOf(key) ?? key)
}
