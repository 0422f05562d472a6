// A server for tests of the supervisor: the memory filesystem of test/fuse, started as stack/server.ts is.
// Spawned by the supervisor under test. What its orders say of `fail` it does instead of serving.
// Protocol: src/supervisor/orders.ts.

import { serve } from '../../src/fuse/server.js';
import {
  awaitMount,
  reportEnded,
  reportError,
  reportReady,
  takeOrders,
} from '../../src/supervisor/orders.js';
import { LAYOUT_VERSION } from '../../src/vfs/layout.js';
import { MemoryFileSystem } from '../fuse/memfs.js';

/** Where to go wrong; absent: nowhere. */
export interface FakeSpec {
  readonly fail?: 'refuse' | 'crash-before' | 'crash-after';
}

const orders = takeOrders(LAYOUT_VERSION);
if (orders === undefined) process.exit(1);
const { fail } = orders.spec as FakeSpec;
if (fail === 'refuse') {
  reportError({ kind: 'layer', message: 'lowerdir: /nowhere: no such directory: create it' });
  process.exit(1);
}
if (fail === 'crash-before') throw new Error('broken on purpose');
const fd = awaitMount();
const reason = serve(new MemoryFileSystem(), {
  fd,
  onReady: (session, recovery) => {
    reportReady(session, recovery);
    if (fail === 'crash-after') process.kill(process.pid, 'SIGKILL');
  },
});
if (reason === 'unmounted') reportEnded();
process.exit(reason === 'unmounted' ? 0 : 1);
