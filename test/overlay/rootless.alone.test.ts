// The overlay as a plain user inside a user namespace: rootless/main.ts runs there, mounted by the same code.
// Alone, for a new mount namespace holds copies of what other tests have mounted, and keeps their servers alive.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chownSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';

const skip = requires({ root: true, features: ['fuse', 'userns', 'plain-user', 'overlayfs'] });
const script = fileURLToPath(new URL('./rootless/main.js', import.meta.url));

const ways: [string, string[]][] = [
  ['root in a user namespace', []],
  [
    'a plain user in a user namespace',
    ['setpriv', '--reuid=1000', '--regid=1000', '--clear-groups'],
  ],
];

/** /dev/fuse as udev makes it, open to everybody, in a mount namespace of its own; then the command. */
const openFuse =
  'mknod -m 666 "$0" c 10 229 && mount --bind "$0" /dev/fuse && rm "$0" && exec "$@"';

for (const [name, prefix] of ways) {
  test(name, { skip }, (t) => {
    const folder = tempDir(t);
    const runtime = join(folder, 'run');
    mkdirSync(runtime, { mode: 0o700 });
    const plain = prefix.length > 0;
    if (plain) for (const path of [folder, runtime]) chownSync(path, 1000, 1000);
    const inside = [...prefix, 'unshare', '--user', '--map-root-user', '--mount'];
    inside.push(process.execPath, script);
    const command = ['unshare', '--mount', 'sh', '-ec', openFuse, join(folder, 'fuse'), ...inside];
    const result = spawnSync(command[0], command.slice(1), {
      encoding: 'utf8',
      timeout: 120_000,
      env: { ...process.env, TMPDIR: folder, VARVE_RUNTIME_DIR: runtime, HOME: folder },
    });
    assert.equal(result.status, 0, result.stdout + result.stderr + (result.signal ?? ''));
    t.diagnostic(result.stdout.trim());
  });
}
