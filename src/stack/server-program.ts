// How a server of this installation is started.
// Used by stack/mount.ts, by who replaces a server, and by the command line that starts one before it knows its mount.
// Loads nothing.

import { fileURLToPath } from 'node:url';

/** Node options of a server. It allocates little for a request, so its nursery (MiB) can stay small. */
const SERVER_FLAGS = ['--max-semi-space-size=2'];

/** Arguments of node: the bundled file, also where this one is not bundled. */
export function serverProgram(): readonly string[] {
  const script = new URL('../../bundle/programs/server.js', import.meta.url);
  return [...SERVER_FLAGS, fileURLToPath(script)];
}
