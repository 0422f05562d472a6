// `varve try`: a command changes nothing until it is committed, and then what it would have changed without.
// Under test: src/cli/try*.ts, src/ops/try/, src/sandbox/, as root and as a plain user. What is contained: try-contained.test.ts.
// Oracle: the same script run without varve on a copy of the same tree.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { serveMemory } from '../fuse/child.js';
import { requires } from '../support/requires.js';
import { PROGRAM, type Ran, skip, type TryPlace, tryPlace } from './try-place.js';

interface Result {
  readonly outcome: string;
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly status: number;
  readonly kept?: string;
  readonly conflicts?: readonly { path: string; message: string }[];
  readonly changes?: { changes: { path: string; status: string }[] };
}

function resultOf({ err }: Ran): Result {
  return JSON.parse(err.trim().split('\n').at(-1) as string) as Result;
}

const TREE = `mkdir -p a/deep b c; echo one > a/one; echo two > a/deep/two; echo three > b/three; ln -s ../a/one c/link
  ln b/three c/hard; echo four > c/four; chmod 640 c/four; echo five > "$(printf 'c/\\377 odd\\nname')"`;
const CHANGE = `echo more >> a/one; rm a/deep/two; rm -r b; mkdir b; echo new > b/new; mv c/link c/moved; chmod 600 c/four
  mkdir -p d/e; mv a/deep d/e/deep; ln c/four d/again; touch -d 2001-01-01 c/hard; mkfifo d/pipe
  echo six >> "$(printf 'c/\\377 odd\\nname')"; rm c/hard; echo other > c/hard; umask 077; echo secret > d/secret`;
/** Everything but the times of what is new. */
const LIST = `find . -printf '%y %m %U:%G %n %l ' -print | LC_ALL=C sort; find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum`;

