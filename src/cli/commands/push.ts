import { z } from 'zod'
import { FireError } from '../../errors.js'
import { inputPath, text } from '../../settings/common.js'
import type { Shipment } from '../../share/push.js'
import { counted } from '../../text/plural.js'
import { defineCommand } from '../command.js'
import { flag } from '../file-settings.js'
import { formatBytes, formatTable } from '../format.js'
import { catchSignals } from '../signals.js'

const mebibytes = (bytes: number): number => Math.round((bytes / 2 ** 20) * 10) / 10

export const push = defineCommand({
  name: 'push',
  summary: 'Send an adapter or a merged model to the Hugging Face hub, with a card made from its run',
  settings: z.strictObject({
    folder: text.meta(inputPath('Adapter, merged model, or the folder of a training run')),
    repo: text.meta({ description: 'Where to, for instance clinic/chest-adapter; made when it does not exist' }),
    run: text.optional().meta(inputPath("Folder of the training run; default: that of the adapter's own folder")),
    evaluation: text.optional().meta(inputPath('Folder of an evaluation, for the numbers of the card')),
    baseModel: text.optional().meta({
      description: 'The trained model on the hub, OWNER/NAME; default: where `pull` had it from',
    }),
    license: text
      .optional()
      .meta({ description: 'Licence of what is sent, as the hub spells it, for instance apache-2.0' }),
    card: text.optional().meta(inputPath('A card to send instead of the one that is made')),
    send: flag('Send it; without this the command only shows what it would send'),
    public: flag('Make a new repository public; default: private', 'send'),
    keyEnv: text.optional().meta({
      description: 'Environment variable that holds the token; default: HF_TOKEN',
      needs: 'send',
    }),
  }),
  positionals: ['folder', 'repo'],
  examples: [
    ['push runs/first clinic/chest-adapter --evaluation eval', 'show the files and the card; nothing is sent'],
    [
      'push runs/first clinic/chest-adapter --evaluation eval --send',
      'send them; after a stop the same command continues',
    ],
  ],
  notes:
    'What the hub has already is not sent again. All files are one commit: it is there whole or not at all. HF_ENDPOINT names another hub.',
  async run({ send, public: isPublic, keyEnv, ...settings }, { progress }) {
    const { planShipment } = await import('../../share/push.js')
    const shipment = await planShipment(settings)
    const { repo, files, card, title } = shipment
    const report = { ...shipment, files: files.map(({ path, size, sha256 }) => ({ path, size, sha256 })), sent: [] }
    for (const problem of shipment.problems) progress.log(`warning: ${problem}`)
    if (!send) return { text: describeShipment(shipment), report }
    const { hubAccess, upload } = await import('../../hub/index.js')
    const access = await hubAccess(keyEnv)
    using stop = catchSignals((name) => progress.log(`${name}: stopping; again to leave at once`))
    let started = false
    try {
      const done = await upload({
        ...{ repo, files, title, isPublic, access, signal: stop.signal },
        onLog: (line) => progress.log(line),
        onProgress(bytes, total) {
          if (!started) progress.start('upload', mebibytes(total), 'MiB')
          started = true
          progress.update(mebibytes(bytes))
        },
      })
      const sent = `${counted(done.sent.length, 'file')} of ${files.length} sent`
      return { text: `${done.url} at ${done.commit}\n${sent}\n`, report: { ...report, ...done, card } }
    } catch (error) {
      if (stop.exitCode === undefined) throw error
      const said =
        error instanceof FireError && error.hint !== undefined ? `${error.message}; ${error.hint}` : 'stopped'
      const stopped = `${said}; nothing of it is visible on the hub; run the same command again: what was sent is not sent again`
      return { text: '', report: {}, stopped, exitCode: stop.exitCode }
    }
  },
})

/** Everything that would be sent, as it would be. */
function describeShipment({ repo, kind, folder, files, leftOut, card }: Shipment): string {
  const total = files.reduce((sum, { size }) => sum + size, 0)
  const table = formatTable(
    ['file', 'size', 'SHA-256'],
    files.map(({ path, size, sha256 }) => [path, formatBytes(size), sha256]),
  )
  const stays = leftOut.length > 0 ? `Not sent: ${leftOut.join(', ')}\n\n` : ''
  const head = `The ${kind} ${folder} as ${repo}, ${counted(files.length, 'file')}, ${formatBytes(total)}:`
  return `${head}\n\n${table}\n\n${stays}README.md, the card:\n\n${card}\nNothing was sent. --send sends it.\n`
}
