// Ordinary programs on a real system tree: tar, rsync, git, npm, dpkg, rm -rf over a Debian root as lower layer.
// Each step runs on a varve mount and on a plain copy of the same tree: output, trees and attributes must agree.
// At the end the tree is the same after a remount and under kernel overlayfs, and the lower is untouched.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { differences, readTree, type Tree } from '../oracle/tree.js';
import { requires } from '../support/requires.js';
import { AT, must, O, sys } from '../support/sys.js';
import { makeTempDir, removeTempDir } from '../support/temp.js';
import { makeDebianRoot } from './debian-root.js';
import { type Setting, shell, tryShell } from './shell.js';

const skip = requires({
  root: true,
  features: ['fuse', 'overlayfs'],
  packages: ['acl', 'attr', 'git', 'libcap2-bin', 'rsync'],
});

const repository = fileURLToPath(new URL('../../../', import.meta.url));
const varve = `${process.execPath} ${repository}dist/bundle/programs/main.js`;

/** Files whose content holds times, inode numbers or absolute paths of this run. */
const ofTheRun =
  /^(?:.*\/\.git\/(?:index|config|logs\/.*)|var\/log\/.*|var\/cache\/ldconfig\/aux-cache)$/;

/** Dates and identities that programs would else take from the clock and the user. */
const fixed = {
  SOURCE_DATE_EPOCH: '1700000000',
  GIT_AUTHOR_DATE: '1700000000 +0000',
  GIT_COMMITTER_DATE: '1700000000 +0000',
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_CONFIG_COUNT: '5',
  GIT_CONFIG_KEY_0: 'user.name',
  GIT_CONFIG_VALUE_0: 'A Tester',
  GIT_CONFIG_KEY_1: 'user.email',
  GIT_CONFIG_VALUE_1: 'tester@example.org',
  GIT_CONFIG_KEY_2: 'pack.threads',
  GIT_CONFIG_VALUE_2: '1',
  GIT_CONFIG_KEY_3: 'init.defaultBranch',
  GIT_CONFIG_VALUE_3: 'main',
  GIT_CONFIG_KEY_4: 'safe.directory',
  GIT_CONFIG_VALUE_4: '*',
  DEBIAN_FRONTEND: 'noninteractive',
  // Also inside of a root that has no other folder.
  TMPDIR: '/tmp',
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
};