for (const root of [true, false]) {
  const who = root ? 'root' : 'a plain user';

  test(`${who}: committed, it is as if the command had run without`, { skip }, (t) => {
    const p = tryPlace(t, root);
    for (const name of ['mine', 'oracle']) {
      assert.equal(p.sh(`mkdir ${name}; cd ${name}; ${TREE}`).err, '');
    }
    const before = p.sh(LIST, p.at('project/mine'));
    const script = `cd mine; ${CHANGE}; cd ..; echo said; echo told >&2; exit 4`;
    const kept = p.run('--keep', '--diff=name-status', '--json', '--', 'sh', '-c', script);
    assert.equal(kept.code, 4, kept.err);
    assert.equal(kept.out, 'said\n');
    assert.match(kept.err, /^told$/m);
    const { outcome, exitCode, changes, kept: trial } = resultOf(kept);
    assert.deepEqual([outcome, exitCode], ['kept', 4]);
    const place = p.at('project/mine').slice(1);
    const found = new Map(changes?.changes.map(({ path, status }) => [path, status]));
    assert.equal(found.get(`${place}/a/one`), 'M', kept.err);
    assert.equal(found.get(`${place}/b/three`), 'D');
    assert.equal(found.get(`${place}/b/new`), 'A');
    assert.match(kept.err, new RegExp(`^A\\t${place}/d/secret$`, 'm'));
    assert.deepEqual(p.sh(LIST, p.at('project/mine')), before, 'nothing has happened');
    // It goes on from there.
    const again = p.run('-q', '--resume', trial as string, '--keep', '--', 'cat', 'mine/b/new');
    assert.deepEqual([again.code, again.out, again.err], [0, 'new\n', '']);
    const committed = p.run('--resume', trial as string, '--yes', '--json');
    assert.equal(committed.code, 0, committed.err);
    assert.equal(resultOf(committed).outcome, 'committed');
    assert.equal(p.sh(`cd oracle; ${CHANGE}`).err, '');
    const mine = p.sh(LIST, p.at('project/mine'));
    assert.equal(mine.out, p.sh(LIST, p.at('project/oracle')).out);
    assert.equal(mine.err, '');
    assert.deepEqual(p.trials(), []);
    assert.deepEqual(p.left(), []);
  });

  test(`${who}: what has been changed meanwhile is not overwritten`, { skip }, (t) => {
    const p = tryPlace(t, root);
    p.sh(`${TREE}; mkdir e; echo e > e/e`);
    const script = 'echo theirs > a/one; rm -r b; echo x > fresh; echo y >> c/four; rm -r e';
    const { kept = '' } = resultOf(p.run('--keep', '--json', '--', 'sh', '-c', script));
    p.sh('sleep 0.1; echo ours > a/one; echo z > b/more; echo here > fresh');
    const list = p.sh(LIST).out;
    const refused = p.run('--resume', kept, '--yes', '--json');
    assert.equal(refused.code, 125);
    assert.match(refused.err, /^varve: try: commit refused, nothing was done: /m);
    const conflicts = [...refused.err.matchAll(/^varve: conflict: (.*?): /gm)].map(
      ([, path]) => path,
    );
    const expected = ['a/one', 'b/more', 'fresh'].map((path) => p.at(`project/${path}`));
    assert.deepEqual(conflicts.sort(), expected, refused.err);
    assert.equal(p.sh(LIST).out, list);
    const told = resultOf(refused);
    assert.deepEqual([told.outcome, told.conflicts?.length, told.kept], ['failed', 3, kept]);
    const forced = p.run('--resume', kept, '--yes', '--force', '--json');
    assert.equal(forced.code, 0, forced.err);
    assert.equal(readFileSync(p.at('project/a/one'), 'utf8'), 'theirs\n');
    assert.equal(readFileSync(p.at('project/fresh'), 'utf8'), 'x\n');
    assert.ok(!existsSync(p.at('project/b')) && !existsSync(p.at('project/e')));
  });

  test(`${who}: --on takes writes there and nowhere else`, { skip }, (t) => {
    const p = tryPlace(t, root);
    p.sh('mkdir in out');
    const script = 'echo 1 > in/1; echo 2 > out/2; echo 3 > $HOME/3; test -f in/1 && pwd';
    const ran = p.run('--on', 'in', '--yes', '--json=../trials/result', '--', 'sh', '-c', script);
    assert.deepEqual([ran.code, ran.out], [0, `${p.project}\n`], ran.err);
    assert.equal(ran.err.match(/Read-only file system/g)?.length, 2, ran.err);
    const result = JSON.parse(readFileSync(p.at('trials/result'), 'utf8')) as Result;
    const paths = result.changes?.changes.map(({ path, status }) => `${status} ${path}`);
    assert.deepEqual(paths, [`A ${p.at('project/in/1').slice(1)}`]);
    assert.deepEqual(readdirSync(p.at('project/in')), ['1']);
    assert.deepEqual([...readdirSync(p.at('project/out')), ...readdirSync(p.at('home'))], []);
  });
}

test('exit codes: of the command, and of varve itself', { skip }, (t) => {
  const p = tryPlace(t, false);
  writeFileSync(p.at('project/text'), 'no program');
  const rows: readonly [number, RegExp, ...string[]][] = [
    [255, /^$/, '--', 'sh', '-c', 'exit 255'],
    [143, /^$/, '--', 'sh', '-c', 'kill -TERM $$'],
    [137, /^$/, '--', 'sh', '-c', 'kill -KILL $$'],
    [127, /^varve: try: nonesuch: no such command\n$/, '--', 'nonesuch'],
    [126, /^varve: try: \.\/text: .*EACCES.*\n$/, '--', './text'],
    [125, /^varve: -- is missing/, 'true'],
    [125, /^varve: unknown flag --bogus/, '--bogus', '--', 'true'],
    [125, /^varve: the command is missing/, '--'],
    [125, /^varve: --yes and --no: choose one\n$/, '--yes', '--', 'true'],
    [125, /^varve: --on nowhere: no such file or directory/, '--on', 'nowhere', '--', 'true'],
    [125, /^varve: --on \/proc: the kernel/, '--on', '/proc', '--', 'true'],
    [125, /^varve: --on \/: only root may/, '--on', '/', '--', 'true'],
    [125, /^varve: --allow-sockets=what: one of dbus/, '--allow-sockets=what', '--', 'true'],
    [125, /^varve: .*\/nowhere: no trial is kept there/, '--resume', 'nowhere'],
    [125, /^varve: --net=some: one of host, none\n$/, '--net=some', '--', 'true'],
    [125, /^varve: --bind=a:b:c: write/, '--bind=a:b:c', '--', 'true'],
  ];
  for (const [code, err, ...args] of rows) {
    const ran = p.run('-q', '--no', ...args);
    assert.equal(ran.code, code, `${args.join(' ')}: ${ran.err}`);
    assert.match(ran.err, err, args.join(' '));
  }
  assert.deepEqual(p.trials(), []);
  const signalled = resultOf(p.run('--no', '--json', '--', 'sh', '-c', 'kill -USR1 $$'));
  assert.deepEqual(
    [signalled.exitCode, signalled.signal, signalled.status],
    [null, 'SIGUSR1', 138],
  );
});

