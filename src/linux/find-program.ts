// Where a program of the system is, as a shell would look for it.
// Used for programs that varve itself starts: unshare(1), newuidmap(1). The folders of the system come after those of PATH, for
// who runs varve by sudo or a unit may have a short one.

import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';

/** @returns its absolute path; undefined: there is none. Relative folders of PATH do not count. */
export function findProgram(name: string, env: NodeJS.ProcessEnv): string | undefined {
  const folders = [...(env['PATH'] ?? '').split(':'), '/usr/bin', '/bin'];
  for (const folder of folders) {
    if (!folder.startsWith('/')) continue;
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // The next folder.
    }
  }
  return undefined;
}
