// A build of "Wine" made of shell scripts, so that tests of sessions need no Wine and take milliseconds.
// Its wineserver lives while its lock is held and then writes the registry, as the real one does: whole, by a rename.
// `wine sh -c SCRIPT` runs a script; `wine set NAME VALUE` changes the registry; every other program is one of this machine.

import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const WINE = `#!/bin/sh
# What the loader does: starts the server of the prefix, unless it lives, and runs the program.
here=\${0%/*}
case $WINEPREFIX in /*) ;; *) echo "not an absolute path: $WINEPREFIX" >&2; exit 1 ;; esac
"$here/server" </dev/null >/dev/null 2>&1 3>&- 9>&- &
while ! [ -s "$WINEPREFIX/server.pid" ] && kill -0 $! 2>/dev/null; do sleep 0.01; done
program=$1
shift
if [ "$program" = set ]; then
  printf '"%s"="%s"\\n' "$1" "$2" >>"$WINEPREFIX/server.values"
  exit 0
fi
exec "$program" "$@"
`;

const SERVER = `#!/bin/sh
# Lives as long as one of its clients, and STUB_LINGER seconds more.
exec 5>"$WINEPREFIX/server.lock"
flock -n 5 || exit 0
echo $$ >"$WINEPREFIX/server.pid"
trap 'kill $!; rm -f "$WINEPREFIX/server.pid"; exit' TERM
sleep "\${STUB_LINGER:-0.1}" 5>&- &
wait
if [ -f "$WINEPREFIX/server.values" ]; then
  {
    cat "$WINEPREFIX/system.reg"
    printf '\\n[Software\\\\\\\\Stub%s] 1700000000\\n#time=1da1a2b3c4d5e6f\\n' $$
    cat "$WINEPREFIX/server.values"
  } >"$WINEPREFIX/reg.tmp"
  mv "$WINEPREFIX/reg.tmp" "$WINEPREFIX/system.reg"
  rm "$WINEPREFIX/server.values"
fi
rm -f "$WINEPREFIX/server.pid"
`;

const WINESERVER = `#!/bin/sh
case $1 in
  -w) exec 5>"$WINEPREFIX/server.lock" && flock 5 ;;
  -k) [ -s "$WINEPREFIX/server.pid" ] && kill "$(cat "$WINEPREFIX/server.pid")" ;;
esac
`;

/** @returns the folder of the build, as --wine takes it. */
export function stubWine(folder: string): string {
  const build = join(folder, 'stub');
  mkdirSync(join(build, 'bin'), { recursive: true });
  const programs = { wine: WINE, server: SERVER, wineserver: WINESERVER };
  for (const [name, text] of Object.entries(programs)) {
    const path = join(build, 'bin', name);
    writeFileSync(path, text);
    chmodSync(path, 0o755);
  }
  return build;
}

const HEADER = (what: string): string =>
  `WINE REGISTRY Version 2\n;; All keys relative to ${what}\n\n#arch=win64\n`;

/** Makes a plain prefix: drive_c with these files, and a small registry. @returns its drive_c. */
export function stubPrefix(folder: string, files: Readonly<Record<string, string>>): string {
  const driveC = join(folder, 'drive_c');
  mkdirSync(join(driveC, 'windows'), { recursive: true });
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(driveC, path, '..'), { recursive: true });
    writeFileSync(join(driveC, path), text);
  }
  const key = '\n[Software\\\\Base] 1700000000\n#time=1da1a2b3c4d5e6f\n"name"="base"\n';
  writeFileSync(join(folder, 'system.reg'), `${HEADER('\\\\Machine')}${key}`);
  writeFileSync(join(folder, 'user.reg'), HEADER('\\\\User\\\\S-1-5-21-0-0-0-1000'));
  writeFileSync(join(folder, 'userdef.reg'), HEADER('\\\\User\\\\.Default'));
  return driveC;
}
