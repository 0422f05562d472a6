// Who may do what, and what a change of owner or content does to mode bits: ACLs, suid, sgid and sticky.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { test } from 'node:test';
import { dir, file, type Tree } from '../layer/tree.js';
import { requires } from '../support/requires.js';
import { asUser, must, O, show, stat, sys } from '../support/sys.js';
import { run, type Stack, stack } from './stack.js';

const skip = requires({
  root: true,
  packages: ['acl', 'libcap2-bin'],
  features: ['fuse', 'overlayfs'],
});

const modeOf = (s: Stack, name: string) => statSync(s.path(name)).mode & 0o7777;
const acl = (s: Stack, name: string) =>
  run('getfacl', ['-c', '-p', '-n', '-E', s.path(name)])
    .trim()
    .split('\n')
    .filter(Boolean);

function make(root: number, name: string, mode: number): void {
  sys.umask(0o022);
  sys.close(must(sys.open(root, name, O.CREAT | O.EXCL | O.WRONLY, mode)));
}

test('default ACLs are inherited: in place, over whiteouts, into copied-up directories', {
  skip,
}, async (t) => {
  const lower: Tree = { 'd/gone': file(''), 'd/gonedir/x': file(''), 'low/sub/f': file('') };
  const s = await stack(t, { lowers: [lower], unmounted: true });
  const rule = 'd:u:1000:rwx,d:g::r-x,d:o::---,d:m::rwx';
  for (const name of ['d', 'low/sub']) run('setfacl', ['-m', rule, `${s.lowers[0]}/${name}`]);
  await s.mount();
  s.at((root) => {
    must(sys.unlink(root, 'd/gone'));
    must(sys.unlink(root, 'd/gonedir/x'));
    must(sys.rmdir(root, 'd/gonedir'));
    make(root, 'd/plain', 0o666);
    make(root, 'd/gone', 0o666);
    must(sys.mkdir(root, 'd/dir', 0o777));
    must(sys.mkdir(root, 'd/gonedir', 0o777));
    make(root, 'd/dir/deeper', 0o640);
    make(root, 'low/sub/new', 0o666);
  });
  const fileAcl = ['user::rw-', 'user:1000:rwx', 'group::r-x', 'mask::rw-', 'other::---'];
  for (const name of ['d/plain', 'd/gone', 'low/sub/new']) {
    assert.deepEqual(acl(s, name), fileAcl, name);
    assert.equal(modeOf(s, name), 0o660, name);
  }
  assert.deepEqual(acl(s, 'd/gonedir'), acl(s, 'd/dir'));
  assert.equal(acl(s, 'd/dir').filter((line) => line.startsWith('default:')).length, 5);
  assert.deepEqual(acl(s, 'd/dir/deeper')[3], 'mask::r--');
  await s.sameToKernel();
});

test('an ACL grants and denies, in a lower, after copy-up and when changed', {
  skip,
}, async (t) => {
  const s = await stack(t, {
    lowers: [{ grant: file('g', { mode: 0o600 }), deny: file('d', { mode: 0o666 }) }],
    unmounted: true,
  });
  run('setfacl', ['-m', 'u:1000:r', `${s.lowers[0]}/grant`]);
  run('setfacl', ['-m', 'u:1000:-', `${s.lowers[0]}/deny`]);
  await s.mount();
  const tries = () =>
    s.at((root) =>
      asUser(1000, 1000, () =>
        ['grant', 'deny'].map((name) => {
          const fd = sys.open(root, name, O.RDONLY);
          if (fd >= 0) sys.close(fd);
          return fd >= 0;
        }),
      ),
    );
  assert.deepEqual(tries(), [true, false]);
  s.at((root) => {
    must(sys.chown(root, 'grant', 2, 2));
    must(sys.chown(root, 'deny', 2, 2));
  });
  assert.deepEqual(tries(), [true, false]);
  run('setfacl', ['-x', 'u:1000', s.path('grant')]);
  run('setfacl', ['-b', s.path('deny')]);
  assert.deepEqual(tries(), [false, true]);
  // chmod changes the mask, as on any filesystem.
  run('setfacl', ['-m', 'u:1000:rw', s.path('grant')]);
  chmodSync(s.path('grant'), 0o640);
  assert.ok(acl(s, 'grant').includes('mask::r--'));
  await s.sameToKernel();
});

