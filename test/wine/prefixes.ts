// Prefixes made by hand, as small as they can be: what doctor, isolation and the library look at, without Wine.
// Used by the tests of this folder.

import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** A registry file with a header as Wine writes it. @param keys text after the header. */
export function hiveText(root: string, keys = ''): string {
  return `WINE REGISTRY Version 2\n;; All keys relative to ${root}\n\n#arch=win64\n${keys}`;
}

/** What `wineboot -i` leaves, in small: a home that seven links lead to, a few builtins, three .reg files. */
export function makePlainPrefix(folder: string, home: string): void {
  const user = join(folder, 'drive_c/users/tester');
  for (const path of [
    'drive_c/windows/system32',
    'drive_c/Program Files',
    'drive_c/users/Public/Documents',
    'drive_c/users/tester/AppData/Roaming/Microsoft/Windows',
    'dosdevices',
  ]) {
    mkdirSync(join(folder, path), { recursive: true });
  }
  for (const name of PROFILE_LINKS) symlinkSync(home, join(user, name));
  for (const name of ['ntdll.dll', 'kernel32.dll', 'user32.dll', 'explorer.exe', 'services.exe']) {
    writeFileSync(join(folder, 'drive_c/windows/system32', name), `${name} of Wine`);
  }
  symlinkSync('../drive_c', join(folder, 'dosdevices/c:'));
  symlinkSync('/', join(folder, 'dosdevices/z:'));
  writeFileSync(join(folder, 'system.reg'), hiveText('\\\\Machine'));
  writeFileSync(join(folder, 'user.reg'), hiveText('\\\\User\\\\S-1-5-21-0-0-0-1000'));
  writeFileSync(join(folder, 'userdef.reg'), hiveText('\\\\User\\\\.Default'));
  writeFileSync(join(folder, '.update-timestamp'), '1676758571\n');
}

export const PROFILE_LINKS: readonly string[] = [
  'AppData/Roaming/Microsoft/Windows/Templates',
  'Desktop',
  'Documents',
  'Downloads',
  'Music',
  'Pictures',
  'Videos',
];

/** What a session over layers leaves: own files, `disable`, drives. */
export function makeLayeredPrefix(folder: string): void {
  mkdirSync(join(folder, 'drive_c'), { recursive: true });
  mkdirSync(join(folder, 'dosdevices'));
  mkdirSync(join(folder, '.varve/work'), { recursive: true });
  symlinkSync('../drive_c', join(folder, 'dosdevices/c:'));
  symlinkSync('/', join(folder, 'dosdevices/z:'));
  for (const hive of ['system', 'user', 'userdef']) {
    writeFileSync(join(folder, `${hive}.reg`), hiveText(hive));
  }
  writeFileSync(join(folder, '.update-timestamp'), 'disable');
}

/** Files by their paths below a folder, which is made where it is missing. */
export function writeFiles(folder: string, files: Readonly<Record<string, string>>): void {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  }
}
