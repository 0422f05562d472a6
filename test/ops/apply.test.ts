import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  closeSync,
  existsSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { applyUpper } from '../../src/ops/apply/apply.js';
import { asStack, findStack, openLayers } from '../../src/ops/open-stack.js';
import { applyFolders } from '../../src/stack/pending-apply.js';
import { compareTrees, showDifferences } from '../../src/tree/compare.js';
import { extractTree } from '../../src/tree/extract.js';
import { removeTree } from '../../src/tree/remove-tree.js';
import { scan } from '../../src/tree/scan.js';
import { readChanges } from '../../src/union/changes.js';
import { cliIn, MAIN, type Ran } from '../cli/cli.js';
import { makeFilesystems } from '../oracle/explore.js';
import { run } from '../overlay/stack.js';
import { campaign } from '../support/campaign.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { growStacks, throughKernel } from './stacks.js';

const skip = requires({
  root: true,
  features: ['fuse', 'overlayfs', 'loop', 'ext4', 'tmpfs'],
  packages: ['e2fsprogs'],
});

const rounds = campaign('rounds', 2);
const firstSeed = campaign('seed', 1);

test('after any history, the lower alone shows what the stack showed', { skip }, async (t) => {
  const folder = tempDir(t);
  const filesystems = makeFilesystems(folder);
  for (let seed = firstSeed; seed < firstSeed + rounds; seed++) {
    for (const stack of growStacks(seed * 2, 1, 300, filesystems)) {
      const wanted = `${stack.mountpoint}-wanted`;
      throughKernel(stack, ({ root }) => extractTree(root, wanted));
      const [lower] = stack.lowers as [string];
      const options = `lowerdir=${lower},upperdir=${stack.upper},workdir=${stack.work}`;
      const opened = openLayers(await findStack({ options: [options] }));
      try {
        const report = await applyUpper(asStack(opened), lower, {
          upper: stack.upper,
          workdir: stack.work,
          move: seed % 2 === 0,
        });
        assert.deepEqual(report.conflicts, []);
        assert.ok(report.applied);
      } finally {
        opened.close();
      }
      const [expected, actual] = [scan(wanted), scan(lower)];
      const what = compareTrees(expected.root, actual.root);
      assert.equal(showDifferences(what), '', `seed ${seed}, upper of ${stack.by}`);
      actual.close();
      assert.deepEqual(readdirSync(stack.upper), [], 'the upper is empty');
      throughKernel(stack, ({ root }) => {
        const through = compareTrees(expected.root, root);
        assert.equal(showDifferences(through), '', `seed ${seed}: through the stack`);
      });
      expected.close();
      for (const left of applyFolders(lower)) assert.ok(!existsSync(left), left);
    }
    console.log(`seed ${seed}: the same`);
    spawnSync('sh', ['-c', `rm -rf ${filesystems.ext4}/* ${filesystems.tmpfs}/[0-9]*`]);
  }
});

/** Directories `l`, `u`, `w` and `m` on a tmpfs, and what is done through a kernel overlayfs of them. */
function changed(
  t: TestContext,
  fill: (lower: string) => void,
  act: (mount: string) => void,
): string {
  const folder = tempDir(t);
  run('mount', ['-t', 'tmpfs', 'none', folder]);
  const [l, u, w, m] = ['l', 'u', 'w', 'm'].map((name) => join(folder, name));
  assert.ok(l && u && w && m);
  for (const path of [l, u, w, m]) mkdirSync(path);
  fill(l);
  const options = `lowerdir=${l},upperdir=${u},workdir=${w},index=on,redirect_dir=on,metacopy=on`;
  run('mount', ['-t', 'overlay', 'overlay', '-o', options, m]);
  try {
    act(m);
    const seen = scan(m);
    extractTree(seen.root, join(folder, 'wanted'));
    seen.close();
  } finally {
    run('umount', [m]);
  }
  return folder;
}

