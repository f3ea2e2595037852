/** The optional PyTorch peer: is it there, and how is it started. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

const execute = promisify(execFile)

const probe = `import json, platform, torch, transformers, peft
print(json.dumps({"python": platform.python_version(), "torch": torch.__version__,
  "transformers": transformers.__version__, "peft": peft.__version__,
  "capability": torch.backends.cpu.get_cpu_capability()}))`

export type PeerVersions = Record<string, string>

export type PeerProbe = { versions: PeerVersions } | { missing: string }

/** Versions of what the peer imports, or why it cannot run with this interpreter. */
export async function probePeer(python: string): Promise<PeerProbe> {
  try {
    const { stdout } = await execute(python, ['-c', probe])
    return { versions: JSON.parse(stdout) as PeerVersions }
  } catch (error) {
    return { missing: lastLine(error) }
  }
}

/** Python ends a traceback with the error itself. */
function lastLine(error: unknown): string {
  const { stderr, message } = error as { stderr?: string; message: string }
  return (stderr?.trim() || message).split('\n').at(-1) ?? message
}