suite('a Debian root as lower layer', { skip }, () => {
  let folder = '';
  let base = '';
  let plain = '';
  let merged = '';
  let untouched: Tree;

  /** Layers of the mount that stands, topmost first. */
  let lowers: string[] = [];
  let session = 0;

  function mountNext(): void {
    session += 1;
    const upper = join(folder, `upper${session}`);
    const work = join(folder, `work${session}`);
    mkdirSync(upper);
    mkdirSync(work);
    remount(upper, work);
  }

  function remount(upper: string, work: string): void {
    const options = `lowerdir=${lowers.join(':')},upperdir=${upper},workdir=${work},allow_other,suid,dev`;
    shell(`${varve} mount -q --backend=fuse -o ${options} ${merged}`);
  }

  before(() => {
    folder = makeTempDir();
    base = join(folder, 'base');
    plain = join(folder, 'plain');
    merged = join(folder, 'merged');
    mkdirSync(merged);
    makeDebianRoot(base, ['passwd']);
    shell(`cp -a ${base} ${plain}`);
    untouched = tree(base);
    lowers = [base];
    mountNext();
  });

  after(() => removeTempDir(folder));

  /** Runs a script in both trees; what it prints and what it leaves must be the same. */
  function same(script: string, setting: Setting = {}): void {
    const run = (root: string): string => {
      const { status, stdout, stderr } = tryShell(script, {
        ...setting,
        cwd: root,
        env: { ...fixed, ...setting.env, ROOT: root },
      });
      return `${stdout}${stderr}exit code ${status}`;
    };
    const ours = run(merged);
    const theirs = run(plain);
    assert.equal(ours, theirs);
    // A step that fails half-way tests less than it seems.
    assert.match(theirs, /exit code 0$/);
    agree(tree(merged), tree(plain));
  }

  test('the tree is the same to begin with', () => {
    agree(tree(merged), untouched);
  });

  test('tar packs it and unpacks it again', () => {
    same(
      `tar -C usr/share -c --xattrs --acls --sort=name --pax-option=delete=atime,delete=ctime . | sha256sum
       mkdir srv/copy
       tar -c --xattrs --acls etc usr/sbin usr/bin | tar -C srv/copy -x -p --xattrs --acls
       # Over files that are there, lower ones: replaced one by one.
       tar -C srv/copy -c etc usr/bin | tar -x -p --overwrite
       tar -C srv/copy -c --no-recursion $(cd srv/copy && find etc -type f) | tar -x -p --unlink-first`,
    );
  });

  test('rsync copies, updates and deletes', () => {
    same(
      `rsync -aHAX --numeric-ids usr/sbin/ var/copy/
       rsync -aHAX --numeric-ids --checksum --itemize-changes srv/copy/usr/sbin/ var/copy/
       # Into lower folders: times are set, contents compared, what is not in the source goes.
       rsync -aHAX --numeric-ids --checksum --delete srv/copy/etc/ usr/share/
       rsync -aHAX --numeric-ids --inplace --no-whole-file --ignore-times srv/copy/usr/bin/ usr/bin/
       rsync -aHAX --numeric-ids --dry-run --checksum --itemize-changes usr/bin/ srv/copy/usr/bin/`,
    );
  });

  test('attributes, links and modes of lower files', () => {
    same(
      `chmod u-s usr/bin/su; chmod -R g+w etc/alternatives etc/pam.d
       chown -R --from=0:0 3:4 var/lib/dpkg/info
       chown -h 5:6 bin; chmod 6755 usr/bin/env; chown 0:0 usr/bin/env; stat -c '%a %n' usr/bin/env
       setcap cap_net_raw+ep usr/bin/ls; setfacl -m u:7:rwx,m::r usr/bin/cat
       setfacl -d -m g:8:rw etc; touch etc/inherits; getfacl -n etc/inherits usr/bin/cat
       ln usr/bin/perl usr/bin/perl-too; stat -c '%h %n' usr/bin/perl usr/bin/perl5*
       echo '# more' >>usr/bin/gunzip; cmp usr/bin/gunzip usr/bin/uncompress
       touch -d @1000000000.123456789 usr/bin/bash; touch -h -d @1 lib
       setfattr -n user.note -v kept usr/bin/dash; getfattr -R -d -m user usr/bin
       sed -i 's/root/toor/' etc/group; truncate -s 100000 usr/bin/dir; truncate -s 10 usr/bin/vdir`,
    );
  });

  test('folders of the lower layer are renamed and removed', () => {
    same(
      `mv usr/lib/x86_64-linux-gnu/perl-base usr/lib/moved 2>/dev/null || mv usr/lib/init usr/lib/moved
       mv var/lib/dpkg var/lib/elsewhere; touch var/lib/elsewhere/info/new
       mv var/lib/elsewhere var/lib/dpkg; ls var/lib/dpkg/info | sha256sum
       mv usr/lib/moved srv/moved; find srv/moved | sort | sha256sum
       # An upper without its workdir does not know which lower files were linked to one that it copied.
       for file in usr/bin/{perl*,gunzip,uncompress}; do cp -p $file tmp/x; mv tmp/x $file; done
       rm -rf srv/copy var/copy; rm -r usr/share; mkdir usr/share; touch usr/share/only
       find etc -name '*.d' -depth -exec rm -r {} +
       find usr/lib/x86_64-linux-gnu -name '*.so' -delete || true
       find . -xdev | sort | sha256sum; du -s --apparent-size --inodes usr/share`,
    );
  });

  test('what was written is a layer of the next mount', () => {
    shell(`${varve} umount -q ${merged}`);
    lowers = [join(folder, 'upper1'), base];
    mountNext();
    agree(tree(merged), tree(plain));
  });

  test('dpkg installs, upgrades and removes a package inside', () => {
    same(
      `for version in 1 2; do
         mkdir -p tmp/p/DEBIAN tmp/p/usr/lib/varved/deep tmp/p/etc
         printf 'Package: varved\\nVersion: %s\\nArchitecture: all\\nMaintainer: x <x@example.org>\\nDescription: x\\n' \
           $version >tmp/p/DEBIAN/control
         echo /etc/varved.conf >tmp/p/DEBIAN/conffiles; echo $version >tmp/p/etc/varved.conf
         for i in $(seq 200); do echo $version $i >tmp/p/usr/lib/varved/deep/$i; done
         ln -sf ../lib/varved tmp/p/usr/lib/varved/self; echo $version >tmp/p/usr/lib/varved/only$version
         chroot . dpkg-deb -b /tmp/p /tmp/varved_$version.deb >/dev/null
         chroot . dpkg -i /tmp/varved_$version.deb >/dev/null
         chroot . dpkg -V; cat usr/lib/varved/deep/7
         rm -r tmp/p/usr
       done
       chroot . dpkg --purge varved >/dev/null; ls usr/lib/varved 2>&1 || true
       rm -r tmp/p tmp/*.deb`,
    );
  });

  test('accounts and the linker cache are changed inside', () => {
    same(
      `chroot . groupadd -g 1500 people; chroot . useradd -u 1500 -g 1500 -m -d /srv/home someone
       chroot . usermod -c Someone someone; chroot . ldconfig
       chroot . setpriv --reuid 1500 --regid 1500 --clear-groups sh -c '
         id; touch /etc/passwd /usr/bin/no 2>&1; echo mine >/srv/home/file; ln -s /etc/passwd /srv/home/link
         rm -f /tmp/* /etc/hostname; mkdir /tmp/d; chmod 700 /tmp/d' || true
       chroot . userdel -r someone 2>/dev/null; grep -c . etc/passwd`,
    );
  });

  test('git commits, clones, checks out and packs', () => {
    same(
      `cd srv; git init -q repo; cd repo; cp -a ../../usr/sbin ../../etc .; git add -A; git commit -q -m first
       git checkout -q -b other; git rm -q -r etc; mv sbin tools; git add -A; git commit -q -m second
       cd ..; git clone -q repo clone; git clone -q --no-hardlinks "file://$PWD/repo" far
       cd clone; git checkout -q origin/main 2>/dev/null; git status --porcelain; git log --all --format=%H
       git checkout -q -; git diff --stat HEAD; git fsck --no-progress --full; git ls-files -s | sha256sum
       cd ../repo; git checkout -q main; git gc -q --prune=now; git fsck --no-progress --full
       git status --porcelain; git stash list; rm -rf ../far`,
    );
  });

  test('npm installs, adds and removes packages', () => {
    const cache = join(folder, 'npm-cache');
    same(
      `mkdir -p srv/project/tool srv/project/leaf; cd srv/project
       echo '{"name":"tool","version":"1.0.0","bin":{"say":"run.js"},"dependencies":{"leaf":"1.2.3"}}' >tool/package.json
       printf '#!/usr/bin/env node\\nconsole.log(require("leaf"))\\n' >tool/run.js; chmod +x tool/run.js
       echo '{"name":"leaf","version":"1.2.3"}' >leaf/package.json; echo 'module.exports = "found"' >leaf/index.js
       for i in $(seq 300); do echo $i >leaf/$i.js; done
       npm pack --silent ./tool ./leaf
       echo '{"name":"project","version":"1.0.0","private":true}' >package.json
       npm install ./leaf-1.2.3.tgz ./tool-1.0.0.tgz >/dev/null; node_modules/.bin/say; cat node_modules/leaf/77.js
       npm ci >/dev/null; node_modules/.bin/say; npm uninstall tool >/dev/null; ls node_modules`,
      {
        env: {
          PATH: process.env['PATH'],
          HOME: folder,
          npm_config_cache: cache,
          npm_config_update_notifier: 'false',
          npm_config_loglevel: 'error',
          npm_config_audit: 'false',
          npm_config_fund: 'false',
          npm_config_offline: 'true',
        },
      },
    );
  });

  test('after a remount and under kernel overlayfs the tree is the same', () => {
    const wanted = tree(plain);
    shell(`${varve} umount -q ${merged}`);
    // Copies: another mount namespace on this machine may keep the mount, and with it the upper, alive.
    const upper = join(folder, 'upper-again');
    const work = join(folder, 'work-again');
    shell(`cp -a ${folder}/upper2 ${upper}; mkdir ${work}`);
    remount(upper, work);
    agree(tree(merged), wanted);
    shell(`${varve} umount -q ${merged}`);
    shell(`rm -rf ${upper}; cp -a ${folder}/upper2 ${upper}; mkdir ${work}-oracle`);
    const layers = `lowerdir=${lowers.join(':')},upperdir=${upper},workdir=${work}-oracle`;
    shell(`mount -t overlay oracle ${merged} -o ${layers},redirect_dir=on,index=on,noatime`);
    agree(tree(merged), wanted);
    shell(`umount ${merged}`);
    lowers = [join(folder, 'upper2'), ...lowers];
    mountNext();
  });

  test('rm -rf of everything leaves an empty root', () => {
    same('rm -rf -- * .[!.]* 2>/dev/null || true; ls -A; df . >/dev/null');
  });

  test('the lower layer is as it was', () => {
    shell(`${varve} umount -q ${merged}`);
    agree(tree(base), untouched);
  });
});

/** Everything but access times, which a lower keeps and a copy changes, and contents of one run only. */
function tree(root: string): Tree {
  const fd = must(sys.open(AT.FDCWD, root, O.DIRECTORY));
  const found = readTree(fd, () => true);
  must(sys.close(fd));
  for (const [path, line] of found.lines) {
    let text = line.replace(/ atime=\S+/, '');
    if (ofTheRun.test(path)) text = text.replace(/ size=\S+/, '').replace(/ content=\S+/, '');
    found.lines.set(path, text);
  }
  return found;
}

function agree(ours: Tree, theirs: Tree): void {
  assert.equal(differences(ours, theirs).join('\n'), '');
  assert.equal(ours.contradictions.join('\n'), '');
}