function varve(folder: string, ...args: string[]): Ran {
  const home = join(folder, 'cli');
  rmSync(home, { recursive: true, force: true });
  mkdirSync(home);
  return cliIn(home).run(...args);
}

/** As a person would say it. */
function apply(folder: string, ...flags: string[]): Ran {
  const at = (name: string): string => join(folder, name);
  const options = `lowerdir=${at('l')},upperdir=${at('u')},workdir=${at('w')}`;
  return varve(folder, 'apply', '-o', options, '--into', at('l'), ...flags);
}

function mustShow(folder: string, what: string, wanted = 'wanted'): void {
  const [expected, actual] = [scan(join(folder, wanted)), scan(join(folder, 'l'))];
  assert.equal(showDifferences(compareTrees(expected.root, actual.root)), '', what);
  expected.close();
  actual.close();
}

const HISTORIES: readonly (readonly [string, (l: string) => void, (m: string) => void])[] = [
  [
    'hard links of which one name was changed, and one removed',
    (l) => {
      mkdirSync(join(l, 'd'));
      writeFileSync(join(l, 'a'), 'linked\n');
      for (const name of ['b', 'c', 'd/e']) linkSync(join(l, 'a'), join(l, name));
    },
    (m) => {
      appendFileSync(join(m, 'a'), 'changed\n');
      rmSync(join(m, 'c'));
    },
  ],
  [
    'a hard link that went into a directory which is new, or another one by now',
    (l) => {
      for (const name of ['y', 'z'])
        mkdirSync(join(l, name), { mode: name === 'y' ? 0o750 : 0o700 });
      writeFileSync(join(l, 'z/own'), 'of z\n');
      writeFileSync(join(l, 'a'), 'linked\n');
      for (const name of ['b', 'c']) linkSync(join(l, 'a'), join(l, name));
    },
    (m) => {
      mkdirSync(join(m, 'new'));
      renameSync(join(m, 'z'), join(m, 'old'));
      renameSync(join(m, 'y'), join(m, 'z'));
      renameSync(join(m, 'b'), join(m, 'new/b'));
      renameSync(join(m, 'c'), join(m, 'z/c'));
      chmodSync(join(m, 'a'), 0o600);
    },
  ],
  [
    'directories that change places, with changes in both',
    (l) => {
      for (const name of ['a', 'b']) {
        mkdirSync(join(l, name));
        for (const file of ['x', 'y']) writeFileSync(join(l, name, file), `${name}${file}`);
      }
    },
    (m) => {
      renameSync(join(m, 'a'), join(m, 'c'));
      renameSync(join(m, 'b'), join(m, 'a'));
      renameSync(join(m, 'c'), join(m, 'b'));
      rmSync(join(m, 'a/x'));
      renameSync(join(m, 'b/x'), join(m, 'a/z'));
      writeFileSync(join(m, 'b/new'), 'new');
    },
  ],
  [
    'a directory that goes into one of its own, made anew',
    (l) => {
      mkdirSync(join(l, 'a/b'), { recursive: true });
      writeFileSync(join(l, 'a/b/f'), 'f');
    },
    (m) => {
      renameSync(join(m, 'a/b'), join(m, 'b'));
      rmSync(join(m, 'a'), { recursive: true });
      mkdirSync(join(m, 'a/new'), { recursive: true });
      renameSync(join(m, 'b'), join(m, 'a/new/b'));
      chmodSync(join(m, 'a/new/b/f'), 0o600);
      chmodSync(join(m, 'a/new'), 0o500);
    },
  ],
  [
    'metadata alone, and a file that was renamed after it',
    (l) => {
      writeFileSync(join(l, 'f'), 'content');
      writeFileSync(join(l, 'g'), 'more');
    },
    (m) => {
      chmodSync(join(m, 'f'), 0o4711);
      renameSync(join(m, 'f'), join(m, 'h'));
      utimesSync(join(m, 'g'), 1e9, 1e9);
    },
  ],
];