test('--if-ok commits what succeeded and discards what did not', { skip }, (t) => {
  const p = tryPlace(t, false);
  assert.equal(p.run('-q', '--yes', '--if-ok', '--', 'sh', '-c', 'echo a > bad; exit 3').code, 3);
  assert.equal(p.run('-q', '--yes', '--if-ok', '--', 'sh', '-c', 'echo a > good').code, 0);
  assert.deepEqual(readdirSync(p.project), ['good']);
});

test('on a terminal it asks', { skip: skip || requires({ commands: ['script'] }) }, (t) => {
  const p = tryPlace(t, true);
  const answers = (text: string, name: string): string => {
    const line = `"${process.execPath}" "${PROGRAM}" try -- touch ${name}`;
    const { stdout } = spawnSync('script', ['-qec', line, '/dev/null'], {
      cwd: p.project,
      env: { ...process.env, VARVE_TRY_DIR: p.at('trials'), NO_COLOR: '1' },
      input: text,
      encoding: 'utf8',
      timeout: 60_000,
    });
    return stdout;
  };
  const shown = answers('s\nwhat\nc\n', 'yes');
  assert.match(shown, /└── A .*yes/);
  assert.match(shown, /diff --git/);
  assert.match(shown, /committed/);
  assert.match(answers('d\n', 'no'), /discarded/);
  assert.match(answers('k\n', 'later'), /kept in /);
  assert.deepEqual(readdirSync(p.project), ['yes']);
  assert.equal(p.trials().length, 1);
});

test('signals go to the command; killed itself, varve leaves nothing running', {
  skip,
}, async (t) => {
  const p = tryPlace(t, false);
  const script = `trap 'exit 9' TERM; touch begun; echo ready; sleep 1000 & while :; do sleep 0.05; done`;
  const first = p.start('-q', '--no', '--', 'sh', '-c', script);
  await said(first.stdout as NodeJS.ReadableStream, 'ready');
  first.kill('SIGTERM');
  assert.equal(await ended(first), 9);
  assert.deepEqual(p.left(), []);
  const second = p.start('-q', '--no', '--', 'sh', '-c', script);
  await said(second.stdout as NodeJS.ReadableStream, 'ready');
  // The command's loop starts and ends processes all the time: one look decides, not the last of several.
  let left = p.left();
  for (let i = 0; i < 2400 && left.length < 3; i++) {
    await sleep(25);
    left = p.left();
  }
  assert.ok(left.length >= 3, left.join('; '));
  second.kill('SIGKILL');
  await ended(second);
  await nothingLeft(p);
  // What it wrote is still there, and can be decided about.
  const [trial = ''] = p.trials();
  assert.match(p.run('--list').out, /trap 'exit 9' TERM/);
  assert.match(p.run('--resume', p.at(`trials/${trial}`), '--no').err, /A begun|begun/);
  assert.deepEqual([p.trials(), readdirSync(p.project)], [[], []]);
});

test('root: a mount that only its user may look at hinders no trial', {
  skip:
    skip || requires({ root: true, features: ['fuse', 'plain-user'], commands: ['fusermount3'] }),
}, async (t) => {
  const p = tryPlace(t, true);
  const theirs = p.at('theirs');
  mkdirSync(theirs);
  chownSync(theirs, 65534, 65534);
  const as = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--'];
  const served = await serveMemory(theirs, { files: { file: 'mine' } }, as);
  const script = 'ls "$0" 2>/dev/null || echo hidden';
  const ran = p.run('-q', '--no', '--', 'sh', '-c', script, theirs);
  assert.deepEqual([ran.code, ran.out], [0, 'hidden\n'], ran.err);
  assert.equal(spawnSync('umount', [theirs]).status, 0);
  await served.end(false);
});

