// `varve rebase`, one scenario a row of the table in docs/rebase.md: what the mount over the new lower shows, and what is said.
// Uppers are made by kernel overlayfs (some by varve), and the result is mounted by it, with index=on and metacopy=on.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { requires } from '../support/requires.js';
import { RebaseStack, type Scenario } from './rebase-stack.js';

const skip = requires({
  root: true,
  features: ['fuse', 'overlayfs', 'tmpfs'],
  packages: ['attr', 'acl'],
});

/** A scenario, and what is expected of it. */
interface Row extends Scenario {
  readonly name: string;
  readonly flags?: readonly string[];
  /** Default: none. */
  readonly conflicts?: readonly string[];
  /** What the mount shows: all of it by default. */
  readonly shows: readonly string[];
  /** Shell command that shows it. */
  readonly look?: string;
  /** What the new upper has. */
  readonly upper?: readonly string[];
}

const rows: readonly Row[] = [
  {
    name: 'what one side alone has changed is that side’s',
    old: 'echo a >a; echo b >b; echo c >c; echo d >d; mkdir dir; echo e >dir/e',
    ours: 'echo A >a; rm c; echo n >new; echo f >dir/f',
    theirs: 'echo B >b; rm d; echo m >also; echo g >dir/g',
    shows: ['a: A', 'also: m', 'b: B', 'dir/', 'dir/e: e', 'dir/f: f', 'dir/g: g', 'new: n'],
    upper: ['a', 'c whiteout', 'dir', 'dir/f', 'new'],
  },
  {
    name: 'what NEW has already is dropped: equal changes, additions, deletions, and copies that changed nothing',
    old: 'echo a >a; echo b >b; mkdir -p d/e; echo f >d/e/f; echo g >d/e/g; ln -s x l',
    ours: 'echo same >a; rm b; chmod 600 d/e/f; chmod 644 d/e/f; echo n >n; ln -sfn y l',
    theirs: 'echo same >a; rm b; echo F >d/e/f; echo n >n; ln -sfn y l',
    shows: ['a: same', 'd/', 'd/e/', 'd/e/f: F', 'd/e/g: g', 'l -> y', 'n: n'],
    upper: [],
  },
  {
    name: 'different aspects of one file are carried both',
    old: 'echo a >a; echo b >b; echo c >c; setfattr -n user.x -v 1 c; mkdir d; echo s >s',
    ours: 'chmod 600 a; echo B >b; setfattr -n user.ours -v o c; chmod 711 d; chown 5 s',
    theirs: 'echo A >a; chmod 640 b; setfattr -n user.theirs -v t c; chgrp 7 d; setfacl -m u:9:r s',
    look: `stat -c '%n %a %u:%g %s' a b d s; cat a b; getfattr -d -m user c --only-values; getfacl -cpn s | grep :9:`,
    shows: ['a 600 0:0 2', 'b 640 0:0 2', 'd 711 0:7 40', 's 644 5:0 2', 'A', 'B', 'ot1user:9:r--'],
  },
  {
    name: 'the same aspect of one file is a conflict: ours stays, theirs lies beside it',
    old: 'echo a >a; echo b >b; ln -s 1 l; echo x >x',
    ours: 'echo ours >a; chmod 600 b; ln -sfn ours l; setfattr -n user.x -v ours x',
    theirs: 'echo theirs >a; chmod 640 b; ln -sfn theirs l; setfattr -n user.x -v theirs x',
    conflicts: ['a: content', 'b: mode', 'l: content', 'x: xattr user.x'],
    look: `cat a a.theirs; stat -c %a b; readlink l l.theirs; getfattr -n user.x --only-values x; ls`,
    shows: [
      'ours',
      'theirs',
      '600',
      'ours',
      'theirs',
      ...['oursa', 'a.theirs', 'b', 'l', 'l.theirs', 'x'],
    ],
  },
  {
    name: 'deleted here, changed there; and the other way round',
    old: 'echo a >a; echo b >b; echo c >c; mkdir d e; echo 1 >d/1; echo 2 >d/2; echo 3 >e/3',
    ours: 'rm a; echo B >b; chmod 600 c; rm -r d; echo 4 >e/4',
    theirs: 'echo A >a; rm b; rm c; echo 3 >d/3; rm -r e',
    conflicts: ['a: existence', 'b: existence', 'c: existence', 'd: existence', 'e: existence'],
    shows: [
      ...['a.theirs: A', 'b: B', 'c: c', 'd.theirs/'],
      ...['d.theirs/1: 1', 'd.theirs/2: 2', 'd.theirs/3: 3', 'e/', 'e/4: 4'],
    ],
  },
  {
    name: 'both have added the same name: directories are merged, the rest is compared',
    old: 'mkdir d',
    ours: 'echo 1 >same; echo ours >f; mkdir -p new/deep; echo a >new/a; echo x >new/x; echo 1 >t',
    theirs:
      'echo 1 >same; echo theirs >f; mkdir -p new/deep; echo b >new/b; echo y >new/x; mkdir t',
    conflicts: ['f: content', 'new/x: content', 't: type'],
    shows: [
      ...['d/', 'f: ours', 'f.theirs: theirs', 'new/', 'new/a: a', 'new/b: b', 'new/deep/'],
      ...['new/x: x', 'new/x.theirs: y', 'same: 1', 't: 1', 't.theirs/'],
    ],
  },
  {
    name: 'another type on one side, or on both',
    old: 'mkdir a b c; echo 1 >a/1; echo 1 >b/1; echo 1 >c/1; echo f >f; echo g >g; echo h >h',
    ours: 'rm -r a; echo file >a; rm -r b; echo file >b; rm g; mkdir g; rm h; ln -s x h',
    theirs: 'echo 2 >b/2; rm -r c; ln -s a c; rm f; mkdir f; rm h; mkfifo h',
    conflicts: ['b: type', 'h: type'],
    look: `ls -F`,
    shows: ['a', 'b', 'b.theirs/', 'c@', 'f/', 'g/', 'h@', 'h.theirs|'],
  },
  {
    name: 'an emptied and refilled directory shows what NEW has added, and nothing of what it replaced',
    old: 'mkdir d e; echo 1 >d/1; echo 2 >d/2; echo 3 >d/3; echo 1 >e/1',
    ours: 'rm -r d e; mkdir d e; echo mine >d/1; echo 4 >d/4; echo 5 >e/5',
    theirs: 'echo 3 >d/3; echo new >d/5; rm d/2; echo 1 >e/1',
    shows: ['d/', 'd/1: mine', 'd/4: 4', 'd/5: new', 'e/', 'e/5: 5'],
    upper: ['d', 'd/1', 'd/3 whiteout', 'd/4', 'e', 'e/5'],
  },
  {
    name: 'a renamed directory follows NEW, with what was changed in it',
    old: 'mkdir -p d/sub; echo 1 >d/1; echo 2 >d/sub/2; echo 3 >d/3; echo 4 >d/4',
    ours: 'mv d moved; echo mine >moved/1; rm moved/3; mv moved/4 moved/four',
    theirs: 'echo new >d/sub/2; echo 5 >d/5; echo four >d/4',
    shows: [
      ...['moved/', 'moved/1: mine', 'moved/5: 5', 'moved/four: four', 'moved/sub/'],
      'moved/sub/2: new',
    ],
  },
  {
    name: 'a renamed directory that NEW has no more, or that meets a new name, is a conflict; nothing is lost',
    old: 'mkdir d e f; echo 1 >d/1; echo 2 >e/2; echo 3 >f/3',
    ours: 'mv d d2; mv e e2; mv f f2; echo 4 >d2/4',
    theirs: 'rm -r d; mkdir e2; echo theirs >e2/x; echo also >f/also',
    conflicts: ['d2: existence', 'e2: existence'],
    shows: [
      ...['d2/', 'd2/1: 1', 'd2/4: 4', 'e2/', 'e2.theirs/', 'e2.theirs/x: theirs', 'e2/2: 2'],
      ...['f2/', 'f2/3: 3', 'f2/also: also'],
    ],
  },
  {
    name: 'two directories that changed places stay so',
    old: 'mkdir a b; echo a >a/1; echo b >b/1',
    ours: 'mv a c; mv b a; mv c b',
    theirs: 'echo aa >a/2; echo bb >b/2',
    shows: ['a/', 'a/1: b', 'a/2: bb', 'b/', 'b/1: a', 'b/2: aa'],
  },
  {
    name: 'a renamed file follows NEW',
    old: 'echo 1 >a; echo 2 >b; mkdir d',
    ours: 'mv a d/a; mv b c; chmod 600 c',
    theirs: 'echo new >a; echo two >b',
    shows: ['c: two', 'd/', 'd/a: new'],
  },
  {
    name: 'metadata whose data is below takes the data of NEW, whatever its size',
    old: 'seq 1000 >a; seq 1000 >b; seq 10 >c; seq 10 >gone',
    ours: 'chmod 600 a; chown 3 b; chmod 600 c; chmod 600 gone',
    theirs: 'seq 5 >a; seq 2000 >b; : >c; rm gone',
    conflicts: ['gone: existence'],
    look: `stat -c '%n %a %u %s' *; cmp b <(seq 2000) && echo same; wc -l <gone`,
    shows: [...['a 600 0 10', 'b 644 3 8893', 'c 600 0 0', 'gone 600 0 21'], ...['same', '10']],
  },
  {
    name: 'lines are merged where that is asked for',
    flags: ['--merge-text'],
    old: 'seq 30 >a; seq 30 >b; seq 3 | tr -d "\\n" >c; printf "1\\0\\n2\\n3\\n" >d',
    ours: 'sed -i 2s/.*/two/ a; sed -i 5s/.*/ours/ b; printf "0123" >c; sed -i 1s/1/x/ d',
    theirs: 'sed -i 28s/.*/last/ a; sed -i 5s/.*/theirs/ b; printf "1234" >c; sed -i 3s/3/y/ d',
    conflicts: ['b: content', 'c: content', 'd: content'],
    look: 'sed -n "2p;28p" a; sed -n 5p b; cat c c.theirs; ls',
    shows: ['two', 'last', 'ours', '01231234a', 'b', 'b.theirs', 'c', 'c.theirs', 'd', 'd.theirs'],
  },
  {
    name: 'ours, theirs: one side throughout, and silent',
    flags: ['--conflict', 'theirs'],
    old: 'echo a >a; echo b >b; echo c >c; mkdir d; echo k >keep',
    ours: 'echo A >a; rm b; echo C >c; echo 1 >d/1; mv keep kept',
    theirs: 'echo AA >a; echo BB >b; rm c; rm -r d; echo K >keep; mkdir kept',
    conflicts: ['a: content', 'b: existence', 'c: existence', 'd: existence', 'kept: existence'],
    shows: ['a: AA', 'b: BB', 'kept/'],
  },
  {
    name: 'names that are taken, and names that are as long as can be',
    old: 'echo a >a; n=$(printf "%0255d" 0); echo l >$n',
    ours: 'echo A >a; echo mine >a.theirs; n=$(printf "%0255d" 0); echo L >$n',
    theirs: 'echo AA >a; n=$(printf "%0255d" 0); echo LL >$n; echo 2 >a.theirs.2',
    conflicts: [`${'0'.repeat(255)}: content`, 'a: content'],
    look: `head -qn1 a*; cat $(printf "%0248d" 0).theirs; ls | wc -l`,
    shows: ['A', 'mine', '2', 'AA', 'LL', '6'],
  },
  {
    name: 'names that are no UTF-8, xattrs that look like marks, devices and sockets',
    old: `f=$(printf 'n\\377\\n'); echo 1 >"$f"; setfattr -n user.t -v 1 "$f"; mknod dev b 7 7`,
    ours: `f=$(printf 'n\\377\\n'); chmod 600 "$f"; setfattr -n trusted.overlay.opaque -v y "$f"; chmod 600 dev; mknod mine c 1 3`,
    theirs: `f=$(printf 'n\\377\\n'); echo 22 >"$f"; rm dev; mknod dev b 7 8; mkfifo p`,
    look: `cat n*; getfattr -n trusted.overlay.opaque --only-values n*; stat -c '%n %F %a %t:%T' dev mine p`,
    shows: [
      '22',
      ...['ydev block special file 600 7:8', 'mine character special file 644 1:3'],
      'p fifo 644 0:0',
    ],
  },
];

