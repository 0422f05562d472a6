// One install in a process of its own, to be killed or traced; for install.test.ts.
// Arguments: OUTDIR, the boot folder, the name.

import { installBuild } from '../../src/boot/install/install.js';
import { parseSettings } from '../../src/boot/install/settings.js';

const [outdir = '', boot = '', as = ''] = process.argv.slice(2);
await installBuild({
  outdir,
  boot,
  root: '/nowhere',
  settings: parseSettings('', 'none'),
  keepFull: true,
  force: false,
  as,
});
