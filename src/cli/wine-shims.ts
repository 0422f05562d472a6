// What `varve setup --wine` installs: every program of Wine under its own name, as a link to bin/wine-shim.
// Used by setup.ts. With a build of its own each is a small script instead, which reads that file.
// The names are those of Debian's and WineHQ's packages, and winetricks.

import { SHIM_MARK } from '../wine/prefix/build.js';
import type { SetupItem } from './setup-item.js';

const NAMES = [
  'wine',
  'wine64',
  'wineserver',
  'wineboot',
  'winecfg',
  'wineconsole',
  'winedbg',
  'winefile',
  'winepath',
  'winetricks',
  'msiexec',
  'notepad',
  'regedit',
  'regsvr32',
];

/** @param bin where they go. @param shim the file in varve's own folder. @param build absolute; undefined: the wine on PATH. */
export function wineShims(bin: string, shim: string, build: string | undefined): SetupItem[] {
  return NAMES.map((name) => {
    const path = `${bin}/${name}`;
    return build === undefined
      ? { path, link: shim }
      : { path, text: script(shim, build), mode: 0o755 };
  });
}

function script(shim: string, build: string): string {
  return `#!/bin/sh
# ${SHIM_MARK}, installed by \`varve setup\`
: "\${VARVE_WINE:=${build.replace(/["$\\`]/g, '\\$&')}}"
export VARVE_WINE
shim='${shim.replace(/'/g, "'\\''")}'
. "$shim"
`;
}