describe('rebase', () => {
  for (const [i, row] of rows.entries()) {
    test(row.name, { skip }, (t) => {
      const stack = new RebaseStack(t, row);
      const { flags = [], conflicts = [] } = row;
      const ran = stack.rebase(...flags);
      assert.deepEqual(ran.conflicts, conflicts, ran.err);
      const isSettled = conflicts.length === 0 || flags.includes('--conflict');
      assert.equal(ran.code, isSettled ? 0 : 8);
      if (row.upper !== undefined) assert.deepEqual(stack.upper(), row.upper);
      assert.deepEqual(stack.shown(row.look), row.shows);
      // Another start of a program; the campaign asks as well.
      if (i % 3 === 0) assert.equal(stack.misfits(), '');
    });
  }

  test('hard links stay hard links, with index=on', { skip }, (t) => {
    const stack = new RebaseStack(t, {
      old: 'echo 1 >a; ln a b; ln a c; echo 2 >x; ln x y; echo 3 >m; ln m n',
      ours: 'echo mine >>a; ln a extra; rm c; chmod 600 x; ln m o; echo changed >>n; rm m n',
      theirs: 'echo two >x; echo z >z',
    });
    const ran = stack.rebase();
    assert.deepEqual(ran.conflicts, []);
    const look = `stat -c '%n %h' a b extra x y o; cat b y o; [ a -ef b ] && [ b -ef extra ] && [ x -ef y ] && echo linked`;
    const expected = [
      ...['a 3', 'b 3', 'extra 3', 'x 2', 'y 2', 'o 1'],
      ...['1', 'mine', 'two', '3', 'changed', 'linked'],
    ];
    assert.deepEqual(stack.shown(look), expected);
    assert.equal(stack.misfits(), '');
    // The other names follow, through the index alone.
    assert.deepEqual(stack.shown('echo more >>b; tail -n1 a extra -q'), ['more', 'more']);
  });

  for (const options of ['redirect_dir=on,index=on,metacopy=on', 'redirect_dir=off,index=off']) {
    test(`a hard link over files of the lower stays one file: ${options}`, { skip }, (t) => {
      const stack = new RebaseStack(t, {
        options,
        old: 'echo t >t; echo covered >a; echo 1 >p; echo 2 >q; echo 3 >r; echo 4 >s',
        ours: 'mv t z; ln -f z a; ln -f p q; echo more >>q; echo own >>r; ln -f r s',
        theirs: 'chmod 600 p; echo new >new',
      });
      const ran = stack.rebase();
      assert.deepEqual(ran.conflicts, []);
      const look = `stat -c '%n %h %a' a z p q r s; cat a p r; ls; for i in 'a z' 'p q' 'r s'; do set -- $i; [ $1 -ef $2 ] && echo linked; done`;
      assert.deepEqual(stack.shown(look), [
        ...['a 2 644', 'z 2 644', 'p 2 600', 'q 2 600', 'r 2 644', 's 2 644'],
        ...['t', '1', 'more', '3', 'own'],
        ...['a', 'new', 'p', 'q', 'r', 's', 'z'],
        ...['linked', 'linked', 'linked'],
      ]);
    });
  }

  test('names of one file that are apart from now on are told', { skip }, (t) => {
    const stack = new RebaseStack(t, {
      old: 'echo 1 >a; ln a b',
      ours: 'chmod 600 a; chmod 644 b; echo mine >>a',
      theirs: 'rm b; echo other >b; chmod 755 b',
    });
    const ran = stack.rebase();
    assert.equal(ran.code, 8);
    assert.match(ran.conflicts.join('; '), /links/);
  });

  test('a hard link whose only changed name has been removed', { skip }, (t) => {
    const stack = new RebaseStack(t, {
      old: 'echo 1 >a; ln a b; echo 2 >c; ln c d',
      ours: 'echo mine >>a; rm a; chmod 600 c; rm c',
      theirs: 'rm d; echo apart >d',
    });
    const before = stack.mounted('old', () => stack.shell('mnt', 'cat b; stat -c %a d'));
    assert.equal(before, '1\nmine\n600\n');
    const ran = stack.rebase();
    assert.deepEqual(ran.conflicts, []);
    assert.deepEqual(stack.shown('cat b d; stat -c %a d; ls'), [
      '1',
      'mine',
      'apart',
      '600',
      'b',
      'd',
    ]);
    assert.equal(stack.misfits(), '');
  });

  test('an upper of varve, mounted by both', { skip }, (t) => {
    const stack = new RebaseStack(t, {
      by: 'varve',
      old: 'mkdir -p d/e; echo 1 >d/1; ln d/1 d/one; echo 2 >d/e/2; echo 3 >g; mkdir o; echo 4 >o/4',
      ours: 'mv d moved; echo mine >>moved/1; chmod 600 g; rm -r o; mkdir o; echo 5 >o/5',
      theirs: 'echo new >d/e/2; echo longer than before >g; echo 6 >o/6',
    });
    assert.deepEqual(stack.rebase().conflicts, []);
    const expected = [
      ...['g: longer than before', 'moved/', 'moved/1: 1 mine', 'moved/e/', 'moved/e/2: new'],
      ...['moved/one: 1 mine', 'o/', 'o/5: 5', 'o/6: 6'],
    ];
    assert.deepEqual(stack.shown(), expected);
    assert.deepEqual(stack.shown(undefined, 'kernel'), expected);
    assert.equal(stack.misfits(), '');
  });

  test('inode numbers stay where the object of NEW is the same', { skip }, (t) => {
    const stack = new RebaseStack(t, {
      by: 'varve',
      old: 'mkdir d; echo 1 >d/1; echo 2 >2',
      ours: 'echo mine >>d/1; chmod 600 2',
      theirs: 'true',
    });
    // A layer more on top of the same one.
    stack.shell('.', 'rm -r new; mkdir new; mkdir patch; echo 3 >patch/3');
    const look = 'stat -c "%n %i" d d/1 2';
    const before = stack.mounted('old', () => stack.shell('mnt', look));
    const to = `${stack.at('patch')}:${stack.at('old')}`;
    const ran = stack.cli.run(
      ...['rebase', '-o', stack.upperOptions(), '--from', stack.at('old'), '--to', to],
    );
    assert.deepEqual([ran.code, ran.out, ran.err], [0, '', '']);
    const after = stack.mounted(`patch:${stack.at('old')}`, () => stack.shell('mnt', look));
    assert.equal(after, before);
  });

  test('a named stack: its file names the new layers, and after an undo the old ones', {
    skip,
  }, (t) => {
    const stack = new RebaseStack(t, {
      old: 'echo a >a; echo b >b',
      ours: 'echo A >a',
      theirs: 'echo B >b',
    });
    const file = (lower: string): string =>
      `# ours\nversion: 1\nstacks:\n  web:\n    layers:\n      - ${lower}\n    upper: upper\n    workdir: work\n`;
    writeFileSync(stack.at('varve.yaml'), file('old'));
    const run = (...args: string[]): void => {
      const ran = stack.cli.run('rebase', ...args);
      assert.deepEqual([ran.code, ran.out], [0, ''], ran.err);
    };
    run('web', '--to', 'new');
    assert.equal(readFileSync(stack.at('varve.yaml'), 'utf8'), file('new'));
    assert.deepEqual(stack.shown(), ['a: A', 'b: B']);
    run('web', '--undo', '-q');
    assert.equal(readFileSync(stack.at('varve.yaml'), 'utf8'), file('old'));
    assert.equal(stack.cli.run('rebase', 'nobody', '--to', 'new').code, 6);
  });

  test('a tree deeper than any path', { skip }, (t) => {
    const nest = `p=$(printf 'd/%.0s' $(seq 1200)); mkdir -p $p; echo`;
    const stack = new RebaseStack(t, {
      old: `${nest} a >$p/f`,
      ours: `echo 1 >x`,
      theirs: 'echo y >y',
    });
    stack.shell('upper', `${nest} b >$p/g`);
    assert.deepEqual(stack.rebase().conflicts, []);
    const find = 'find . -type f -printf "%f\\n" | sort';
    assert.deepEqual(stack.shown(find), ['f', 'g', 'x', 'y']);
  });

  test('fail and dry-run write nothing, undo puts back', { skip }, (t) => {
    const stack = new RebaseStack(t, {
      old: 'echo a >a; echo b >b; ln b c; mkdir d; echo e >d/e',
      ours: 'echo A >a; echo B >b; mv d f; rm c',
      theirs: 'echo AA >a; echo new >d/new',
    });
    const before = stack.mounted('old', () => stack.shell('mnt', 'find . -ls; cat a b'));
    const ino = statSync(stack.at('upper')).ino;
    const failed = stack.rebase('--conflict', 'fail');
    assert.deepEqual([failed.code, failed.done, failed.conflicts], [8, false, ['a: content']]);
    const dry = stack.rebase('--dry-run');
    assert.deepEqual([dry.code, dry.done, dry.conflicts], [8, false, ['a: content']]);
    assert.equal(statSync(stack.at('upper')).ino, ino);
    assert.deepEqual(
      readdirSync(stack.cli.folder).filter((name) => name.startsWith('upper')),
      ['upper'],
    );
    const { kept = '' } = stack.rebase();
    assert.equal(statSync(kept).ino, ino);
    stack.mounted('new', () => stack.shell('mnt', 'echo later >later'));
    const undone = stack.cli.run('rebase', '--undo', '-o', stack.upperOptions());
    assert.equal(undone.code, 0, undone.err);
    assert.equal(statSync(stack.at('upper')).ino, ino);
    const after = stack.mounted('old', () => stack.shell('mnt', 'find . -ls; cat a b'));
    assert.equal(after, before);
    const [away = ''] = readdirSync(stack.cli.folder).filter((name) => name.includes('.after-'));
    assert.equal(stack.shell(join(away, 'upper'), 'cat later'), 'later\n');
    const again = stack.cli.run('rebase', '--undo', '-o', stack.upperOptions());
    assert.equal(again.code, 6, again.err);
  });
});