for (const [what, fill, act] of HISTORIES) {
  test(`applied: ${what}`, { skip }, (t) => {
    const folder = changed(t, fill, act);
    const { code, err } = apply(folder);
    assert.equal(code, 0, err);
    mustShow(folder, what);
    assert.deepEqual(readdirSync(join(folder, 'u')), []);
    assert.deepEqual(readdirSync(join(folder, 'w/index')), []);
  });
}

test('a file of the target that metadata alone was changed of is the same file still', {
  skip,
}, (t) => {
  const folder = changed(
    t,
    (l) => writeFileSync(join(l, 'f'), Buffer.alloc(1 << 20, 7)),
    (m) => {
      chmodSync(join(m, 'f'), 0o600);
      renameSync(join(m, 'f'), join(m, 'g'));
    },
  );
  const { ino } = statSync(join(folder, 'l/f'));
  assert.equal(apply(folder).code, 0);
  assert.equal(statSync(join(folder, 'l/g')).ino, ino);
  mustShow(folder, 'moved');
});

test('a target that was changed since is left alone, and its conflicts are told', { skip }, (t) => {
  const folder = changed(
    t,
    (l) => {
      for (const name of ['kept', 'edited', 'other']) writeFileSync(join(l, name), name);
    },
    (m) => {
      appendFileSync(join(m, 'edited'), ' above');
      appendFileSync(join(m, 'other'), ' above');
    },
  );
  // As an editor writes: another file of the same name.
  writeFileSync(join(folder, 'l/edited.new'), 'edited below');
  renameSync(join(folder, 'l/edited.new'), join(folder, 'l/edited'));
  const refused = apply(folder);
  assert.equal(refused.code, 3, refused.err);
  assert.match(refused.err, /conflict: edited: it is not the object/);
  assert.equal(readFileSync(join(folder, 'l/edited'), 'utf8'), 'edited below');
  assert.equal(readFileSync(join(folder, 'l/other'), 'utf8'), 'other');
  const forced = apply(folder, '--force', '--json');
  assert.equal(forced.code, 0, forced.err);
  const report = JSON.parse(forced.out) as { applied: boolean; conflicts: { path: string }[] };
  assert.deepEqual([report.applied, report.conflicts[0]?.path], [true, 'edited']);
  assert.equal(readFileSync(join(folder, 'l/edited'), 'utf8'), 'edited above');
});

test('a copy of the lower is applied to, and told from one that was changed', {
  skip,
}, async (t) => {
  const folder = changed(
    t,
    (l) => {
      mkdirSync(join(l, 'gone'));
      for (const name of ['a', 'gone/b']) writeFileSync(join(l, name), name);
    },
    (m) => {
      appendFileSync(join(m, 'a'), ' above');
      rmSync(join(m, 'gone'), { recursive: true });
      writeFileSync(join(m, 'new'), 'new');
    },
  );
  const at = (name: string): string => join(folder, name);
  const conflictsIn = async (copy: string): Promise<string[]> => {
    const layers = `lowerdir=${at('l')},upperdir=${at('u')},workdir=${at('w')}`;
    const opened = openLayers(await findStack({ options: [layers] }));
    try {
      const report = await applyUpper(asStack(opened), copy, { dryRun: true });
      return report.conflicts.map(({ path, kind }) => `${path} ${kind}`);
    } finally {
      opened.close();
    }
  };
  run('cp', ['-a', at('l'), at('copy')]);
  assert.deepEqual(await conflictsIn(at('copy')), []);
  writeFileSync(at('copy/new'), 'mine');
  writeFileSync(at('copy/a'), 'changed');
  writeFileSync(at('copy/gone/more'), 'more');
  assert.deepEqual(await conflictsIn(at('copy')), ['a differs', 'gone/more exists', 'new exists']);
});

