/** docs/config.md and docs/schema/: written by `npm run docs`, held against the code by a test. */
import { sharedSettings } from '../pipeline/config.js'
import { pipelineSchema, stages } from '../pipeline/index.js'
import { flagsTable, jsonSchema, settingsTable } from '../settings/reference.js'
import { flagOf, keyOf, type Setting, settingsOf } from '../settings/setting.js'
import { namedSettings, studySettings } from '../study/settings.js'
import { trainSettings } from '../train/settings.js'
import { commonFlags, type Option, optionsOf } from './arguments.js'
import type { Command } from './command.js'
import { placeholderOf } from './help.js'
import { commands } from './run.js'

/** Path below docs/ and content of every page that is made from the code. */
export function referencePages(): Map<string, string> {
  return new Map([
    ['config.md', configPage()],
    ...Object.entries(schemas()).map(([name, schema]): [string, string] => [
      `schema/${name}.json`,
      `${JSON.stringify(schema, null, 2)}\n`,
    ]),
  ])
}

/** By name: what an editor checks a YAML file against. */
function schemas(): Record<'pipeline' | 'train' | 'preset' | 'study', object> {
  const train = jsonSchema(trainSettings, 'fire-train train')
  const study = jsonSchema(studySettings, 'fire-train study') as Json
  const { $schema, ...base } = pipelineJsonSchema() as Json
  return {
    pipeline: { $schema, ...base },
    train,
    // What a preset leaves open is given by the file that names it.
    preset: { ...train, title: 'a preset of fire-train train', required: [] },
    // The output of an arm is named by the study.
    study: { ...study, properties: { ...study.properties, base: { ...base, required: [] } } },
  }
}

interface Json {
  $schema?: string
  required?: string[]
  properties?: Record<string, Json>
}

/** Of a pipeline's file: what the pipeline chooses is not offered, and what it fills in is not asked for. */
function pipelineJsonSchema(): object {
  const whole = jsonSchema(pipelineSchema(), 'fire-train run') as Json
  for (const { name, out, takes } of stages) {
    const section = whole.properties?.[name] as Json
    delete section.properties?.[out.setting]
    for (const key of [out.setting, ...Object.keys(sharedSettings.shape), ...Object.keys(takes)]) {
      dropRequired(section, key.split('.'))
    }
  }
  return whole
}

/** An object of which nothing is asked for any more is itself not asked for. */
function dropRequired(node: Json, [key, ...rest]: string[]): void {
  const child = node.properties?.[key]
  if (rest.length > 0 && child) dropRequired(child, rest)
  if (rest.length === 0 || !child?.required?.length) node.required = node.required?.filter((each) => each !== key)
}

function configPage(): string {
  return `${[
    '# Settings and commands',
    '<!-- Made by `npm run docs` from what `--help` is made from. Do not edit. -->',
    `Every stage has one list of settings. As a command they are flags, in a pipeline they are keys of the stage's section:

\`\`\`sh
fire-train corrupt --pairs pairs.jsonl --out corrupted --method lesion-noise
\`\`\`

\`\`\`yaml
corrupt:
  method: lesion-noise
\`\`\`

In a pipeline, what earlier stages make is filled in: \`pairs\` here, and the folder to write. What stands in brackets is given
without a flag, in this order: \`fire-train import slake Slake1.0\`. In square brackets it may be left out. What is on by
default is turned off with \`no-\` before its name: \`fire-train evaluate --no-model-alone\`.

A stage of a pipeline runs again when a setting changes, or the content of a file that it reads. Settings marked "Changes no
result" are left out of that.

Editors (VS Code with the YAML extension, and others) complete and check a file that names its schema in the first line:
\`pipeline.json\` for \`fire-train run\`, \`train.json\` for \`fire-train train\`, \`study.json\` for \`fire-train study\`.

\`\`\`yaml
# yaml-language-server: $schema=node_modules/fire-train/docs/schema/pipeline.json
\`\`\`

A number has a range, and where it counts or measures something a unit. Coefficients, ratios and seeds have none.`,
    '## A pipeline',
    'Keys at the top of the file of `fire-train run`. A stage that has a setting of the same name, and no value of its own, takes it.',
    settingsTable(sharedSettings),
    '## Every command',
    'Flags that every command has; `-h` is `--help`. `fire-train --version` shows the version.',
    flagsTable(settingsOf(commonFlags), nameAmong([])),
    ...commands.flatMap((each) =>
      'commands' in each
        ? [
            `## ${each.name}`,
            `${each.summary}. One of the commands that follow.`,
            ...each.commands.flatMap((inner) => commandSection(inner, `${each.name} ${inner.name}`)),
          ]
        : [
            ...commandSection(each, each.name),
            ...(each.further ?? []).flatMap((inner) => commandSection(inner, `${each.name} ${inner.name}`)),
          ],
    ),
  ].join('\n\n')}\n`
}

/** What may stand in the file that a command reads. */
const fileSections: Record<string, readonly string[]> = {
  run: ['Its file: [a pipeline](#a-pipeline), with a section for each stage, named like its command.'],
  plan: ['Its file is that of [train](#train).'],
  train: ['Its file, which is also the section of a pipeline:', settingsTable(trainSettings)],
  study: [
    'Its file ([studies](studies.md)); `base` has the keys of a pipeline:',
    settingsTable(studySettings),
    ...Object.entries(namedSettings).flatMap(([name, schema]) => [
      `Below a name in \`${name}\`:`,
      settingsTable(schema),
    ]),
  ],
}

/** @param title its name, with that of its group before it. */
function commandSection(command: Command, title: string): string[] {
  const options = optionsOf(command).filter(({ schema }) => schema >= 0)
  const stage = stages.find(({ name }) => name === title)
  const keys = stage ? settingsOf(stage.settings) : []
  const others = options.filter(({ setting }) => !keys.some((each) => isSame(each, setting)))
  const fromFile = command.fromFile ? optionsOf(command.fromFile).filter(({ schema }) => schema === 0) : []
  const usage = ['fire-train', title, ...command.positionals.map((name) => placeholderOf(byName(options, name)))].join(
    ' ',
  )
  return [
    `## ${title}`,
    `${command.summary}. \`${usage}\``,
    ...(stage && others.length < options.length ? [settingsTable(stage.settings, nameAmong(options))] : []),
    ...(stage && others.length < options.length && others.length > 0 ? ['On a command line only:'] : []),
    ...(options.length === 0 ? ['It has no flags of its own.'] : flags(others)),
    ...(fromFile.length > 0 ? ['In place of flags, the same settings in a file:', ...flags(fromFile)] : []),
    ...(fileSections[title] ?? []),
  ]
}

/** A command may say of a stage's setting what holds on a command line alone. */
const isSame = (one: Setting, other: Setting): boolean =>
  keyOf(one) === keyOf(other) && one.required === other.required && one.meta.description === other.meta.description

const flags = (options: readonly Option[]): string[] =>
  options.length === 0
    ? []
    : [
        flagsTable(
          options.map(({ setting }) => setting),
          nameAmong(options),
        ),
      ]

const byName = (options: readonly Option[], name: string): Option | undefined =>
  options.find((option) => option.name === name)

/** `--out`, and `<folder>` for what is given by its place. */
function nameAmong(options: readonly Option[]): (setting: Pick<Setting, 'path'>) => string {
  return (setting) => {
    const option = byName(options, flagOf(setting))
    return option?.positional ? placeholderOf(option) : `--${flagOf(setting)}`
  }
}
