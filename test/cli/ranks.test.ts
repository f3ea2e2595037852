/** Which commands several ranks may start. */
import { expect, it } from 'vitest'
import { commands } from '../../src/cli/run.js'

it('is what shares its work, and what writes nothing', () => {
  const all = commands.flatMap((each) => ('commands' in each ? each.commands : [each, ...(each.further ?? [])]))
  const named = (ranks: string): string[] => all.filter((each) => each.ranks === ranks).map(({ name }) => name)
  expect(named('together').sort()).toEqual(['corrupt', 'evaluate', 'pairs', 'sample', 'study', 'train'])
  expect(named('each').sort()).toEqual(['doctor', 'inspect', 'launch', 'plan'])
  for (const each of all) if (each.fromFile && each.name !== 'report') expect(each.fromFile.ranks).toBe(each.ranks)
})
