/** Errors in the words of whoever reads them: a command line speaks of flags, a file of keys. */
import type { FireError } from '../errors.js'
import { stages } from '../pipeline/index.js'
import { flagOf, keyOf, settingsOf } from '../settings/setting.js'
import { optionsOf } from './arguments.js'
import type { Command } from './command.js'

/** Messages and hints name settings as `--flag` or, where they are more than one plain word, as `camelCase` keys. */
export function inWordsOf(
  command: Command | undefined,
  { code, message, hint }: FireError,
): Pick<FireError, 'code' | 'message' | 'hint'> {
  const say = command?.file ? inKeys : command ? inFlags(command) : (text: string) => text
  return { code, message, hint: hint && say(hint, command) }
}

/** `--mask-root` is `maskRoot` in a file; flags of the command itself stay. */
function inKeys(text: string, command?: Command): string {
  const own = new Set(command ? optionsOf(command).map(({ name }) => name) : [])
  const keys = new Map(
    stages.flatMap(({ settings }) => settingsOf(settings).map((each) => [flagOf(each), keyOf(each)])),
  )
  return text.replace(/--([a-z]+(?:-[a-z]+)*)/g, (flag, name) => (own.has(name) ? flag : (keys.get(name) ?? flag)))
}

/** `batchSize` is `--batch-size`, `dtype: bf16` is `--dtype bf16`; what the command has no flag for stays. */
function inFlags(command: Command): (text: string) => string {
  const flags = new Map(optionsOf(command).map(({ name, setting }) => [setting.path.at(-1) as string, `--${name}`]))
  return (text) =>
    text
      .replace(/\b([a-z]+(?:[A-Z][a-z]*)*): (?=[\w"'[{])/g, (said, key) =>
        flags.has(key) ? `${flags.get(key)} ` : said,
      )
      .replace(/(?<![\w-])[a-z]+(?:[A-Z][a-z]+)+(?!\w)/g, (key) => flags.get(key) ?? key)
}
