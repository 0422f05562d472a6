// A library of its own with a stub of Wine, and a plain prefix that is small enough to be compared as a whole.
// Used by library*.test.ts and kill/main.ts. Installers are shell scripts: `wine FILE` of the stub runs them.

import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readContent } from '../../src/tree/read-content.js';
import { isDirectory, remove, walk } from '../../src/tree/tree.js';
import { addBase } from '../../src/wine/library/base.js';
import {
  type RecordedLayer,
  type RecordRequest,
  recordLayer,
} from '../../src/wine/library/record-layer.js';
import { userName } from '../../src/wine/library/user-name.js';
import { openWholePrefix } from '../../src/wine/library/whole-prefix.js';
import { findWine, type WineBuild } from '../../src/wine/prefix/build.js';
import { parseHive } from '../../src/wine/registry/parse.js';
import { stubPrefix } from './stub-wine.js';

/** The program runs, and then the registry is written as wineserver does: whole, by a rename. */
const WINE = `#!/bin/sh
if [ "$1" = --version ]; then echo wine-8.0-stub; exit; fi
program=$1
shift
"$program" "$@"
code=$?
[ -f "$WINEPREFIX/values" ] || exit $code
while IFS== read -r name value; do
  export HEAD='[Software\\\\Stub\\\\'"$name]"
  {
    awk -v RS= -v ORS='\n\n' 'index($0, ENVIRON["HEAD"]) != 1' "$WINEPREFIX/system.reg"
    if [ -n "$value" ]; then
      printf '%s 1700000000\n#time=1da1a2b3c4d5e6f\n"v"="%s"\n' "$HEAD" "$value"
    fi
  } >"$WINEPREFIX/reg.tmp"
  mv "$WINEPREFIX/reg.tmp" "$WINEPREFIX/system.reg"
done <"$WINEPREFIX/values"
rm "$WINEPREFIX/values"
exit $code
`;

/** The user that runs the tests: Wine's profiles go by this name. */
const USER = userName(process.env);

export interface Place {
  readonly folder: string;
  /** Of the library. */
  readonly root: string;
  readonly env: NodeJS.ProcessEnv;
  /** A prefix as Wine makes it. */
  readonly plain: string;
  readonly wine: WineBuild;
}

/** What the base of every test has. */
export const BASE_FILES: Readonly<Record<string, string>> = {
  'windows/system32/kernel32.dll': 'builtin',
  'windows/temp/.keep': '',
  'Program Files/readme.txt': 'of the base',
  [`users/${USER}/Temp/.keep`]: '',
};

export function makePlace(folder: string): Place {
  const build = join(folder, 'build');
  mkdirSync(join(build, 'bin'), { recursive: true });
  for (const [name, text] of [
    ['wine', WINE],
    ['wineserver', '#!/bin/sh\nexit 0\n'],
  ] as const) {
    writeFileSync(join(build, 'bin', name), text);
    chmodSync(join(build, 'bin', name), 0o755);
  }
  const root = join(folder, 'wine');
  const plain = join(folder, 'plain');
  stubPrefix(plain, BASE_FILES);
  writeFileSync(join(plain, '.update-timestamp'), '1676758571\n');
  const env = { ...process.env, VARVE_WINE_DIR: root };
  return { folder, root, env, plain, wine: findWine(build, env) };
}

export async function withBase(folder: string): Promise<Place> {
  const place = makePlace(folder);
  await addBase({ name: 'default', from: place.plain, wine: () => place.wine, env: place.env });
  return place;
}

/** An installer: a shell script that works in "$C", the drive; `key NAME VALUE` sets a key of Software\Stub, or removes it. */
export function installer(place: Place, name: string, script: string): string {
  const path = join(place.folder, name);
  const head = `#!/bin/sh
C=$WINEPREFIX/drive_c
U=$C/users/${USER}
key() { echo "$1=$2" >>"$WINEPREFIX/values"; }
`;
  writeFileSync(path, head + script);
  chmodSync(path, 0o755);
  return path;
}

export const record = (
  place: Place,
  name: string,
  command: readonly string[],
  more: Partial<RecordRequest> = {},
): Promise<RecordedLayer> =>
  recordLayer({
    name,
    layers: [],
    command,
    wine: place.wine,
    env: place.env,
    quiet: true,
    keepNoise: false,
    keepFailed: false,
    ...more,
  });

/** Everything that a prefix which is down shows: names, modes and contents, and the keys of the test; times are left out. */
export async function shown(place: Place, folder: string): Promise<string> {
  const form = await openWholePrefix(folder, place.env);
  const lines: string[] = [];
  try {
    remove(form.root, '.wine');
    walk(form.root, (path, node) => {
      const isDir = isDirectory(node);
      const content = isDir || node.size === 0 ? '' : readContent(node).toString('hex');
      lines.push(`${path} ${node.mode.toString(8)} ${node.target ?? ''} ${content}`);
    });
  } finally {
    form.close();
  }
  return [...lines, JSON.stringify(keysOf(folder))].join('\n');
}

/** What the keys below Software\Stub hold, by name. */
export function keysOf(folder: string): Record<string, string> {
  const { keys } = parseHive(readFileSync(join(folder, 'system.reg')));
  const found: Record<string, string> = {};
  for (const { path, values } of keys.values()) {
    const [, name] = /^Software\\Stub\\(.*)$/.exec(path) ?? [];
    if (name !== undefined) found[name] = (values.get('v')?.data ?? '').replaceAll('"', '');
  }
  return found;
}

/** Writes a prefix's own file, as a session would have left it. */
export function writeOwn(folder: string, path: string, text: string): void {
  mkdirSync(join(folder, 'drive_c', path, '..'), { recursive: true });
  writeFileSync(join(folder, 'drive_c', path), text);
}
