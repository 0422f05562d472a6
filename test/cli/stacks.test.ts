// Named stacks from the command line: added, mounted in order, seen by name, changed, unmounted; mistakes and exit codes.
// Under test: src/cli/{up,down,stack*}.ts and the names in status, umount, why, check, reload.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseArguments } from '../../src/cli/args.js';
import { commandNamed } from '../../src/cli/commands.js';
import { exitCodeOf, lineOf } from '../../src/cli/exit-codes.js';
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

/** Whether another mount namespace (of a test beside this one) has a copy of the mount: the upper is in use until it ends. */
const held = (said: string): boolean => said.includes('another mount namespace');

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
  assert.match(down.err, /view is down[^\n]*\nvarve: os is down/);
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
  assert.match(none.err, /varve\.yaml:13:\d+: bare: it has no mount: /);
});

test('layer operations take the name, mounted or not; a commit writes its layer down', {
  skip,
}, (t) => {
  const { run, at, states } = place(t);
  const succeed = (...args: string[]): string => {
    const ran = run(...args);
    assert.equal(ran.code, 0, `${args.join(' ')}: ${ran.err}`);
    return ran.out;
  };
  succeed('up', 'os');
  writeFileSync(at('m/os/new'), 'new');
  assert.equal(succeed('diff', 'os', '--name-status'), 'A\tnew\n');
  assert.match(succeed('commit', 'os', '--into', 'frozen'), /varve\.yaml names the layer now\n$/);
  assert.match(readFileSync(at('varve.yaml'), 'utf8'), /^ {4}layers: \[ frozen, top, base \]$/m);
  assert.equal(states()['os'], 'up');
  if (held(run('down', 'os').err)) return;
  assert.equal(succeed('diff', 'os', '--name-status'), '');
  writeFileSync(at('changes/more'), 'more');
  assert.equal(succeed('diff', 'os', '--name-status'), 'A\tmore\n');
  succeed('discard', 'os', '--yes');
  assert.ok(!existsSync(at('changes/more')));
  succeed('flatten', 'os', '--into', 'flat');
  assert.equal(readFileSync(at('flat/new'), 'utf8'), 'new');
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
  if (held(run('down', 'os').err)) return;
  assert.equal(run('up', 'os').code, 0);
  assert.equal(readFileSync(at('m/os/c'), 'utf8'), 'extra');
  assert.equal(run('stack', 'rm', 'os').code, 5);
  assert.equal(run('down', 'os').code, 0);
  assert.match(run('stack', 'rm', 'os').err, /os: view has it as a layer/);
});

test('one that cannot be mounted keeps only those from it that stand on it', { skip }, (t) => {
  const { run, at, states } = place(
    t,
    `${FILE}  alone: {layers: [base, top], mount: m/alone, create: true}\n  broken: {layers: [nowhere], mount: z}\n`,
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

/** One command in this process, in a folder and with variables. What it prints is not looked at. */
async function attempt(
  folder: string,
  env: Record<string, string>,
  ...args: string[]
): Promise<{ code: number; err: string }> {
  const before = process.cwd();
  const name = `stack ${args[0]}`;
  try {
    process.chdir(folder);
    Object.assign(process.env, env);
    const flags = commandNamed(name)?.flags ?? [];
    const given = parseArguments([...args.slice(1), '--quiet'], flags);
    const { run } = await import(`../../src/cli/stack-${args[0]}.js`);
    return { code: await run(given), err: '' };
  } catch (error) {
    return { code: exitCodeOf(error), err: lineOf(error) };
  } finally {
    for (const key of Object.keys(env)) delete process.env[key];
    process.chdir(before);
  }
}

test('add writes what is said, relative to the file; set changes it', async (t) => {
  const folder = tempDir(t);
  mkdirSync(join(folder, 'sub'));
  const text = (): string => readFileSync(join(folder, 'varve.yaml'), 'utf8');
  const call = async (...args: string[]): Promise<void> => {
    assert.deepEqual(await attempt(folder, { WHERE: '/w' }, ...args), { code: 0, err: '' });
  };
  await call(
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
  );
  await call(
    'add',
    'two',
    '-b',
    'one',
    '-l',
    'stack:one',
    '-o',
    `lowerdir=x\\:y::d,upperdir=${folder}/u,workdir=w,noatime,timeout=5`,
  );
  const first = `# Named stacks of varve: \`varve up NAME\` mounts one, \`varve stack check\` checks this file.
version: 1
stacks:
  one:
    description: the first
    layers:
      - sub/a
      - /b
      - \${WHERE}/c
    mount: m
`;
  const second = `  two:
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
`;
  assert.equal(text(), first + second);
  await call('set', 'one', '--push', 'p', '--drop', '/b', '--unset', 'description', '--create');
  assert.equal(
    text(),
    first
      .replace('    description: the first\n', '')
      .replace('      - sub/a\n      - /b\n', '      - p\n      - sub/a\n')
      .replace('    mount: m\n', '    mount: m\n    create: true\n') + second,
  );
});

test('what add, set, rename and rm refuse, with the file as it was', async (t) => {
  const folder = tempDir(t);
  const rows: [string[], number, RegExp][] = [
    [['add', 'a', '-l', 'x', '-m', 'm'], 0, /^$/],
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
      /metacopy: "maybe": must be one of on, off/,
    ],
    [['add', 'b', '-l', 'image:os'], 2, /name it with --store/],
    [['add', 'b', '-l', ''], 2, /an empty path/],
    [['add', 'b', '-b', 'c'], 2, /nothing was written.*base: no stack c/],
    [['set', 'c', '-u', 'u'], 6, /c: no such stack in .*: it has a/],
    [['set', 'a'], 2, /nothing to set/],
    [['set', 'a', '--unset', 'uper'], 2, /--unset=uper: no such key: one of description, /],
    [['set', 'a', '--drop', 'z'], 6, /\/z: is no layer of it/],
    [['set', 'a', '-u', 'u', '-o', 'ro', '--unset', 'mount'], 0, /^$/],
    [['add', 'b', '-b', 'a', '-l', 'q'], 0, /^$/],
    [['rm', 'a'], 5, /a: b builds on it: remove or change that first/],
    [['rename', 'a', 'b'], 5, /has it already: take another name/],
    [['rename', 'a', 'c'], 0, /^$/],
    [['rename', 'a', 'd'], 6, /a: no such stack/],
    [['rm', 'b', 'c'], 0, /^$/],
  ];
  let before = '';
  for (const [args, code, message] of rows) {
    const said = await attempt(folder, {}, ...args);
    assert.equal(said.code, code, `${args.join(' ')}: ${said.err}`);
    assert.match(said.err, message);
    const after = readFileSync(join(folder, 'varve.yaml'), 'utf8');
    assert.equal(after === before, code !== 0, args.join(' '));
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
       mount $how; cat m/os/a; echo; ${package_.varve} stack ls | awk '$1 == "os" { print $2, $3 } /^os:/'
       ${package_.varve} down -q os
     done`,
    { env },
  );
  assert.equal(said, `top\nup ${at('m/os')}\n`.repeat(2));
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