test('root: apt-get installs a package; then the package is there', {
  skip: skip || requires({ commands: ['apt-get', 'dpkg-deb'] }),
}, (t) => {
  const p = tryPlace(t, true, { DEBIAN_FRONTEND: 'noninteractive' });
  const name = 'varve-try-sample';
  t.after(() => spawnSync('dpkg', ['--purge', name]));
  p.sh(`mkdir -p d/DEBIAN d/usr/share/${name} && cd d && echo content > usr/share/${name}/file
    printf 'Package: ${name}\\nVersion: 1\\nArchitecture: all\\nMaintainer: Nobody <nobody@example.org>\\nDescription: sample\\n' > DEBIAN/control
    printf '#!/bin/sh\\necho configured > /etc/${name}.conf; chown daemon /etc/${name}.conf\\n' > DEBIAN/postinst; chmod 755 DEBIAN/postinst
    printf '#!/bin/sh\\nrm -f /etc/${name}.conf\\n' > DEBIAN/postrm; chmod 755 DEBIAN/postrm; cd .. && dpkg-deb -b d sample.deb`);
  const isThere = (): boolean =>
    spawnSync('dpkg', ['-s', name]).status === 0 || existsSync(`/usr/share/${name}`);
  const install = ['apt-get', '-o', 'DPkg::Lock::Timeout=100', 'install', '-y', './sample.deb'];
  const tried = p.run('--keep', '--json', '--', ...install);
  assert.equal(tried.code, 0, tried.out + tried.err);
  assert.ok(!isThere() && !existsSync(`/etc/${name}.conf`));
  const { kept = '', changes } = resultOf(tried);
  const found = new Map(changes?.changes.map(({ path, status }) => [path, status]));
  assert.equal(found.get(`usr/share/${name}/file`), 'A');
  assert.equal(found.get(`etc/${name}.conf`), 'A');
  assert.equal(found.get('var/lib/dpkg/status'), 'M');
  const committed = p.run('--resume', kept, '--yes', '--diff=none');
  assert.equal(committed.code, 0, committed.err);
  assert.ok(isThere());
  assert.equal(p.sh(`stat -c %U /etc/${name}.conf; dpkg --verify ${name}`).out, 'daemon\n');
});

test('a plain user: npm installs a package', {
  skip: skip || requires({ commands: ['npm'] }),
}, (t) => {
  const p = tryPlace(t, false);
  p.sh(`mkdir package; echo '{"name":"sample","version":"1.0.0"}' > package/package.json; echo 'exports.x = 1' > package/index.js
    tar czf sample.tgz package; rm -r package; echo '{"name":"p","version":"1.0.0","dependencies":{"sample":"file:sample.tgz"}}' > package.json`);
  const install = ['npm', 'install', '--offline', '--no-audit', '--no-fund', '--loglevel=error'];
  const tried = p.run('--no', '--diff=name-status', '--', ...install);
  assert.equal(tried.code, 0, tried.err);
  assert.match(tried.err, /^A\t.*\/project\/node_modules\/sample\/index\.js$/m);
  assert.ok(!existsSync(p.at('project/node_modules')));
  assert.deepEqual(readdirSync(p.at('home')), []);
  assert.equal(p.run('-q', '--yes', '--', ...install).code, 0);
  assert.equal(p.sh(`node -p 'require("sample").x'`).out, '1\n');
});

async function said(stream: NodeJS.ReadableStream, word: string): Promise<void> {
  let text = '';
  for await (const chunk of stream) {
    text += chunk;
    if (text.includes(word)) return;
  }
  assert.fail(`it ended without "${word}"`);
}

function ended(child: ReturnType<TryPlace['start']>): Promise<number | null> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve(child.exitCode);
    else child.once('exit', resolve);
  });
}

async function nothingLeft(p: TryPlace): Promise<void> {
  for (let i = 0; i < 2400 && p.left().length > 0; i++) await sleep(25);
  assert.deepEqual(p.left(), []);
}
