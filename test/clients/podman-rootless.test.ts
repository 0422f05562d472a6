// podman as a plain user with varve as mount_program: the same session as root's, in podman's own user namespace.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { installVarve } from './installed.js';
import { checkSession, enterPlace, podmanPackages, preparePodman, session } from './podman.js';
import { makeUser, openFuseDevice, privately } from './private.js';
import { quote, shell } from './shell.js';

const skip = requires({
  root: true,
  features: ['fuse', 'userns', 'plain-user'],
  packages: podmanPackages,
});

test('podman run, diff, commit, build, save, exec and cp as a plain user', { skip }, (t) => {
  const folder = tempDir(t);
  const { overlayfs } = installVarve(join(folder, 'package'));
  const user = makeUser(join(folder, 'home'));
  t.after(() => user.remove());
  const home = join(user.home, 'podman');
  mkdirSync(home);
  const env = preparePodman(home, overlayfs);
  shell(`chown -R ${user.name}: ${home}`);
  // podman leaves a process behind that keeps its user namespace: it must not keep the test's folder.
  const script = `trap 'podman system migrate' EXIT\n${session}`;
  checkSession(
    privately(
      `${openFuseDevice}\n${enterPlace}\n${user.run} bash -euo pipefail -c ${quote(script)}`,
      {
        env,
        timeout: 170_000,
      },
    ),
  );
});