test('set-group-id goes when a stranger to the group changes the ACL', { skip }, async (t) => {
  const entry = (name: string) => ({
    mode: 0o2775,
    uid: 1000,
    gid: name.includes('own') ? 1000 : 0,
  });
  const lower: Record<string, Tree[string]> = {};
  const names = ['set', 'remove', 'own-set', 'own-remove'];
  for (const name of names) {
    lower[`f-${name}`] = file('', entry(name));
    lower[`d-${name}`] = dir(entry(name));
  }
  const s = await stack(t, { lowers: [lower], unmounted: true });
  const all = Object.keys(lower);
  for (const name of all.filter((path) => path.endsWith('remove'))) {
    run('setfacl', ['-m', 'u:7:rwx', `${s.lowers[0]}/${name}`]);
  }
  const act = () => {
    for (const name of all) {
      const args = name.endsWith('set') ? ['-m', 'u:7:rwx'] : ['-b'];
      const path = s.path(name);
      const done = spawnSync('setfacl', [...args, path], { uid: 1000, gid: 1000 });
      assert.equal(done.status, 0, String(done.stderr));
    }
    return all.map((name) => [name, modeOf(s, name).toString(8)]);
  };
  await s.mount();
  const ours = act();
  assert.equal(modeOf(s, 'f-set'), 0o775);
  assert.equal(modeOf(s, 'd-own-set'), 0o2775);
  await s.sameToKernel();
  rmSync(s.upper, { recursive: true });
  rmSync(s.work, { recursive: true });
  for (const folder of [s.upper, s.work]) mkdirSync(folder);
  s.kernelMount();
  const theirs = act();
  s.kernelUnmount();
  assert.deepEqual(ours, theirs);
});

test('writing, truncating and chown take suid and sgid away', { skip }, async (t) => {
  const names = ['write', 'trunc', 'otrunc', 'chown', 'falloc'];
  const tree: Record<string, ReturnType<typeof file>> = {};
  for (const name of names) tree[name] = file('content', { mode: 0o6777 });
  const s = await stack(t, { lowers: [tree] });
  const act = (root: number): void => {
    asUser(1000, 1000, () => {
      const fd = must(sys.open(root, 'write', O.RDWR));
      must(sys.pwrite(fd, Buffer.from('C'), 0));
      sys.close(fd);
      must(sys.truncate(root, 'trunc', 3));
      sys.close(must(sys.open(root, 'otrunc', O.WRONLY | O.TRUNC)));
      const other = must(sys.open(root, 'falloc', O.RDWR));
      must(sys.fallocate(other, 0, 0, 8192));
      sys.close(other);
    });
    must(sys.chown(root, 'chown', 1, 1));
  };
  s.at(act);
  for (const name of names) assert.equal(modeOf(s, name) & 0o6000, 0, name);
  // Root keeps them when it writes.
  s.at((root) => {
    must(sys.chmod(root, 'write', 0o6755));
    const fd = must(sys.open(root, 'write', O.RDWR));
    must(sys.pwrite(fd, Buffer.from('C'), 0));
    sys.close(fd);
  });
  assert.equal(modeOf(s, 'write'), 0o6755);
  // Nothing but metadata changes nothing.
  s.at((root) => must(sys.utimens(root, 'write', ['now', 'now'])));
  assert.equal(modeOf(s, 'write'), 0o6755);
  await s.sameToKernel();
});

test('set-id bits given to a file that is open go when a user writes to it', {
  skip,
}, async (t) => {
  const s = await stack(t);
  s.at((root) => {
    const fd = must(sys.open(root, 'f', O.RDWR | O.CREAT, 0o666));
    must(sys.fchmod(fd, 0o6777));
    must(sys.pwrite(fd, Buffer.from('root'), 0));
    assert.equal(modeOf(s, 'f'), 0o6777, 'root keeps them');
    must(sys.fallocate(fd, 0, 0, 8192));
    assert.equal(modeOf(s, 'f'), 0o6777, 'root keeps them');
    // Asking for capabilities, as the kernel does before a write, is no write.
    const asked = spawnSync('getcap', [s.path('f')], { uid: 1000, gid: 1000 });
    assert.equal(asked.status, 0);
    assert.equal(modeOf(s, 'f'), 0o6777, 'asking changes nothing');
    asUser(1000, 1000, () => {
      assert.equal(show(sys.chown(fd, '', 0, -1)), 'EPERM');
      sys.fgetxattr(fd, 'security.capability');
    });
    assert.equal(modeOf(s, 'f'), 0o6777, 'neither does a chown that is refused');
    asUser(1000, 1000, () => must(sys.pwrite(fd, Buffer.from('user'), 0)));
    assert.equal(modeOf(s, 'f'), 0o777);
    must(sys.fchmod(fd, 0o6777));
    asUser(1000, 1000, () => must(sys.fallocate(fd, 0, 0, 16384)));
    assert.equal(modeOf(s, 'f'), 0o777);
    sys.close(fd);
  });
  await s.sameToKernel();
});

