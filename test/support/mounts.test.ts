import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mountsBelow, parseMountinfo } from './mounts.js';

const mountinfo = `\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 21 0:45 / /tmp/a rw,nosuid shared:7 master:2 - fuse.varve varve rw,user_id=0
31 30 0:46 / /tmp/a/b\\040c rw - tmpfs none rw
32 21 0:47 / /tmp/ab rw - tmpfs none rw
33 30 0:4099 / /tmp/a rw - fuse varve\\134x rw
`;

test('a mountinfo row, with and without optional fields', () => {
  const rows = parseMountinfo(mountinfo);
  assert.deepEqual(rows[1], { target: '/tmp/a', fstype: 'fuse.varve', source: 'varve', minor: 45 });
  assert.deepEqual(rows[2], { target: '/tmp/a/b c', fstype: 'tmpfs', source: 'none', minor: 46 });
  assert.deepEqual(rows[4], { target: '/tmp/a', fstype: 'fuse', source: 'varve\\x', minor: 4099 });
});

test('mounts below a folder come last first, and a name that only begins alike is not below', () => {
  const targets = mountsBelow('/tmp/a', mountinfo).map(({ target, minor }) => [target, minor]);
  assert.deepEqual(targets, [
    ['/tmp/a', 4099],
    ['/tmp/a/b c', 46],
    ['/tmp/a', 45],
  ]);
});
