// What the server practises while idle leaves nothing: not in the layers, not in the tables, not in the counters.
// Under test: src/fuse/rehearse.ts on a real overlay, without a kernel: requests are handled as in a server.

import assert from 'node:assert/strict';
import { lstatSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Dispatcher, type DispatchHost, emptyRequest } from '../../src/fuse/dispatch.js';
import { Rehearsal } from '../../src/fuse/rehearse.js';
import { E } from '../../src/linux/errno.js';
import { mapMemory } from '../../src/linux/memory.js';
import { checkLayers } from '../../src/stack/check.js';
import { openFileSystem } from '../../src/stack/open.js';
import { parseOptions } from '../../src/stack/options.js';
import { H, get as handleGet } from '../../src/vfs/handles.js';
import { F, get as nodeGet } from '../../src/vfs/nodes.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';

/** Everything below a folder with its times, as lines; without the atime of folders, which this reads itself. */
function snapshot(folder: string, path = ''): string[] {
  return readdirSync(join(folder, path)).flatMap((name) => {
    const at = join(path, name);
    const s = lstatSync(join(folder, at), { bigint: true });
    const line = `${at} ${s.mode} ${s.size} ${s.mtimeNs} ${s.ctimeNs}`;
    return s.isDirectory() ? [line, ...snapshot(folder, at)] : [`${line} ${s.atimeNs}`];
  });
}

test('a rehearsal leaves everything as it was', { skip: requires({ root: true }) }, (t) => {
  const folder = tempDir(t);
  const at = (path: string): string => join(folder, path);
  for (const dir of ['low/a/deep', 'low/b', 'top/a', 'up/a', 'up/own', 'work', 'm']) {
    mkdirSync(at(dir), { recursive: true });
  }
  for (let i = 0; i < 40; i++) writeFileSync(at(`low/a/${i}`), 'low');
  for (let i = 20; i < 60; i++) writeFileSync(at(`top/a/${i}`), 'top');
  for (let i = 0; i < 20; i++) writeFileSync(at(`up/own/${i}`), 'own');
  writeFileSync(at('up/a/3'), 'up');
  symlinkSync('deep', at('low/a/link'));

  mapMemory();
  const options = `lowerdir=${at('top')}:${at('low')},upperdir=${at('up')},workdir=${at('work')}`;
  const fs = openFileSystem(checkLayers(parseOptions([options], { defaults: '' }), at('m'), false));
  const never = (): never => {
    throw new Error('a rehearsal must not ask the host for this');
  };
  const host = {
    session: undefined,
    defer: never,
    resume: never,
    invalInode: never,
    invalEntry: never,
    notifyDelete: never,
    storeStart: () => {},
    errand: () => {},
    backingOpen: () => -E.PERM,
    backingClose: never,
    passthrough: false,
    writeback: false,
    noOpendir: false,
    jobs: { parkReply: never, run: never },
    interrupted: never,
  } as unknown as DispatchHost;
  const logged: string[] = [];
  const dispatcher = new Dispatcher(emptyRequest(), fs, host, {
    wishes: { passthrough: false, writeback: false, acl: true },
    timeout: 1,
    log: (line) => logged.push(line),
  });
  dispatcher.begin({
    minor: 45,
    passthrough: false,
    writeback: false,
    acl: true,
    setxattrExt: true,
    resend: true,
    noOpendir: false,
    maxWrite: 1 << 20,
    flags: 0,
    flags2: 0,
  } as unknown as Parameters<Dispatcher['begin']>[0]);

  const inUse = () => {
    const slots = Array.from({ length: 10_000 }, (_, i) => i + 1);
    return [
      slots.filter((slot) => nodeGet(slot, F.flags) !== 0).length,
      slots.filter((slot) => handleGet(slot, H.node) !== 0).length,
    ];
  };
  const before = { layers: snapshot(folder), inUse: inUse() };
  const rehearsal = new Rehearsal(dispatcher, fs);
  let turns = 0;
  for (; !rehearsal.over; turns++) {
    assert.ok(turns < 10_000, 'it ends');
    rehearsal.turn();
  }
  assert.ok(turns > 100, `${turns} turns`);
  assert.deepEqual(logged, []);
  assert.deepEqual(snapshot(folder), before.layers);
  assert.deepEqual(inUse(), before.inUse);
  assert.deepEqual(before.inUse, [1, 0], 'the root alone');
  fs.stop();
});
