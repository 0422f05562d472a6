import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { appendFileSync, copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { pattern } from '../oracle/layers.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { IntegrityStack } from './stack.js';

const skip = requires({ root: true, features: ['fuse'], packages: ['sqlite3', 'git'] });

function run(command: string, args: readonly string[], input = ''): string {
  const result = spawnSync(command, args, {
    input,
    encoding: 'utf8',
    timeout: 120_000,
    env: { ...process.env, HOME: '/nonexistent', GIT_CONFIG_NOSYSTEM: '1' },
  });
  const { status, stdout, stderr } = result;
  if (status !== 0) assert.fail(`${command} ${args.join(' ')}: ${stderr}${result.error ?? ''}`);
  return stdout;
}

const sqlite = (file: string, sql: string) => run('sqlite3', ['-batch', '-bail', file], sql);

/** A number per row that looks random and is the same everywhere. */
const shuffled = '(id * 2654435761) % 1000003';

/** About 90 MB in pages of 4 KiB. */
const build = `
  PRAGMA page_size=4096; PRAGMA journal_mode=off; PRAGMA synchronous=off;
  CREATE TABLE t(id INTEGER PRIMARY KEY, k INTEGER, v BLOB);
  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40000)
    INSERT INTO t SELECT i, (i * 7919) % 40009, zeroblob(2000 + i % 300) FROM n;
  CREATE INDEX byk ON t(k);`;

/** Updates in random order, growing and shrinking, in transactions and with both kinds of journal. */
const change = (mode: string) => `
  PRAGMA journal_mode=${mode};
  UPDATE t SET v = printf('%d row %d', ${shuffled}, id) || zeroblob(1500) WHERE ${shuffled} % 7 = 1;
  BEGIN; DELETE FROM t WHERE ${shuffled} % 11 = 2; ROLLBACK;
  BEGIN; DELETE FROM t WHERE ${shuffled} % 13 = 3;
  INSERT INTO t SELECT id + (SELECT max(id) FROM t), k + 1, zeroblob(2500) FROM t WHERE ${shuffled} % 17 = 4; COMMIT;
  UPDATE t SET k = k + 1 WHERE ${shuffled} % 5 = 0;`;

/** Without fsync: for what has nothing to prove by it. */
const fast = 'PRAGMA synchronous=off;';

const look = `PRAGMA integrity_check;
  SELECT count(*), sum(id), sum(k), sum(length(v)), max(v) FROM t;\n.sha3sum\n`;

for (const mode of ['delete', 'wal']) {
  test(`a 90 MB SQLite database of a lower, journal_mode=${mode}`, { skip }, (t) => {
    const folder = tempDir(t);
    const stack = new IntegrityStack(folder);
    const plain = join(folder, 'plain.db');
    sqlite(plain, build);
    copyFileSync(plain, join(stack.lower, 'data.db'));
    stack.start();
    const mounted = join(stack.mountpoint, 'data.db');
    assert.equal(sqlite(mounted, look), sqlite(plain, look), 'before any change');
    for (const [what, sql] of [
      ['changes', change(mode)],
      ['vacuum', `${fast} ${change(mode)} VACUUM;`],
    ] as const) {
      sqlite(plain, `${fast} ${sql}`);
      sqlite(mounted, sql);
      const seen = sqlite(mounted, look);
      assert.match(seen, /^ok\n/, `integrity_check after ${what}`);
      assert.equal(seen, sqlite(plain, look), `content after ${what}`);
    }
    stack.remount();
    assert.equal(sqlite(mounted, look), sqlite(plain, look), 'after a remount');
    stack.stop();
    assert.ok(stack.lowerIsUntouched());
  });
}

test('git works in a repository that lies in a lower', { skip }, (t) => {
  const stack = new IntegrityStack(tempDir(t));
  const inLower = (...args: string[]) => git(join(stack.lower, 'repo'), args);
  mkdirSync(join(stack.lower, 'repo'));
  inLower('init', '--quiet', '--initial-branch=main');
  for (let i = 0; i < 120; i++) {
    const folder = join(stack.lower, 'repo', `d${i % 12}`);
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, `f${i}`), pattern(i, 200 + i * 50));
  }
  inLower('add', '--all');
  inLower('commit', '--quiet', '-m', 'first');
  inLower('gc', '--quiet');
  stack.start();

  const repository = join(stack.mountpoint, 'repo');
  const here = (...args: string[]) => git(repository, args);
  assert.equal(here('status', '--porcelain'), '');
  here('checkout', '--quiet', '-b', 'work');
  for (let i = 0; i < 120; i += 3) appendFileSync(join(repository, `d${i % 12}`, `f${i}`), 'more');
  here('mv', 'd1', 'moved');
  here('rm', '--quiet', '-r', 'd2');
  here('add', '--all');
  here('commit', '--quiet', '-m', 'second');
  here('checkout', '--quiet', 'main');
  here('merge', '--quiet', '--no-ff', '-m', 'merged', 'work');
  appendFileSync(join(repository, 'd0', 'f0'), 'thrown away');
  here('stash', '--quiet');
  here('stash', 'drop', '--quiet');
  here('reset', '--quiet', '--hard', 'HEAD~1');
  here('merge', '--quiet', 'work');
  here('repack', '-a', '-d', '-f', '--quiet');
  here('gc', '--quiet', '--prune=now');
  assert.equal(here('status', '--porcelain'), '');
  here('fsck', '--full', '--strict', '--no-dangling');
  const tree = here('ls-tree', '-r', 'HEAD');
  assert.match(tree, /\tmoved\/f1\n/);
  assert.doesNotMatch(tree, /\td2\//);
  stack.remount();
  assert.equal(here('status', '--porcelain'), '');
  assert.equal(here('ls-tree', '-r', 'HEAD'), tree);
  here('fsck', '--full', '--strict', '--no-dangling');
  // A clone reads every object through the mount and hard-links none of them.
  here('clone', '--quiet', '--no-hardlinks', repository, join(stack.mountpoint, 'clone'));
  git(join(stack.mountpoint, 'clone'), ['fsck', '--full', '--strict']);
  stack.stop();
  assert.ok(stack.lowerIsUntouched());
});

function git(folder: string, args: readonly string[]): string {
  const who = ['-c', 'user.name=t', '-c', 'user.email=t@example.org', '-c', 'gc.auto=0'];
  return run('git', ['-C', folder, ...who, '-c', 'safe.directory=*', ...args]);
}
