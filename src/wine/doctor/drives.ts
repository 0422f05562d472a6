// The drives and devices of a prefix: links in dosdevices, by letter or name, to where they lead.
// Read by examine.ts; isolate.ts takes out those that lead to the host's files.
// Follows: dlls/ntdll/unix/loader.c of Wine (init_prefix makes c: and z:, once, with the folder).

import { readdirSync, readlinkSync } from 'node:fs';
import { join, resolve } from 'node:path';

export interface Drive {
  /** `z:`; of a raw device `d::`; of a port `com1`. */
  readonly name: string;
  readonly target: string;
  /** A drive that shows files outside of the prefix; ports and raw devices are none. */
  readonly outside: boolean;
}

/** In order of their names; none where the folder is missing. */
export function drivesOf(folder: string): Drive[] {
  const dosdevices = join(folder, 'dosdevices');
  let names: string[];
  try {
    names = readdirSync(dosdevices);
  } catch {
    return [];
  }
  return names.sort().flatMap((name) => {
    const target = linkTarget(join(dosdevices, name));
    if (target === undefined) return [];
    const place = resolve(dosdevices, target);
    const inside = place === resolve(folder) || place.startsWith(`${resolve(folder)}/`);
    return [{ name, target, outside: /^[a-z]:$/i.test(name) && !inside }];
  });
}

function linkTarget(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}