test('a disk that is full while all is made ready leaves everything as it was', { skip }, (t) => {
  const folder = changed(
    t,
    (l) => writeFileSync(join(l, 'f'), 'f'),
    (m) => {
      appendFileSync(join(m, 'f'), 'g');
      for (let i = 0; i < 4; i++) writeFileSync(join(m, `n${i}`), Buffer.alloc(1 << 20, i));
    },
  );
  run('mount', ['-o', 'remount,size=11m', folder]);
  const { code, err } = apply(folder);
  assert.equal(code, 3, err);
  assert.match(err, /nothing was changed: .*ENOSPC/);
  assert.deepEqual(readdirSync(join(folder, 'l')), ['f']);
  for (const left of applyFolders(join(folder, 'l'))) assert.ok(!existsSync(left), left);
  const moved = apply(folder, '--move');
  assert.equal(moved.code, 0, moved.err);
  mustShow(folder, 'moved instead of copied');
});

test('a step that fails is taken back with all before it', { skip }, (t) => {
  const folder = changed(
    t,
    (l) => {
      mkdirSync(join(l, 'd'));
      for (const name of ['a', 'd/held', 'z']) writeFileSync(join(l, name), name);
    },
    (m) => {
      writeFileSync(join(m, 'a'), 'above');
      rmSync(join(m, 'z'));
      rmSync(join(m, 'd'), { recursive: true });
    },
  );
  // It is replaced when the others have been taken out already.
  run('chattr', ['+i', join(folder, 'l/a')]);
  // A file that was taken away and put back has another ctime: what it was is kept elsewhere.
  const before = scan(join(folder, 'l'));
  extractTree(before.root, join(folder, 'before'));
  before.close();
  const { code, err } = apply(folder, '--force');
  run('chattr', ['-i', join(folder, 'l/a')]);
  assert.equal(code, 4, err);
  assert.match(err, /nothing was changed: rename .*EPERM/);
  mustShow(folder, 'taken back', 'before');
});

test('what is mounted in a directory that goes is left alone, and so is the directory', {
  skip,
}, (t) => {
  const folder = changed(
    t,
    (l) => mkdirSync(join(l, 'd/mnt'), { recursive: true }),
    (m) => rmSync(join(m, 'd'), { recursive: true }),
  );
  const at = (name: string): string => join(folder, name);
  mkdirSync(at('elsewhere'));
  writeFileSync(at('elsewhere/precious'), 'precious');
  run('mount', ['--bind', at('elsewhere'), at('l/d/mnt')]);
  try {
    const { code, err } = apply(folder, '--force');
    assert.equal(code, 5, err);
    assert.match(err, /something is mounted on .*\/l\/d\/mnt/);
    assert.equal(readFileSync(at('l/d/mnt/precious'), 'utf8'), 'precious');
    // One that comes later, or that an upper has in it, is not walked through either.
    const parent = openSync(folder, 'r');
    removeTree(parent, 'l');
    closeSync(parent);
    assert.equal(readFileSync(at('elsewhere/precious'), 'utf8'), 'precious');
  } finally {
    run('umount', [at('l/d/mnt')]);
  }
});

test('what cannot be removed when all is done is told, and told as that', { skip }, (t) => {
  const folder = changed(
    t,
    (l) => {
      mkdirSync(join(l, 'd'));
      writeFileSync(join(l, 'd/fixed'), 'fixed');
    },
    (m) => {
      rmSync(join(m, 'd'), { recursive: true });
      writeFileSync(join(m, 'new'), 'new');
    },
  );
  const [lower, upper] = [join(folder, 'l'), join(folder, 'u')];
  const work = applyFolders(lower)[0] as string;
  run('chattr', ['+i', join(lower, 'd/fixed')]);
  run('chattr', ['+i', join(upper, 'new')]);
  const half = apply(folder);
  run('chattr', ['-i', join(upper, 'new')]);
  assert.equal(half.code, 4, half.err);
  assert.match(half.err, /shows what the stack showed, but not all is cleaned up/);
  const recover = (): Ran => varve(folder, 'apply', '--recover', lower);
  const stuck = recover();
  assert.equal(stuck.code, 3, stuck.err);
  assert.match(stuck.err, /what an apply has left there cannot be removed/);
  assert.deepEqual(readdirSync(upper), [], 'the upper is empty');
  mustShow(folder, 'applied all the same');
  assert.equal(apply(folder).code, 3, 'it is in the way of the next');
  run('chattr', ['-i', join(work, 'held/0/fixed')]);
  assert.equal(recover().code, 0);
  assert.ok(!existsSync(work));
});

