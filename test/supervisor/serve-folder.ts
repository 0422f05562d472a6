// A server for tests of succession: a folder on disk, served as stack/server.ts serves a stack.
// Spawned by the supervisor under test. A successor ends before it is ready where a file `FOLDER.exit` is beside the
// folder, and says that no other could do better where there is `FOLDER.refuse`.

import { existsSync, fstatSync, openSync } from 'node:fs';
import { type Recovery, serve } from '../../src/fuse/server.js';
import type { Session } from '../../src/fuse/session.js';
import {
  awaitMount,
  hearOrders,
  keep,
  reportAborted,
  reportEnded,
  reportError,
  reportReady,
  takeOrders,
} from '../../src/supervisor/orders.js';
import { SERVER_FDS } from '../../src/supervisor/protocol.js';
import { LAYOUT_VERSION } from '../../src/vfs/layout.js';
import { FolderFileSystem } from './folderfs.js';

export interface FolderSpec {
  readonly folder: string;
  /** clone: requests cannot be sent again. none: it cannot be succeeded. Absent: as the kernel can. */
  readonly recovery?: Recovery;
  /** Seconds that the kernel may keep names and attributes. */
  readonly timeout?: number;
}

/** Arguments: the layout of the arena that it claims to know; `refuse` as if there were that file. */
const layout = Number(process.argv[2] ?? LAYOUT_VERSION);
const orders = takeOrders(layout);
if (orders === undefined) process.exit(1);
const spec = orders.spec as FolderSpec;
if (orders.successor !== undefined) {
  if (process.argv[3] === 'refuse' || existsSync(`${spec.folder}.refuse`)) {
    reportError({ kind: 'server', message: 'no successor of this kind can serve' }, true);
    process.exit(1);
  }
  if (existsSync(`${spec.folder}.exit`)) process.exit(3);
}
const held = keep('folder', () => openSync(spec.folder, 'r'));
if (!fstatSync(held).isDirectory()) throw new Error('what was kept is something else');
const fs = new FolderFileSystem(spec.folder);
const reason = serve(fs, {
  fd: awaitMount(),
  timeout: spec.timeout ?? 0,
  succeeded: spec.recovery !== 'none',
  // Before Linux 6.9.
  ...(spec.recovery === 'clone' ? { minor: 39 } : {}),
  session: orders.successor?.session as Session | undefined,
  successor: orders.successor !== undefined,
  wakeFd: SERVER_FDS.orders,
  onWake: hearOrders,
  trace: true,
  log: (line) => fs.traced(line),
  onReady: reportReady,
});
if (reason === 'aborted') reportAborted('its connection was aborted');
if (reason === 'unmounted' || reason === 'left') reportEnded();
process.exit(reason === 'unmounted' || reason === 'left' ? 0 : 1);
