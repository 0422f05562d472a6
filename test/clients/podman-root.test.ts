// podman as root with varve as mount_program: run, diff, commit, build, save, exec, cp.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { installVarve } from './installed.js';
import { checkSession, enterPlace, podmanPackages, preparePodman, session } from './podman.js';
import { privately } from './private.js';

const skip = requires({ root: true, features: ['fuse'], packages: podmanPackages });

test('podman run, diff, commit, build, save, exec and cp as root', { skip }, (t) => {
  const folder = tempDir(t);
  const { overlayfs } = installVarve(join(folder, 'package'));
  const home = join(folder, 'podman');
  mkdirSync(home);
  const env = preparePodman(home, overlayfs);
  checkSession(privately(`${enterPlace}\n${session}`, { env, timeout: 170_000 }));
});
