// A mount namespace for one test file, so that a filesystem which is unmounted here is unmounted.
// Used by the tests that shut filesystems down: elsewhere a copy of the mount would keep the old state of it alive.

import { realpathSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname } from 'node:path';
import { enterOwnMountNamespace } from '../support/sys.js';

let isAlone = false;

/** Other tests may copy the namespace that they find, and what is mounted in it. */
export function alone(): void {
  if (!isAlone) enterOwnMountNamespace(['/tmp', dirname(realpathSync(tmpdir()))]);
  isAlone = true;
}
