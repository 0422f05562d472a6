// Asks the supervisor of a mount for a server that changes the layers under it.
// Used by commit and discard; one request, one answer.
// What the server does: stack/change-layers.ts.

import { MountError } from '../../stack/errors.js';
import type { ChangeTold, LayerChange } from '../../stack/layer-change.js';
import { throwRefusal } from '../../stack/mount.js';
import { serverProgram } from '../../stack/server-program.js';
import type { MountSpec } from '../../stack/spec.js';
import { findSupervisor } from '../../supervisor/client.js';
import type { ChangeOutcome, Reply } from '../../supervisor/protocol.js';

export interface Changed {
  readonly told: ChangeTold;
  /** How long nobody answered. */
  readonly stallMilliseconds: number;
}

/** Attempts while servers die in the middle of requests. */
const ATTEMPTS = 3;

/** @param spec what is served afterwards. @throws MountError; then nothing was changed. */
export async function changeLive(
  mountpoint: string,
  reason: string,
  spec: MountSpec,
  how: LayerChange,
): Promise<Changed & { readonly wanted: ChangeTold['wanted'] }> {
  let reply: Reply;
  for (let attempt = 1; ; attempt++) {
    reply = await ask(mountpoint, { reason, spec, how });
    throwRefusal(reply);
    const { again } = (reply.changed as ChangeOutcome).told as ChangeTold;
    if (!again || attempt === ATTEMPTS) break;
  }
  const { refusal, told } = reply.changed as ChangeOutcome & { readonly told: ChangeTold };
  const { wanted } = told;
  if (refusal !== undefined && wanted.length === 0) {
    throw new MountError(refusal.kind, refusal.message);
  }
  const stallMilliseconds = reply.mounts?.[0]?.lastRestart?.stallMilliseconds ?? 0;
  return { told, wanted, stallMilliseconds };
}

async function ask(
  mountpoint: string,
  change: { readonly reason: string; readonly spec: MountSpec; readonly how: LayerChange },
): Promise<Reply> {
  const supervisor = await findSupervisor();
  if (supervisor === undefined) {
    throw new MountError('server', `${mountpoint}: its supervisor is gone: unmount it first`);
  }
  try {
    return await supervisor.ask({ op: 'change', mountpoint, program: serverProgram(), change });
  } catch (error) {
    throw new MountError('server', `${mountpoint}: its supervisor went away`, { cause: error });
  } finally {
    supervisor.close();
  }
}
