// The two command lines that replace other programs: varve-overlayfs for fuse-overlayfs, mount.fuse.varve for mount(8).
// Run as their callers run them: by path, through links, from scripts, by mount(8) and fstab, as root and as a plain user.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { requires } from '../support/requires.js';
import { isMounted } from '../support/subjects.js';
import { makeTempDir, removeTempDir } from '../support/temp.js';
import { type Installed, installVarve } from './installed.js';
import { makeUser, openFuseDevice, type PlainUser, privately } from './private.js';
import { quote, shell, tryShell } from './shell.js';

const skip = requires({ root: true, features: ['fuse', 'overlayfs', 'userns', 'plain-user'] });

suite('the command lines that replace others', { skip }, () => {
  let folder = '';
  let bin: Installed;
  let user: PlainUser;
  let count = 0;

  before(() => {
    folder = makeTempDir();
    bin = installVarve(join(folder, 'package'));
    user = makeUser(join(folder, 'home'));
  });

  after(() => {
    user.remove();
    removeTempDir(folder);
  });

  /** Folders of one stack with a file in each lower; owned by root. */
  function layers(): { at: string; mnt: string; options: string } {
    count += 1;
    const at = join(folder, `stack${count}`);
    for (const name of ['', 'a', 'b', 'upper', 'work', 'mnt']) mkdirSync(join(at, name));
    writeFileSync(join(at, 'a/one'), `one of ${count}\n`);
    writeFileSync(join(at, 'b/two'), 'two\n');
    const options = `lowerdir=${at}/a:${at}/b,upperdir=${at}/upper,workdir=${at}/work`;
    return { at, mnt: join(at, 'mnt'), options };
  }

  suite('varve-overlayfs', () => {
    test('--version names fuse-overlayfs first and the FUSE interface', () => {
      const lines = shell(`${bin.overlayfs} --version`).split('\n');
      assert.match(lines[0] as string, /^fuse-overlayfs: version 1\.\d+/);
      assert.ok(lines.some((line) => /^using FUSE kernel interface version 7\.\d+$/.test(line)));
      assert.equal(tryShell(`${bin.overlayfs} -V`).status, 0);
    });

    test("podman's own options: an empty one, linked lowers, an empty lower, volatile", () => {
      const { at, mnt } = layers();
      mkdirSync(join(at, 'empty'));
      mkdirSync(join(at, 'l'));
      for (const name of ['a', 'b', 'empty']) symlinkSync(`../${name}`, join(at, 'l', `L${name}`));
      const options = 'lowerdir=l/Lempty:l/La:l/Lb,upperdir=upper,workdir=work,,volatile';
      // Twice: kernel overlayfs would refuse the upper of an earlier volatile mount, fuse-overlayfs does not.
      for (const round of ['first', 'second']) {
        // The pipes of this call end with the command: nothing that goes on holds them.
        const said = tryShell(`${bin.overlayfs} -o ${options} ${mnt}`, {
          cwd: at,
          timeout: 120_000,
        });
        assert.deepEqual([said.status, said.stdout, said.stderr], [0, '', '']);
        assert.equal(
          shell(`cat ${mnt}/one ${mnt}/two; echo ${round} >${mnt}/new`),
          `one of ${count}\ntwo\n`,
        );
        shell(`umount ${mnt}`);
        assert.equal(readFileSync(join(at, 'upper/new'), 'utf8'), `${round}\n`);
      }
    });

    test('works through a link from another folder', () => {
      const { mnt, options } = layers();
      const link = join(folder, 'fuse-overlayfs');
      symlinkSync(bin.overlayfs, link);
      shell(`cd /; PATH=/usr/bin:/bin ${link} ${mnt} -o ${options} -o noatime -o timeout=5`);
      assert.match(mountLine(mnt), / fuse\.varve rw,nodev,noatime,/);
      shell(`umount ${mnt}`);
    });

    test('without an upper it is read-only', () => {
      const { at, mnt } = layers();
      shell(`${bin.overlayfs} -o lowerdir=${at}/a:${at}/b ${mnt}`);
      assert.match(tryShell(`touch ${mnt}/x`).stderr, /Read-only file system/);
      assert.equal(shell(`ls ${mnt}`), 'one\ntwo\n');
      shell(`umount ${mnt}`);
    });

    const { at, mnt, options } = { at: '/nonexistent', mnt: '$MNT', options: '$OPTIONS' };
    const refused: [string, string, RegExp][] = [
      ['a missing lower', `-o lowerdir=${at} ${mnt}`, /lowerdir: .*no such directory/],
      ['an unknown option', `-o ${options},nonsense=1 ${mnt}`, /unknown option: nonsense/],
      ['a missing mount point', `-o ${options} ${at}`, /mount point: .*no such directory/],
      ['no mount point', `-o ${options}`, /no mountpoint specified/],
      ['no layer', mnt, /lowerdir: missing/],
      ['an upper without workdir', `-o lowerdir=/usr,upperdir=/tmp ${mnt}`, /workdir: missing/],
    ];
    for (const [what, command, message] of refused) {
      test(`${what}: exit code 1, one line, nothing mounted`, () => {
        const stack = layers();
        const { status, stdout, stderr } = tryShell(`${bin.overlayfs} ${command}`, {
          env: { MNT: stack.mnt, OPTIONS: stack.options },
          timeout: 120_000,
        });
        assert.deepEqual([status, stdout], [1, '']);
        assert.match(stderr, message);
        assert.match(stderr, /^fuse-overlayfs: [^\n]*\n$/);
        assert.ok(!isMounted(stack.mnt));
      });
    }

    test('-f stays until it is told to end, and unmounts', async () => {
      const { mnt, options } = layers();
      const child = spawn(bin.overlayfs, ['-f', '-o', options, mnt], { stdio: 'ignore' });
      for (let i = 0; i < 600 && !isMounted(mnt); i++) await setTimeout(50);
      assert.equal(shell(`cat ${mnt}/two`), 'two\n');
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
      assert.ok(!isMounted(mnt));
    });

    test("many at once share one supervisor, and none gets another one's layers", () => {
      const stacks = Array.from({ length: 6 }, layers);
      shell(
        `${stacks.map((stack) => `${bin.overlayfs} -o ${stack.options} ${stack.mnt} & p="$p $!"`).join('\n')}
         for pid in $p; do wait $pid; done`,
        { env: { p: '' } },
      );
      for (const { mnt, at } of stacks) {
        assert.equal(readFileSync(`${mnt}/one`, 'utf8'), readFileSync(`${at}/a/one`, 'utf8'));
      }
      const known = JSON.parse(shell(`${bin.varve} status --json`)) as { mountpoint: string }[];
      const mine = known
        .map(({ mountpoint }) => mountpoint)
        .filter((path) => path.startsWith(folder));
      assert.deepEqual(mine.sort(), stacks.map(({ mnt }) => mnt).sort());
      for (const { mnt } of stacks) shell(`umount ${mnt}`);
    });

    test('an upper in use is refused', () => {
      const { at, mnt, options } = layers();
      mkdirSync(join(at, 'other'));
      shell(`${bin.overlayfs} -o ${options} ${mnt}`);
      const { status, stderr } = tryShell(`${bin.overlayfs} -o ${options} ${at}/other`);
      assert.equal(status, 1);
      assert.match(stderr, /in use by another mount/);
      assert.equal(shell(`cat ${mnt}/two`), 'two\n');
      shell(`umount ${mnt}`);
    });
  });

  suite('mount -t fuse.varve', () => {
    /** mount(8) looks for its helpers in /sbin only: there the link appears, in this namespace. */
    function mounting(at: string, script: string): string {
      const helpers = join(at, 'sbin');
      mkdirSync(helpers);
      symlinkSync(bin.mountHelper, join(helpers, 'mount.fuse.varve'));
      return privately(
        `mount -t overlay helpers -o lowerdir=${helpers}:/usr/sbin /usr/sbin
         cd ${at}
         shown() { awk -v at="$PWD/mnt" '$2 == at { print $1, $3, $4 }' /proc/self/mounts; }
         ${script}`,
      );
    }

    const shownOptions = 'user_id=0,group_id=0,default_permissions,allow_other';

    test('silent, with empty options, relative and linked layers; the source is shown', () => {
      const { at, options } = layers();
      const said = mounting(
        at,
        `ln -s a link
         mount -t fuse.varve my,own mnt -o lowerdir=link:b,upperdir=upper,workdir=work,,noatime
         shown; cat mnt/two; echo new >mnt/new; umount mnt; cat upper/new; shown
         mount -t fuse.varve -r x mnt -o ${options},nosuid,nodev,fsname=fs,subtype=sub
         shown; ! touch mnt/x 2>/dev/null; umount -t fuse.sub mnt`,
      );
      const expected = [
        `my,own fuse.varve rw,noatime,${shownOptions}`,
        'two',
        'new',
        `fs fuse.sub ro,nosuid,nodev,relatime,${shownOptions}`,
      ];
      assert.deepEqual(said.trim().split('\n'), expected);
    });

    test('a line of fstab, with what mount(8) keeps there for itself', () => {
      const { at, mnt } = layers();
      const line = `varve ${mnt} fuse.varve lowerdir=${at}/a:${at}/b,noauto,nofail,_netdev,x-systemd.automount,ro 0 0\n`;
      writeFileSync(join(at, 'fstab'), line);
      const said = mounting(at, `mount -T fstab ${mnt}; shown; ls mnt; umount mnt`);
      assert.equal(said, `varve fuse.varve ro,relatime,${shownOptions}\none\ntwo\n`);
    });

    test('remount changes flags', () => {
      const { at, options } = layers();
      const said = mounting(
        at,
        `mount -t fuse.varve varve mnt -o ${options}
         mount -o remount,ro,nosuid mnt; shown; ! touch mnt/x 2>/dev/null
         mount -o remount,rw mnt; touch mnt/x; ls mnt; umount mnt`,
      );
      assert.equal(said, `varve fuse.varve ro,nosuid,relatime,${shownOptions}\none\ntwo\nx\n`);
    });

    test('what is refused is told in one line, with the exit codes of mount(8)', () => {
      const { at } = layers();
      const said = mounting(
        at,
        `mount -t fuse.varve varve mnt -o lowerdir=/nonexistent 2>&1 || echo $?
         mount -t fuse.varve varve mnt -o lowerdir=a,nonsense 2>&1 || echo $?
         mount -f -t fuse.varve varve mnt -o lowerdir=a; shown`,
      );
      const [missing, code32, unknown, code1, ...rest] = said.trim().split('\n');
      assert.match(
        missing as string,
        /^mount\.fuse\.varve: lowerdir: \/nonexistent: no such directory/,
      );
      assert.match(unknown as string, /^mount\.fuse\.varve: unknown option: nonsense/);
      assert.deepEqual([code32, code1, rest], ['32', '1', []]);
    });
  });

  test('varve umount ends although another mount namespace keeps the mount', () => {
    const { mnt, options } = layers();
    shell(`${bin.overlayfs} -o ${options} ${mnt}`);
    const { stderr, status } = tryShell(
      `unshare --mount --propagation private sh -c 'echo; exec sleep 300' >${folder}/ready & keeper=$!
       until [ -s ${folder}/ready ]; do sleep 0.05; done
       ${bin.varve} umount ${mnt}; kill $keeper`,
      { timeout: 120_000 },
    );
    assert.equal(status, 0);
    assert.match(stderr, /is unmounted here; another mount namespace/);
  });

  suite('as a plain user', () => {
    /** What a user does in a folder of his own. */
    const session = `
      mkdir -p a/sub b/sub upper work mnt; echo low >a/sub/file; echo two >b/sub/two
      "$BIN/varve-overlayfs" -o lowerdir=a:b,upperdir=upper,workdir=work,,volatile mnt
      awk -v at="$PWD/mnt" '$2 == at { print $3, $4 }' /proc/self/mounts
      echo more >>mnt/sub/file; rm mnt/sub/two; mkdir mnt/new; mv mnt/sub mnt/new/moved
      chmod 600 mnt/new/moved/file; ln -s file mnt/new/moved/link; ls -R mnt; cat mnt/new/moved/file
    `;
    const left = 'mnt:\nnew\n\nmnt/new:\nmoved\n\nmnt/new/moved:\nfile\nlink\nlow\nmore\n';

    test('by fusermount3: mounts, writes, unmounts', {
      skip: requires({ commands: ['fusermount3'] }),
    }, () => {
      const said = privately(
        `${openFuseDevice}
         ${user.run} bash -euc ${quote(`mkdir one; cd one; ${session}
           fusermount3 -u mnt; ls -A mnt
           "$BIN/varve.js" mount -q -o lowerdir=a:b,upperdir=upper,workdir=work mnt
           cat mnt/new/moved/link; "$BIN/varve.js" umount -q mnt; ls -A mnt; stat -c %U upper/new`)}`,
        { env: { BIN: join(folder, 'package/bin') } },
      );
      const [line, ...rest] = said.split('\n');
      assert.match(line as string, /^fuse\.varve rw,nosuid,nodev,.*user_id=\d+,group_id=\d+/);
      assert.equal(rest.join('\n'), `${left}low\nmore\n${user.name}\n`);
    });

    test('inside "unshare -Urm", without fusermount3', () => {
      const said = privately(
        `${openFuseDevice}
         ${user.run} unshare -Urm bash -euc ${quote(`mkdir two; cd two; id -u; ${session}
           umount mnt; ls -A mnt`)}`,
        { env: { BIN: join(folder, 'package/bin') } },
      );
      const [uid, line, ...rest] = said.split('\n');
      assert.equal(uid, '0');
      assert.match(line as string, /^fuse\.varve rw,nodev,.*user_id=0,group_id=0/);
      assert.equal(rest.join('\n'), left);
    });
  });
});

function mountLine(mountpoint: string): string {
  const lines = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  return lines.find((line) => line.split(' ')[1] === mountpoint) ?? '';
}