test('an empty argument is not the working directory', { skip }, (t) => {
  const folder = changed(
    t,
    (l) => writeFileSync(join(l, 'f'), 'f'),
    () => undefined,
  );
  const home = join(folder, 'cli');
  mkdirSync(home);
  const cli = cliIn(home);
  const lower = join(folder, 'l');
  for (const line of [
    ['apply', '', '--into', lower],
    ['flatten', '', '--into', join(folder, 'new')],
    ['diff', ''],
    ['discard', '', '--yes'],
    ['commit', '', '--into', join(folder, 'new')],
  ]) {
    const { code, err } = cli.run(...line);
    assert.equal(code, 2, `${line[0]}: ${err}`);
    assert.match(err, /an empty argument: name a/);
  }
  assert.deepEqual(readdirSync(lower), ['f']);
});

test('a lower that a live mount has, and an upper that is mounted, are refused', { skip }, (t) => {
  const folder = changed(
    t,
    (l) => writeFileSync(join(l, 'f'), 'f'),
    (m) => appendFileSync(join(m, 'f'), 'g'),
  );
  const layers = `lowerdir=${join(folder, 'l')},upperdir=${join(folder, 'u')},workdir=${join(folder, 'w')}`;
  run('mount', ['-t', 'overlay', 'overlay', '-o', layers, join(folder, 'm')]);
  try {
    const named = apply(folder);
    assert.equal(named.code, 5, named.err);
    assert.match(named.err, /in use by the overlay on/);
    const { code, err } = varve(folder, 'apply', join(folder, 'u'), '--into', join(folder, 'l'));
    assert.equal(code, 5, err);
    assert.match(err, /is a layer of the mount on/);
  } finally {
    run('umount', [join(folder, 'm')]);
  }
});

test('until it is recovered, what a killed apply left is no layer', { skip }, (t) => {
  const folder = changed(
    t,
    (l) => writeFileSync(join(l, 'f'), 'f'),
    (m) => appendFileSync(join(m, 'f'), 'g'),
  );
  const lower = join(folder, 'l');
  const victim = fileURLToPath(new URL('kill/main.js', import.meta.url));
  const killed = spawnSync(process.execPath, [victim, 'apply', join(folder, 'u'), lower, '2']);
  assert.equal(killed.signal, 'SIGKILL');
  for (const again of [apply(folder), varve(folder, 'mount', '-o', `lowerdir=${lower}`, '/mnt')]) {
    assert.equal(again.code, 5, again.err);
    assert.match(again.err, /varve apply --recover/);
  }
  const recover = (...flags: string[]): string => {
    const recovered = varve(folder, 'apply', '--recover', lower, '--json', ...flags);
    assert.equal(recovered.code, 0, recovered.err);
    return (JSON.parse(recovered.out) as { recovered: string }).recovered;
  };
  assert.equal(recover('--undo'), 'undone');
  assert.equal(readFileSync(join(lower, 'f'), 'utf8'), 'f');
  assert.equal(recover(), 'none');
  // What was only made ready is no obstacle.
  mkdirSync(applyFolders(lower)[0] as string);
  assert.equal(apply(folder).code, 0);
  mustShow(folder, 'afterwards');
});

