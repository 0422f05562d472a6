// NFS: nfs-ganesha exports a mount with nfs_export=on, and libnfs reads, writes, renames and removes thousands of files over
// it, while the kernel is made to forget what it has looked up, so that everything is found again by its file handle.

import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { shell } from './shell.js';

const skip = requires({
  root: true,
  features: ['fuse'],
  packages: ['iproute2', 'jq', 'libnfs13', 'nfs-ganesha', 'nfs-ganesha-vfs', 'rpcbind'],
});

const varve = `${process.execPath} ${fileURLToPath(new URL('../../bundle/programs/main.js', import.meta.url))}`;
const client = fileURLToPath(new URL('./nfs/main.js', import.meta.url));

test('an exported mount is read and written over NFS, and no handle goes stale', {
  skip,
  timeout: 300_000,
}, (t) => {
  const folder = tempDir(t);
  for (const name of ['lower', 'upper', 'work', 'mnt']) mkdirSync(join(folder, name));
  for (let d = 0; d < 20; d++) {
    mkdirSync(join(folder, `lower/d${d}`));
    for (let f = 0; f < 100; f++) {
      writeFileSync(join(folder, `lower/d${d}/f${f}`), `file ${f} of directory ${d}`);
    }
  }
  const mnt = join(folder, 'mnt');
  shell(
    `${varve} mount -q --backend=fuse -o lowerdir=lower,upperdir=upper,workdir=work,nfs_export=on mnt`,
    { cwd: folder },
  );
  // In this process's mount namespace, for a supervisor knows the mounts of one; between two servers there is none to kill.
  const kill = `exec nsenter --target ${process.pid} --mount sh -ec '
    for try in $(seq 200); do
      if pid=$(${varve} status --json ${mnt} | jq -e .serverPid); then exec kill -9 $pid; fi
      sleep 0.02
    done
    exit 1'`;
  const said = shell(
    `exec unshare --mount --net --propagation private bash -euo pipefail -c '
       awk -v below="$NEIGHBOURS" -v mnt="$MNT" "$OTHERS" /proc/self/mounts | xargs -r umount -l 2>/dev/null || true
       mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /var/lib/nfs; ip link set lo up
       "$NODE" "$CLIENT" "$FOLDER" "$MNT" "$KILL" || {
         grep -v EVENT "$FOLDER/ganesha.log" | tail -n 10 >&2
         exit 1
       }'`,
    {
      env: {
        NODE: process.execPath,
        CLIENT: client,
        FOLDER: folder,
        MNT: mnt,
        KILL: kill,
        // Of tests that run beside this one.
        OTHERS: '$3 ~ /^(fuse|overlay)/ && index($2, below) == 1 && $2 != mnt { print $2 }',
        NEIGHBOURS: `${dirname(tmpdir())}/`,
      },
      timeout: 280_000,
    },
  );
  const { calls, drops, restarts } = JSON.parse(said);
  assert.ok(calls > 20_000, said);
  assert.ok(drops > 20, said);
  assert.equal(restarts, drops);
  assert.doesNotMatch(readFileSync(join(folder, 'ganesha.log'), 'latin1'), /stale|ESTALE/i);
  assert.equal(readFileSync(join(mnt, 'd7/new/n3'), 'latin1'), 'new 7 3');
  assert.equal(readdirSync(join(folder, 'upper/d7/new')).length, 59);
  shell(`${varve} umount -q mnt`, { cwd: folder });
});
