// The version of this program, from its package.json.
// Used by --version, the manual and the fuse-overlayfs command line.
// The file stands two folders above dist/src.

import { readFileSync } from 'node:fs';

export function version(): string {
  const text = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}
