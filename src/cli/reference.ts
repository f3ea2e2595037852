/** docs/config.md and docs/schema/: written by `npm run docs`, held against the code by a test. */
import { generateSettings } from '../generate/settings.js'
import { sharedSettings } from '../pipeline/config.js'
import { pipelineSchema, stages } from '../pipeline/index.js'
import { jsonSchema, settingsTable } from '../settings/reference.js'
import { flagOf, type Setting } from '../settings/setting.js'
import type { Stage } from '../stage/index.js'
import { namedSettings, studySettings } from '../study/settings.js'
import { trainSettings } from '../train/settings.js'

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
  const flag = (setting: Pick<Setting, 'path'>): string => `--${flagOf(setting)}`
  const argument =
    ({ positionals = [] }: Stage) =>
    (setting: Setting): string =>
      positionals.includes(flagOf(setting)) ? `<${flagOf(setting)}>` : flag(setting)
  return `${[
    '# Settings',
    '<!-- Made by `npm run docs` from the schemas in src/*/settings.ts. Do not edit. -->',
    `Every stage has one list of settings. As a command they are flags, in a pipeline they are keys of the stage's section:

\`\`\`sh
fire-train corrupt --pairs pairs.jsonl --out corrupted --method lesion-noise
\`\`\`

\`\`\`yaml
corrupt:
  method: lesion-noise
\`\`\`

In a pipeline, what earlier stages make is filled in: \`pairs\` here, and the folder to write. Flags that are only for commands:
\`--overwrite\` replaces what an earlier run left, \`--resume\` continues it. Settings in angle brackets
are given without a flag, in this order: \`fire-train import slake Slake1.0\`.

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
    ...stages.flatMap((stage) => [
      `## ${stage.name}`,
      `${stage.summary}. \`fire-train ${stage.name}\``,
      settingsTable(stage.settings, stage.name === 'train' ? undefined : argument(stage)),
    ]),
    '## generate',
    'Answers of a model to questions: `fire-train generate`. It is a command only.',
    settingsTable(generateSettings, flag),
    '## study',
    'The file of `fire-train study` ([studies](studies.md)). `base` has the keys of a pipeline.',
    settingsTable(studySettings),
    ...Object.entries(namedSettings).flatMap(([name, schema]) => [
      `Below a name in \`${name}\`:`,
      settingsTable(schema),
    ]),
  ].join('\n\n')}\n`
}
