// A second version of the installed Wine: its own loader, server, ntdll.so and wine.inf, and links to everything else.
// Used by tests of updates with real Wine; layout of Debian's packages, found from the loader by relative paths.
// What differs is said by its caller: lines of wine.inf, and builtins with other bytes.

import {
  appendFileSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';

const DLLS = '/usr/lib/x86_64-linux-gnu/wine';
const SHARE = '/usr/share/wine';

export interface Differences {
  /** Lines of an AddReg section: `HKCU,Software\\Test,"Name",,"text"`. */
  readonly inf: readonly string[];
  /** Names in system32 that get some bytes more. */
  readonly builtins: readonly string[];
}

/** @returns the folder of the build, as --wine takes it. */
export function secondWine(folder: string, { inf, builtins }: Differences): string {
  const lib = join(folder, 'lib');
  const dlls = join(lib, 'x86_64-linux-gnu/wine');
  const share = join(folder, 'share/wine');
  for (const path of [join(lib, 'bin'), share]) mkdirSync(path, { recursive: true });
  copyFileSync('/usr/lib/wine/wine64', join(lib, 'bin/wine'));
  copyFileSync('/usr/lib/wine/wineserver64', join(lib, 'bin/wineserver'));
  linkAll(join(DLLS, 'x86_64-unix'), join(dlls, 'x86_64-unix'));
  linkAll(join(DLLS, 'x86_64-windows'), join(dlls, 'x86_64-windows'));
  // From where this lies Wine knows where all else is.
  own(join(DLLS, 'x86_64-unix/ntdll.so'), join(dlls, 'x86_64-unix/ntdll.so'));
  for (const name of builtins) {
    const path = join(dlls, 'x86_64-windows', name);
    own(join(DLLS, 'x86_64-windows', name), path);
    appendFileSync(path, 'of the second version');
  }
  linkAll(SHARE, share);
  rmSync(join(share, 'wine.inf'));
  const text = readFileSync(join(SHARE, 'wine.inf'), 'latin1');
  const changed = text.replace(
    /^\[Debugger\]\r?\n/m,
    (head) => head + inf.map((line) => `${line}\n`).join(''),
  );
  writeFileSync(join(share, 'wine.inf'), changed, 'latin1');
  symlinkSync('../share', join(lib, 'share'));
  return lib;
}

function linkAll(from: string, to: string): void {
  mkdirSync(to, { recursive: true });
  for (const name of readdirSync(from)) symlinkSync(join(from, name), join(to, name));
}

function own(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  rmSync(to, { force: true });
  copyFileSync(from, to);
}
