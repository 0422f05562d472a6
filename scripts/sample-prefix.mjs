// Two Wine prefixes, before and after an editor was installed: what the picture of `varve wine diff` shows.
// Called by scripts/screenshots.mjs. Made by hand, in small; always the same bytes.

import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** @param {string} root @param {Record<string, string>} files */
const put = (root, files) => {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
};

/** @param {string} below @param {string[]} keys */
const hive = (below, keys) =>
  `WINE REGISTRY Version 2\n;; All keys relative to ${below}\n\n#arch=win64\n${keys.map((key) => `\n${key}\n`).join('')}`;

const DESKTOP = '[Control Panel\\\\Desktop] 1767225600\n"FontSmoothing"="2"';
const TXT = '[Software\\\\Classes\\\\.txt] 1767225600\n@="txtfile"\n"PerceivedType"="text"';
const VERSION =
  '[Software\\\\Microsoft\\\\Windows\\\\CurrentVersion] 1767225600\n"ProgramFilesDir"="C:\\\\Program Files"';
const VIEWER = '[Software\\\\Viewer] 1767225600\n"Path"="C:\\\\viewer"\n"Plugins"=dword:00000003';

const INSTALLED = {
  machine: [
    '[Software\\\\Acme\\\\Editor] 1769860800\n@="Acme Editor"\n"InstallDir"="C:\\\\Program Files\\\\Acme Editor"\n"Version"=dword:00000201\n"Languages"=str(7):"de\\0en\\0fr\\0"\n"Licence"=hex:41,43,4d,45,2d,32,30,32,36,00,17,2a,9c,44,e1,03,5b,77,80,0f',
    '[Software\\\\Classes\\\\.acme] 1769860800\n@="Acme.Document"\n"Content Type"="application/x-acme"',
    '[Software\\\\Classes\\\\.txt] 1769860800\n@="Acme.Text"\n"PerceivedType"="text"',
    '[Software\\\\Classes\\\\Acme.Document\\\\shell\\\\open\\\\command] 1769860800\n@="\\"C:\\\\Program Files\\\\Acme Editor\\\\editor.exe\\" \\"%1\\""',
    `${VERSION}`,
    '[Software\\\\Microsoft\\\\Windows\\\\CurrentVersion\\\\App Paths\\\\editor.exe] 1769860800\n@="C:\\\\Program Files\\\\Acme Editor\\\\editor.exe"',
    '[Software\\\\Microsoft\\\\Windows\\\\CurrentVersion\\\\Run] 1769860800\n"AcmeUpdater"="\\"C:\\\\Program Files\\\\Acme Editor\\\\update.exe\\" /background"',
    '[Software\\\\Microsoft\\\\Windows\\\\CurrentVersion\\\\Uninstall\\\\Acme Editor] 1769860800\n"DisplayName"="Acme Editor 2.1"\n"DisplayVersion"="2.1.0"\n"EstimatedSize"=dword:00002a10\n"UninstallString"=str(2):"%ProgramFiles%\\\\Acme Editor\\\\uninst.exe"',
  ],
  user: [
    '[Control Panel\\\\Desktop] 1769860800\n"FontSmoothing"="2"\n"Wallpaper"="C:\\\\Program Files\\\\Acme Editor\\\\wall.bmp"',
    '[Software\\\\Acme\\\\Editor\\\\Window] 1769860800\n"Height"=dword:000002d0\n"Width"=dword:00000500',
    '[Software\\\\Wine\\\\Drivers\\\\winex11.drv\\\\devices\\\\0] 1769860800\n"Name"="eDP-1"',
  ],
};

/** @param {string} folder gets `default` and `office`. */
export const makeSamplePrefixes = (folder) => {
  const common = { 'drive_c/windows/win.ini': '[fonts]\n[extensions]\n' };
  put(join(folder, 'default'), {
    ...common,
    'system.reg': hive('\\\\Machine', [TXT, VERSION, VIEWER]),
    'user.reg': hive('\\\\User\\\\S-1-5-21-0-0-0-1000', [DESKTOP]),
    'userdef.reg': hive('\\\\User\\\\.Default', []),
  });
  put(join(folder, 'office'), {
    'drive_c/windows/win.ini':
      '[fonts]\n[extensions]\nacme=C:\\Program Files\\Acme Editor\\editor.exe\n',
    'drive_c/Program Files/Acme Editor/editor.exe': 'MZ'.padEnd(1_240_000, '\0editor'),
    'drive_c/Program Files/Acme Editor/update.exe': 'MZ'.padEnd(310_000, '\0update'),
    'drive_c/Program Files/Acme Editor/uninst.exe': 'MZ'.padEnd(64_000, '\0uninst'),
    'drive_c/Program Files/Acme Editor/readme.txt': 'Acme Editor 2.1\n',
    'system.reg': hive('\\\\Machine', INSTALLED.machine),
    'user.reg': hive('\\\\User\\\\S-1-5-21-0-0-0-1000', INSTALLED.user),
    'userdef.reg': hive('\\\\User\\\\.Default', []),
  });
};