test('a journal that somebody else has put beside the directory is none', { skip }, (t) => {
  const folder = changed(
    t,
    (l) => writeFileSync(join(l, 'f'), 'f'),
    (m) => appendFileSync(join(m, 'f'), 'g'),
  );
  const [beside] = applyFolders(join(folder, 'l')) as [string];
  mkdirSync(beside);
  mkdirSync(join(folder, 'precious/data'), { recursive: true });
  const id = `${statSync(join(folder, 'precious')).ino}`;
  const nothing = { opened: [], takes: [], puts: [], sets: [], restores: [], unmark: [] };
  const emptied = [{ path: join(folder, 'precious'), id }];
  writeFileSync(join(beside, 'journal'), JSON.stringify({ version: 1, ...nothing, emptied }));
  run('chown', ['-R', '1000', beside]);
  const recovered = varve(folder, 'apply', '--recover', join(folder, 'l'));
  assert.match(recovered.err, /nothing to recover/);
  assert.deepEqual(readdirSync(join(folder, 'precious')), ['data']);
  assert.equal(apply(folder).code, 0);
  mustShow(folder, 'inside instead of beside');
});

test('an upper is never applied to itself, nor to what it lies in', { skip }, (t) => {
  const folder = tempDir(t);
  mkdirSync(join(folder, 'u/v'), { recursive: true });
  const u = join(folder, 'u');
  for (const [upper, into] of [
    [u, u],
    [join(u, 'v'), u],
    [u, join(u, 'v')],
  ] as const) {
    const { code, err } = varve(folder, 'apply', upper, '--into', into);
    assert.equal(code, 2, err);
    assert.match(err, /side by side/);
  }
  assert.deepEqual(readdirSync(u), ['v']);
});

test('a plain user applies an upper with marks of user.*, to directories that forbid writing', {
  skip: requires({ root: true, features: ['overlayfs', 'userns'] }),
}, (t) => {
  const folder = tempDir(t);
  const script = `
    cd "$1" && mkdir -p l/ro/sub l/d/e l/x u w m run && chmod 700 run
    for f in ro/f ro/sub/g d/e/h x/k; do echo $f > l/$f; done
    ln l/x/k l/x/k2; chmod 500 l/ro; chmod 555 l/d/e
    list() { (cd $1 && find . -printf '%y %m %T@ %p %l\\n' | sort && find . -type f -exec md5sum {} + | sort -k 2); }
    unshare -Urm sh -ec 'mount -t overlay o -o lowerdir=l,upperdir=u,workdir=w,userxattr m; cd m
      chmod 755 ro; echo new > ro/n; rm ro/f; chmod 500 ro; rm -r x; mv d/e d/e2; mkdir -m 500 rodir
      mkdir d/in; echo 1 > d/in/1; chmod 550 d/in; chmod 400 d/e2/h
      find . -printf "%y %m %T@ %p %l\\n" | sort > ../want; find . -type f -exec md5sum {} + | sort -k 2 >> ../want'
    export VARVE_RUNTIME_DIR=$1/run
    "$2" "$3" apply -q -o lowerdir=l,upperdir=u,workdir=w,userxattr --into l
    list l | diff want - && ls -A u`;
  run('chown', ['1000:1000', folder]);
  const ids = ['--reuid=1000', '--regid=1000', '--clear-groups'];
  const args = [...ids, 'bash', '-ec', script, '-', folder, process.execPath, MAIN];
  const { status, stdout, stderr } = spawnSync('setpriv', args, { encoding: 'utf8' });
  assert.deepEqual([status, stdout], [0, ''], stderr);
});

test('without a change of the root itself, what lies in it stays in its place', {
  skip,
}, async (t) => {
  const folder = tempDir(t);
  for (const name of ['lower/d', 'upper/d', 'work']) {
    mkdirSync(join(folder, name), { recursive: true });
  }
  writeFileSync(join(folder, 'lower/d/old'), 'old');
  writeFileSync(join(folder, 'upper/d/new'), 'new');
  const layers = [join(folder, 'upper'), join(folder, 'lower')];
  const opened = openLayers(await findStack({ layers }));
  t.after(() => opened.close());
  const stack = asStack(opened);
  const changes = readChanges(stack).filter(({ path }) => path !== '');
  const report = await applyUpper(stack, join(folder, 'lower'), { changes, dryRun: true });
  assert.deepEqual(
    report.steps.map(({ what, path }) => `${what} ${path}`),
    ['add d/new'],
  );
});