test('a chown by an owner of another group takes sgid away, without group execution too', {
  skip,
}, async (t) => {
  const tree: Record<string, ReturnType<typeof file>> = {
    foreign: file('', { mode: 0o2644, uid: 1000, gid: 1001 }),
    own: file('', { mode: 0o2644, uid: 1000, gid: 1000 }),
    runs: file('', { mode: 0o6755, uid: 1000, gid: 1000 }),
  };
  const names = Object.keys(tree);
  const s = await stack(t, { lowers: [tree] });
  s.at((root) => {
    asUser(1000, 1000, () => {
      for (const name of names) must(sys.chown(root, name, 1000, tree[name]?.gid ?? 0));
    });
  });
  assert.deepEqual(
    names.map((name) => modeOf(s, name)),
    [0o644, 0o2644, 0o755],
  );
  await s.sameToKernel();
});

test('a program that a user has written to does not start as its owner', { skip }, async (t) => {
  const s = await stack(t, { options: 'suid' });
  for (const how of ['write', 'open', 'allocate']) {
    copyFileSync('/usr/bin/id', s.path(how));
    chmodSync(s.path(how), 0o4777);
    // Without a look at the file in between: the kernel goes by the mode that it remembers.
    const run = () => spawnSync(s.path(how), ['-u'], { uid: 1000, gid: 1000, encoding: 'utf8' });
    assert.equal(run().stdout, '0\n');
    const bytes = readFileSync(s.path(how));
    s.at((root) =>
      asUser(1000, 1000, () => {
        const flags = how === 'open' ? O.WRONLY | O.TRUNC : O.WRONLY;
        const fd = must(sys.open(root, how, flags));
        if (how === 'allocate') must(sys.fallocate(fd, 0, 0, 1));
        else must(sys.pwrite(fd, bytes, 0));
        sys.close(fd);
      }),
    );
    assert.equal(run().stdout, '1000\n', how);
  }
});

test('capabilities are copied up and lost by a write', { skip }, async (t) => {
  const s = await stack(t, {
    lowers: [{ kept: file('x', { mode: 0o755 }), lost: file('x', { mode: 0o777 }) }],
    unmounted: true,
  });
  for (const name of ['kept', 'lost']) run('setcap', ['cap_net_raw+ep', `${s.lowers[0]}/${name}`]);
  await s.mount();
  s.at((root) => {
    must(sys.chmod(root, 'kept', 0o711));
    asUser(1000, 1000, () => {
      const fd = must(sys.open(root, 'lost', O.WRONLY));
      must(sys.pwrite(fd, Buffer.from('y'), 0));
      sys.close(fd);
    });
  });
  assert.match(run('getcap', [s.path('kept')]), /cap_net_raw/);
  assert.equal(run('getcap', [s.path('lost')]), '');
  await s.sameToKernel();
});

test('opening a metadata-only copy for writing brings the data, and keeps capabilities', {
  skip,
}, async (t) => {
  const s = await stack(t, {
    lowers: [{ f: file('content', { mode: 0o4755 }) }],
    options: 'metacopy=on',
    unmounted: true,
  });
  run('setcap', ['cap_net_raw+ep', `${s.lowers[0]}/f`]);
  await s.mount();
  s.at((root) => {
    must(
      sys.utimens(root, 'f', [
        [1000, 1],
        [2000, 2],
      ]),
    );
    sys.close(must(sys.open(root, 'f', O.WRONLY)));
    const st = stat(root, 'f');
    assert.ok(typeof st !== 'number');
    assert.equal(st.mtime, 2_000_000_000_002n);
  });
  assert.equal(s.xattr(s.upper, 'f', 'trusted.overlay.metacopy'), 'ENODATA');
  assert.match(run('getcap', [s.path('f')]), /cap_net_raw/);
  assert.equal(modeOf(s, 'f'), 0o4755);
  assert.equal(s.read('f'), 'content');
  await s.sameToKernel('metacopy=on,redirect_dir=on,index=on');
});

