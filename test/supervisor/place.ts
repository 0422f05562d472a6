// A supervisor of a test's own, and what its tests ask of it.
// Used by the tests of this folder; every connection is closed when its test ends.
// Protocol: src/supervisor/protocol.ts.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { askSupervisor, type Supervisor } from '../../src/supervisor/client.js';
import type { Reply, Request } from '../../src/supervisor/protocol.js';
import { tempDir } from '../support/temp.js';

const scriptOf = (name: string): string => fileURLToPath(new URL(`./${name}.js`, import.meta.url));

export interface Place {
  readonly env: NodeJS.ProcessEnv;
  readonly runtime: string;
  /** Makes a mount point and the request that mounts there. */
  request(name: string, spec?: object): Request & { op: 'mount' };
  /** As askSupervisor(); the connection is closed when the test ends. */
  ask(request: Request): Promise<{ reply: Reply; supervisor: Supervisor }>;
}

/** @param server the script that serves, without its ending. */
export function place(t: { after(fn: () => void): void }, server: string): Place {
  const folder = tempDir(t);
  const runtime = join(folder, 'run');
  const env = { ...process.env, VARVE_RUNTIME_DIR: runtime, VARVE_SUPERVISOR_IDLE: '300' };
  return {
    runtime,
    env,
    ask: async (request) => {
      const asked = await askSupervisor(request, env);
      t.after(() => asked.supervisor.close());
      return asked;
    },
    request: (name, spec = {}) => {
      const mountpoint = join(folder, name);
      mkdirSync(mountpoint, { recursive: true });
      return {
        op: 'mount',
        mount: { mountpoint, fsname: 'memfs', subtype: 'varve-test' },
        program: [scriptOf(server)],
        spec,
      };
    },
  };
}

export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let i = 0; i < 2400; i++) {
    if (await holds()) return;
    await sleep(25);
  }
  assert.fail(`never: ${what}`);
}

export const unmount = (mountpoint: string): void => {
  const command =
    process.geteuid?.() === 0 ? ['umount', mountpoint] : ['fusermount3', '-u', mountpoint];
  assert.equal(spawnSync(command[0] as string, command.slice(1)).status, 0);
};

export const gone = (pid: number): boolean => !existsSync(`/proc/${pid}/fd/0`);
