// Named stacks from the command line: added, mounted in order, seen by name, changed, unmounted; mistakes and exit codes.
// Under test: src/cli/{up,down,stack*}.ts and the names in status, umount, why, check, reload.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { mountAt } from '../../src/linux/mountinfo.js';
import { installVarve } from '../clients/installed.js';
import { privately } from '../clients/private.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { type Cli, cliIn, MAIN } from './cli.js';

const skip = requires({ features: ['fuse'] });

const FILE = `# of a test
stacks:
  os:
    layers: [top, base]
    upper: changes
    mount: m/os
    create: true
  view:
    layers: [{ stack: os }, extra]
    mount: m/view
    create: true
  plain: {base: view, layers: [top], mount: m/plain}
  bare: {layers: [base]}
`;

interface Place extends Cli {
  at(path: string): string;
  json(...args: string[]): unknown;
  states(): Record<string, string>;
}

/** Layers and a varve.yaml; unmounted at the end whatever happens. */
function place(t: { after(fn: () => void): void }, file = FILE): Place {
  const folder = tempDir(t);
  const cli = cliIn(folder);
  const at = (path: string): string => join(folder, path);
  for (const name of ['top', 'base', 'extra', 'm']) mkdirSync(at(name));
  writeFileSync(at('top/a'), 'top');
  writeFileSync(at('base/b'), 'base');
  writeFileSync(at('extra/c'), 'extra');
  writeFileSync(at('varve.yaml'), file);
  const json = (...args: string[]): unknown => {
    const ran = cli.run(...args, '--json');
    assert.equal(ran.err, '');
    return JSON.parse(ran.out);
  };
  return {
    ...cli,
    at,
    json,
    states: () => {
      const { stacks } = json('stack', 'ls') as { stacks: { name: string; state: string }[] };
      return Object.fromEntries(stacks.map(({ name, state }) => [name, state]));
    },
  };
}

test('up mounts what a stack stands on first, down the other way round; both may be repeated', {
  skip,
}, (t) => {
  const { run, at, states, json } = place(t);
  const planned = run('up', 'view', '--dry-run');
  assert.equal(planned.code, 0);
  assert.match(
    planned.out,
    /^os: would be mounted at .*\/m\/os, making .*\nview: would be mounted/,
  );
  assert.ok(!existsSync(at('m/os')));

  const up = run('up', 'view');
  assert.equal(up.code, 0, up.err);
  assert.match(up.err, /^varve: os is up at .*\nvarve: view is up at .*\n$/);
  assert.deepEqual(states(), { os: 'up', view: 'up', plain: 'down', bare: 'base' });
  assert.equal(readFileSync(at('m/view/a'), 'utf8'), 'top');
  assert.equal(readFileSync(at('m/view/c'), 'utf8'), 'extra');
  writeFileSync(at('m/os/new'), 'new');
  assert.equal(readFileSync(at('changes/new'), 'utf8'), 'new');
  assert.ok(existsSync(at('changes.work')));

  const again = json('up', 'os', 'view') as { outcome: string }[];
  assert.deepEqual(
    again.map(({ outcome }) => outcome),
    ['unchanged', 'unchanged'],
  );
  // Paths stand for themselves everywhere; so does the file, from any folder below it.
  assert.equal(run('stack', 'check').code, 0);

  const refused = run('down', 'os');
  assert.equal(refused.code, 5);
  assert.match(refused.err, /^varve: os: view stands on it and is up: [^\n]*\n$/);
  const down = run('down', 'os', '--recursive');
  assert.equal(down.code, 0, down.err);
  assert.match(down.err, /view is down\nvarve: os is down\n/);
  assert.deepEqual(states(), { os: 'down', view: 'down', plain: 'down', bare: 'base' });
  assert.equal(run('down', '--all').code, 0);
});