test('set-group-id directories hand down their group, over whiteouts too', { skip }, async (t) => {
  const s = await stack(t, {
    lowers: [
      { d: dir({ mode: 0o2777, gid: 555 }), 'd/gone': file(''), 'd/gonedir': dir({ gid: 9 }) },
    ],
  });
  s.at((root) => {
    must(sys.unlink(root, 'd/gone'));
    must(sys.rmdir(root, 'd/gonedir'));
    for (const [uid, names] of [
      [0, ['f', 'gone', 'dir']],
      [1000, ['uf', 'gonedir', 'udir']],
    ] as const) {
      asUser(uid, uid, () => {
        make(root, `d/${names[0]}`, 0o664);
        if (uid === 0) make(root, `d/${names[1]}`, 0o664);
        else must(sys.mkdir(root, `d/${names[1]}`, 0o755));
        must(sys.mkdir(root, `d/${names[2]}`, 0o755));
      });
      for (const name of names) {
        const st = stat(root, `d/${name}`);
        assert.ok(typeof st !== 'number');
        assert.equal(st.gid, 555, name);
        assert.equal(st.uid, uid, name);
        const isDir = name.endsWith('dir');
        assert.equal((st.mode & 0o2000) !== 0, isDir, name);
      }
    }
  });
  await s.sameToKernel();
});

test('new objects belong to who makes them, of every kind and over whiteouts', {
  skip,
}, async (t) => {
  const s = await stack(t, {
    lowers: [{ d: dir({ mode: 0o777 }), 'd/f': file(''), 'd/s': file(''), 'd/d': dir() }],
  });
  s.at((root) => {
    for (const name of ['f', 's']) must(sys.unlink(root, `d/${name}`));
    must(sys.rmdir(root, 'd/d'));
    asUser(1000, 1001, () => {
      make(root, 'd/f', 0o600);
      must(sys.symlink('x', root, 'd/s'));
      must(sys.mkdir(root, 'd/d', 0o700));
      make(root, 'd/f2', 0o600);
      must(sys.symlink('x', root, 'd/s2'));
      must(sys.mkdir(root, 'd/d2', 0o700));
      must(sys.mknod(root, 'd/p', 0o010600));
      const fd = must(sys.open(root, 'd', O.TMPFILE | O.RDWR, 0o600));
      must(sys.linkFd(fd, root, 'd/t'));
      sys.close(fd);
    });
    for (const name of ['f', 's', 'd', 'f2', 's2', 'd2', 'p', 't']) {
      const st = stat(root, `d/${name}`, 0x100);
      assert.ok(typeof st !== 'number', name);
      assert.deepEqual([st.uid, st.gid], [1000, 1001], name);
    }
  });
  await s.sameToKernel();
});

test('in a sticky directory only owners remove and rename', { skip }, async (t) => {
  const s = await stack(t, {
    lowers: [
      {
        d: dir({ mode: 0o1777 }),
        'd/mine': file('', { uid: 1000 }),
        'd/mine2': file('', { uid: 1000 }),
        'd/root': file(''),
        'd/other': file('', { uid: 1001 }),
      },
    ],
  });
  s.at((root) =>
    asUser(1000, 1000, () => {
      for (const name of ['root', 'other']) {
        assert.equal(show(sys.unlink(root, `d/${name}`)), 'EPERM', name);
        assert.equal(show(sys.rename(root, `d/${name}`, 'd/n')), 'EPERM', name);
        assert.equal(show(sys.rename(root, 'd/mine', `d/${name}`)), 'EPERM', name);
      }
      must(sys.unlink(root, 'd/mine'));
      must(sys.rename(root, 'd/mine2', 'd/renamed'));
    }),
  );
  await s.sameToKernel();
});

test('a plain user is refused what modes refuse, above and below', { skip }, async (t) => {
  const s = await stack(t, {
    lowers: [
      {
        closed: dir({ mode: 0o700 }),
        'closed/f': file('secret', { mode: 0o666 }),
        f: file('x', { mode: 0o604 }),
        ro: dir({ mode: 0o755 }),
        'ro/f': file('', { mode: 0o666 }),
      },
    ],
  });
  s.at((root) =>
    asUser(1000, 1000, () => {
      assert.equal(show(sys.open(root, 'closed/f', O.RDONLY)), 'EACCES');
      assert.equal(show(sys.open(root, 'closed', O.DIRECTORY)), 'EACCES');
      assert.equal(show(sys.open(root, 'f', O.WRONLY)), 'EACCES');
      assert.equal(show(sys.chmod(root, 'f', 0o777)), 'EPERM');
      assert.equal(show(sys.chown(root, 'f', 1000, 1000)), 'EPERM');
      assert.equal(show(sys.unlink(root, 'ro/f')), 'EACCES');
      assert.equal(show(sys.mkdir(root, 'ro/d', 0o755)), 'EACCES');
      assert.equal(show(sys.rename(root, 'ro/f', 'ro/g')), 'EACCES');
      const fd = must(sys.open(root, 'ro/f', O.WRONLY));
      sys.close(fd);
    }),
  );
});
