// Whether there is a command of some name, as a shell would look for it.
// Used where a command could not be started, to tell "not found" (127) from "cannot be run" (126).
// Follows: execvp(3), which says EACCES when a folder of PATH may not be entered, whatever is in the others.

import { existsSync } from 'node:fs';
import { resolve } from 'node:path';

/** Whether there is such a file, by PATH unless the command is a path. */
export function isFound(command: string, cwd = '', path = process.env['PATH'] ?? ''): boolean {
  const folders = command.includes('/') ? [''] : path.split(':');
  return folders.some((folder) => existsSync(resolve(cwd, folder, command)));
}