test('a name does where a mount point does; ./NAME is the path', { skip }, (t) => {
  const { run, at } = place(t);
  assert.equal(run('up', 'os', '-q').err, '');
  writeFileSync(at('m/os/a'), 'changed');
  assert.match(run('status', 'os').out, /\/m\/os: mounted/);
  assert.match(run('why', 'os').out, /from upper/);
  assert.equal(run('check', 'os').code, 0);
  assert.match(run('reload', 'os').err, /is served by process/);
  const path = run('status', './os');
  assert.equal(path.code, 6);
  assert.match(path.err, /\/os: not a varve mount/);
  assert.equal(run('umount', 'os').code, 0);
  // Not mounted, it is what the file says.
  const checked = run('check', 'os');
  assert.equal(checked.code, 0, checked.err);
  assert.match(checked.out, /changes: fits its lowers/);
  const none = run('status', 'bare');
  assert.equal(none.code, 2);
  assert.match(none.err, /varve\.yaml:12:\d+: bare: it has no mount: /);
});

test('what is up otherwise than the file says stays, and is told', { skip }, (t) => {
  const { run, at, states } = place(t);
  assert.equal(run('up', 'os').code, 0);
  assert.equal(run('stack', 'set', 'os', '--push', 'extra', '-o', 'noatime').code, 0);
  assert.equal(states()['os'], 'differs');
  const refused = run('up', 'os');
  assert.equal(refused.code, 5);
  assert.match(
    refused.err,
    /varve\.yaml:\d+:\d+: os: is up at .*, but otherwise than the file says: lowerdir is .*top.*, not .*extra.*; noatime is false, not true: `varve down os`, then up again\n$/,
  );
  assert.match(readFileSync(at('varve.yaml'), 'utf8'), /^# of a test\n/);
  assert.equal(run('down').code, 2);
  assert.equal(run('down', 'os').code, 0);
  assert.equal(run('up', 'os').code, 0);
  assert.equal(readFileSync(at('m/os/c'), 'utf8'), 'extra');
  assert.equal(run('stack', 'rm', 'os').code, 5);
  assert.equal(run('down', 'os').code, 0);
  assert.match(run('stack', 'rm', 'os').err, /os: view has it as a layer/);
});

test('one that cannot be mounted keeps only those from it that stand on it', { skip }, (t) => {
  const { run, at, states } = place(
    t,
    `${FILE}  alone: {layers: [base, top], mount: m/alone, create: true}\n  broken: {layers: [nowhere], mount: m}\n`,
  );
  // The layer of `view` is there, but `os` has none of its own.
  const text = readFileSync(at('varve.yaml'), 'utf8');
  writeFileSync(at('varve.yaml'), text.replace('[top, base]', '[top, gone]'));
  const ran = run('up', '--all', '--create');
  assert.equal(ran.code, 3);
  assert.match(ran.err, /varve\.yaml:\d+:\d+: os: lowerdir: .*\/gone: no such directory/);
  assert.match(ran.err, /view: not mounted: it stands on os/);
  assert.match(ran.err, /alone is up at/);
  assert.equal(states()['alone'], 'up');
  const checked = run('stack', 'check');
  assert.equal(checked.code, 3);
  assert.match(checked.out, /os: lowerdir: .*gone/);
  assert.match(checked.out, /broken: lowerdir: .*nowhere/);
  assert.equal(run('down', '--all').code, 0);
});

test('two calls of up at once mount a stack once', { skip }, async (t) => {
  const { env, at, folder, run } = place(t);
  const calls = Array.from({ length: 4 }, async () => {
    const child = spawn(process.execPath, [MAIN, 'up', 'view', '--json'], {
      cwd: folder,
      env,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let out = '';
    child.stdout.setEncoding('utf8').on('data', (text) => (out += text));
    await once(child, 'close');
    return JSON.parse(out) as { name: string; outcome: string }[];
  });
  const outcomes = (await Promise.all(calls)).flat();
  for (const name of ['os', 'view']) {
    const mine = outcomes.filter((outcome) => outcome.name === name).map(({ outcome }) => outcome);
    assert.deepEqual(mine.sort(), ['mounted', 'unchanged', 'unchanged', 'unchanged'], name);
  }
  assert.equal(readFileSync(at('m/view/a'), 'utf8'), 'top');
  assert.equal(run('down', '--all').code, 0);
  assert.equal(mountAt(at('m/view')), undefined);
});

test('something else at the mount point is left alone', {
  skip: requires({ root: true, features: ['fuse'] }),
}, (t) => {
  const { at, run } = place(t);
  mkdirSync(at('m/os'));
  const said = privately(
    `mount -t tmpfs other ${at('m/os')}
     cd ${at('.')}; for verb in "up os" "down os" "stack ls"; do node ${MAIN} $verb 2>&1 || echo $?; done; umount ${at('m/os')}`,
    { env: { VARVE_RUNTIME_DIR: at('run') } },
  );
  assert.match(
    said,
    /os: .*\/m\/os: other \(tmpfs\) is mounted there: unmount that, or take another mount point\n5\n/,
  );
  assert.match(said, /it is none of varve's: use umount\(8\)\n5\n/);
  assert.match(said, /^os +occupied/m);
  assert.equal(run('stack', 'ls').code, 0);
});

suite('which file', () => {
  const named = (name: string): string => `stacks: {${name}: {layers: [x]}}\n`;

  test('--file, then $VARVE_FILE, then here and above, then the own one', (t) => {
    const { env, folder, at } = cliPlace(t);
    mkdirSync(at('a/b/c'), { recursive: true });
    mkdirSync(at('config/varve'), { recursive: true });
    for (const [path, name] of [
      ['flag.yaml', 'flag'],
      ['env.yaml', 'env'],
      ['a/varve.yaml', 'above'],
      ['config/varve/varve.yaml', 'own'],
    ] as const) {
      writeFileSync(at(path), named(name));
    }
    const own = { ...env, XDG_CONFIG_HOME: at('config') };
    const names = (cwd: string, more: NodeJS.ProcessEnv, ...args: string[]): string =>
      runIn(at(cwd), { ...own, ...more }, 'stack', 'ls', '-q', ...args).out.trim();
    const both = { VARVE_FILE: at('env.yaml') };
    assert.equal(names('a/b/c', both, '--file', at('flag.yaml')), 'flag');
    assert.equal(names('a/b/c', both), 'env');
    assert.equal(names('a/b/c', {}), 'above');
    assert.equal(names('.', {}), 'own');
    const none = runIn(folder, { ...env, XDG_CONFIG_HOME: at('none') }, 'stack', 'ls');
    assert.ok(none.code === 6 || existsSync('/etc/varve/varve.yaml'), none.err);
    assert.equal(runIn(folder, { ...env, VARVE_FILE: at('gone') }, 'stack', 'ls').code, 6);
    assert.equal(runIn(folder, { ...env, VARVE_FILE: '' }, 'stack', 'ls').code, 2);
  });

  test("somebody else's file on the way up is not believed", {
    skip: requires({ root: true }),
  }, (t) => {
    const { env, at } = cliPlace(t);
    mkdirSync(at('below'));
    const path = at('varve.yaml');
    writeFileSync(path, named('theirs'));
    chownSync(path, 1234, 1234);
    const ask = (more: NodeJS.ProcessEnv = {}, ...args: string[]) =>
      runIn(at('below'), { ...env, ...more }, 'stack', 'ls', '-q', ...args);
    const refused = ask();
    assert.equal(refused.code, 4);
    assert.match(
      refused.err,
      /varve\.yaml: it belongs to user 1234: name it with --file if you trust it/,
    );
    assert.equal(ask({}, '--file', path).out, 'theirs\n');
    assert.equal(ask({ SUDO_UID: '1234' }).out, 'theirs\n');
    chownSync(path, 0, 0);
    chmodSync(path, 0o666);
    assert.match(ask().err, /everybody may write to it/);
    chmodSync(path, 0o644);
    assert.equal(ask().out, 'theirs\n');
    // A path is a path whatever lies around.
    chownSync(path, 1234, 1234);
    mkdirSync(at('below/m'));
    const status = runIn(at('below'), env, 'status', 'm');
    assert.match(status.err, /\/below\/m: not a varve mount/);
  });
});

function cliPlace(t: { after(fn: () => void): void }): Cli & { at(path: string): string } {
  const folder = tempDir(t);
  const cli = cliIn(folder);
  return { ...cli, at: (path) => join(folder, path) };
}

/** As Cli.run, from another folder and with another environment. */
function runIn(
  cwd: string,
  env: NodeJS.ProcessEnv,
  ...args: string[]
): { code: number | null; out: string; err: string } {
  const ran = spawnSync(process.execPath, [MAIN, ...args], {
    cwd,
    env,
    encoding: 'utf8',
    timeout: 60_000,
  });
  return { code: ran.status, out: ran.stdout, err: ran.stderr };
}

test('add writes what is said, relative to the file, and set, rename and rm change it', (t) => {
  const { run, at, folder } = cliPlace(t);
  mkdirSync(at('sub'));
  const text = (): string => readFileSync(at('varve.yaml'), 'utf8');
  assert.equal(
    run(
      'stack',
      'add',
      'one',
      '-l',
      'sub/a',
      '-l',
      '/b',
      '-l',
      '${WHERE}/c',
      '-m',
      'sub/../m',
      '-d',
      'the first',
    ).code,
    0,
  );
  assert.equal(
    run(
      'stack',
      'add',
      'two',
      '-b',
      'one',
      '-l',
      'stack:one',
      '-o',
      `lowerdir=x\\:y::d,upperdir=${folder}/u,workdir=w,noatime,timeout=5`,
    ).code,
    0,
  );
  assert.ok(
    text().endsWith(`stacks:
  one:
    description: the first
    layers:
      - sub/a
      - /b
      - \${WHERE}/c
    mount: m
  two:
    base: one
    layers:
      - stack: one
      - x:y
    data:
      - d
    upper: u
    workdir: w
    options:
      noatime: true
      timeout: "5"
`) || process.env['WHERE'] === undefined,
    text(),
  );
});

test('what add, set, rename and rm refuse', (t) => {
  const { run, at } = cliPlace(t);
  const rows: [string[], number, RegExp][] = [
    [['add', 'a', '-l', 'x', '-m', 'm'], 0, /a is in .*varve\.yaml/],
    [
      ['add', 'a', '-l', 'y'],
      5,
      /has it already: change it with `varve stack set`, or say --replace/,
    ],
    [['add', 'a/b', '-l', 'y'], 2, /nothing was written.*"a\/b" is no name/],
    [['add', 'b', '-l', 'y', '-m', 'm'], 2, /nothing was written.*is the mount point of a too/],
    [['add', 'b', '-l', 'y', '-o', 'notime'], 2, /unknown option: notime: did you mean noatime\?/],
    [
      ['add', 'b', '-l', 'y', '-o', 'metacopy=maybe'],
      2,
      /nothing was written.*metacopy: "maybe": must be one of on, off/,
    ],
    [['add', 'b', '-l', 'image:os'], 2, /name it with --store/],
    [['add', 'b', '-b', 'c'], 2, /nothing was written.*base: no stack c/],
    [['set', 'c', '-u', 'u'], 6, /c: no such stack in .*: it has a/],
    [['set', 'a'], 2, /nothing to set/],
    [['set', 'a', '--unset', 'uper'], 2, /--unset=uper: no such key: one of description, /],
    [['set', 'a', '--drop', 'z'], 6, /\/z: is no layer of it/],
    [['set', 'a', '-u', 'u', '-o', 'ro', '--unset', 'mount'], 0, /a is changed/],
    [['set', 'a', '--push', 'p', '--drop', 'x'], 0, /a is changed/],
    [['rename', 'a', 'b'], 0, /a is called b/],
    [['rename', 'a', 'b'], 6, /a: no such stack/],
    [['rm', 'a'], 6, /a: no such stack/],
    [['rm', 'b'], 0, /b: no longer in/],
  ];
  let before = '';
  for (const [args, code, message] of rows) {
    const ran = run('stack', ...args);
    assert.equal(ran.code, code, `${args.join(' ')}: ${ran.err}`);
    assert.match(ran.err, message);
    assert.match(ran.err, /^[^\n]*\n$/);
    const after = readFileSync(at('varve.yaml'), 'utf8');
    if (code !== 0) assert.equal(after, before, args.join(' '));
    before = after;
  }
});

test('show fills everything in; --command is the mount that does the same', { skip }, (t) => {
  const { run, at, json } = place(t);
  const shown = json('stack', 'show', 'plain') as {
    layers: { kind: string; path: string; own: boolean }[];
    standsOn: string[];
    create: boolean;
  };
  assert.deepEqual(
    shown.layers.map(({ path, own }) => [path, own]),
    [
      [at('top'), true],
      [at('m/os'), false],
      [at('extra'), false],
    ],
  );
  assert.deepEqual([shown.standsOn, shown.create], [['os'], true]);
  assert.match(run('stack', 'show', 'os').out, /^os: down\n {2}mount +.*\/m\/os\n/);
  const command = run('stack', 'show', 'os', '--command').out.trim();
  assert.equal(
    command,
    `varve mount -o lowerdir=${at('top')}:${at('base')},upperdir=${at('changes')},workdir=${at('changes.work')} ${at('m/os')}`,
  );
});

test('a printed unit and a line of fstab mount what up would mount', {
  skip: requires({ root: true, features: ['fuse', 'overlayfs'] }),
}, (t) => {
  const { run, at, env } = place(t);
  for (const name of ['m/os', 'changes', 'changes.work']) mkdirSync(at(name));
  const line = run('stack', 'fstab', '-o', 'noauto', 'os');
  assert.equal(line.err, '');
  writeFileSync(at('fstab'), line.out);
  const options = /^Options=(.*)$/m.exec(run('stack', 'unit', 'os').out)?.[1] as string;
  const package_ = installVarve(at('package'));
  mkdirSync(at('sbin'));
  symlinkSync(package_.mountHelper, at('sbin/mount.fuse.varve'));
  const said = privately(
    `mount -t overlay helpers -o lowerdir=${at('sbin')}:/usr/sbin /usr/sbin
     cd ${at('.')}
     for how in "-T fstab ${at('m/os')}" "-t fuse.varve varve ${at('m/os')} -o ${options}"; do
       mount $how; cat m/os/a; echo; node ${MAIN} stack ls | awk '$1 == "os" { print $2 }'
       node ${MAIN} down -q os
     done`,
    { env },
  );
  assert.equal(said, 'top\nup\ntop\nup\n');
});

test('a composefs image of a store, by itself and below a layer', {
  skip: requires({ root: true, features: ['fuse'] }),
}, (t) => {
  const { run, at, states } = place(
    t,
    `stacks:
  image: {layers: [{image: os, store: store}], mount: m/image, mode: follow, create: true}
  over: {layers: [extra, {image: os, store: store}], upper: u, mount: m/over, create: true}
`,
  );
  writeFileSync(at('base/big'), 'x'.repeat(1000));
  for (const args of [
    ['store', 'init', 'store'],
    ['store', 'add', '--store', 'store', '--name', 'os', 'base'],
    ['up', '--all'],
  ]) {
    const ran = run(...args);
    assert.equal(ran.code, 0, ran.err);
  }
  assert.deepEqual(states(), { image: 'up', over: 'up' });
  assert.equal(readFileSync(at('m/image/big'), 'utf8').length, 1000);
  assert.equal(readFileSync(at('m/over/big'), 'utf8').length, 1000);
  assert.equal(readFileSync(at('m/over/c'), 'utf8'), 'extra');
  assert.match(run('stack', 'unit', 'image').out, /^ExecStart=/m);
  assert.equal(run('stack', 'fstab', 'image').code, 2);
  assert.equal(run('down', '--all').code, 0);
});
