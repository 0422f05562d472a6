// Tells Wine to make no menu entries and file types on the desktop: one value in the registry of a prefix.
// Called by isolate.ts, with the prefix down; in a layered prefix the value is a change of its own.
// Follows: dlls/ntdll/unix/loadorder.c of Wine: an empty load order disables a program.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Below } from '../prefix/below.js';
import { changeOwnRegistry, materialise } from '../prefix/materialise.js';
import { writeFileWhole } from '../prefix/write-file.js';
import { applyDelta } from '../registry/apply.js';
import { compose } from '../registry/compose.js';
import { EMPTY_DELTA, type RegistryDelta } from '../registry/delta.js';
import { fileOf, fold } from '../registry/hive.js';
import { parseHive } from '../registry/parse.js';
import { emptyHive, writeHive } from '../registry/write.js';

const PATH = 'Software\\Wine\\DllOverrides';
const NAME = 'winemenubuilder.exe';

/** What it is to change. */
const NO_MENUS: RegistryDelta = {
  ...EMPTY_DELTA,
  user: new Map([
    [
      fold(PATH),
      { path: PATH, set: new Map([[fold(NAME), { name: NAME, data: '""' }]]), removed: new Map() },
    ],
  ]),
};

/** @param below what the prefix stands on; nothing for a plain one. @throws MountError, RegistryError. */
export function quietMenus(folder: string, below: readonly Below[]): void {
  if (below.length > 0) {
    materialise(folder, below);
    changeOwnRegistry(folder, (delta) => compose(delta, NO_MENUS));
    return;
  }
  const path = join(folder, fileOf('user'));
  const user = parseHive(readFileSync(path));
  const others = { system: emptyHive('system', 'win64'), userdef: emptyHive('userdef', 'win64') };
  writeFileWhole(path, writeHive(applyDelta({ ...others, user }, NO_MENUS).user));
}
