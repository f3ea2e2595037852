/** The optional peers in Python: are they there. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

const execute = promisify(execFile)

/** What each imports. */
export const peerModules = {
  torch: ['torch', 'transformers', 'peft'],
  trl: ['torch', 'transformers', 'peft', 'trl', 'PIL'],
} as const

export type PeerName = keyof typeof peerModules

const probe = (modules: readonly string[]): string => `import json, platform, ${modules.join(', ')}
print(json.dumps({"python": platform.python_version(), ${modules.map((name) => `"${name}": ${name}.__version__`).join(', ')},
  "capability": torch.backends.cpu.get_cpu_capability()}))`

export type PeerVersions = Record<string, string>

export type PeerProbe = { versions: PeerVersions } | { missing: string }

/** Versions of what the peer imports, or why it cannot run with this interpreter. */
export async function probePeer(peer: PeerName, python: string): Promise<PeerProbe> {
  try {
    const { stdout } = await execute(python, ['-c', probe(peerModules[peer])])
    return { versions: JSON.parse(stdout) as PeerVersions }
  } catch (error) {
    return { missing: lastLine(error) }
  }
}

/** Python ends a traceback with the error itself. */
function lastLine(error: unknown): string {
  const { stderr, message } = error as { stderr?: string; message: string }
  return (stderr?.trim() || message.trim()).split('\n').at(-1) ?? message
}
