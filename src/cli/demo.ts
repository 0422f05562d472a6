// `varve demo`: two layers, an upper, changes on the mount, who owns what, and proof that the layers are untouched.
// Run by main.ts; every step runs the real command line as a child and shows it. Leaves nothing behind.
// A user who may not mount is moved into a user namespace by unshare(1).

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mountAt } from '../linux/mountinfo.js';
import { MountError } from '../stack/errors.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';

/** Set in the user namespace, so that a failure there is not answered by another namespace. */
const INSIDE = 'VARVE_DEMO_INSIDE';

export function run(given: Arguments): number {
  const folder = mkdtempSync(join(tmpdir(), 'varve-demo-'));
  try {
    return runIn(folder, given);
  } finally {
    // Never through a mount that would not go away.
    if (given.has('keep') || mountAt(join(folder, 'union')) !== undefined) say(`\nKept: ${folder}`);
    else rmSync(folder, { recursive: true, force: true });
  }
}

function runIn(folder: string, given: Arguments): number {
  const union = join(folder, 'union');
  try {
    makeLayers(folder);
    const mounted = varve(folder, ...MOUNT);
    if (mounted.status === EXIT.permission) return inNamespace(given, mounted.text);
    if (mounted.status !== EXIT.ok) {
      throw new MountError('server', `demo: ${mounted.text}: \`varve doctor\` may know why`);
    }
    return show(folder, union, mounted.text);
  } finally {
    if (mountAt(union) !== undefined) varve(folder, 'umount', '-l', 'union');
  }
}

const MOUNT = ['mount', '-o', 'lowerdir=patch:base,upperdir=upper,workdir=work', 'union'];

/** Shows the same in a user namespace, whose root may mount. @param refusal why it was not possible here. */
function inNamespace(given: Arguments, refusal: string): number {
  if (process.env[INSIDE] === undefined) {
    const script = process.argv[1] as string;
    const again = spawnSync(
      'unshare',
      ['-Urm', process.execPath, script, 'demo', ...(given.has('keep') ? ['--keep'] : [])],
      {
        stdio: ['ignore', 'inherit', 'pipe'],
        encoding: 'utf8',
        env: { ...process.env, [INSIDE]: '1' },
      },
    );
    if (again.status === EXIT.ok) return EXIT.ok;
  }
  throw new MountError('permission', `demo: ${refusal.replace(/^varve: /, '')}`);
}

function makeLayers(folder: string): void {
  for (const name of ['base/etc', 'base/share', 'patch/etc', 'upper', 'work', 'union']) {
    mkdirSync(join(folder, name), { recursive: true });
  }
  const write = (path: string, text: string): void => writeFileSync(join(folder, path), text);
  write('base/etc/hosts', '127.0.0.1 localhost\n');
  write('base/etc/motd', 'Welcome.\n');
  write('base/share/words', 'stone\nclay\nsilt\n');
  write('patch/etc/motd', 'Welcome to the patched system.\n');
}

/** @param said what the mount command said. */
function show(folder: string, union: string, said: string): number {
  const at = (path: string): string => join(folder, path);

  title('Two layers: a base system and a patch on top of it');
  say(tree(folder, 'base'));
  say(tree(folder, 'patch'));
  const before = [fingerprint(at('base')), fingerprint(at('patch'))];

  title('Stack them under an empty upper');
  command(`varve ${MOUNT.join(' ')}`);
  say(said.replaceAll(`${folder}/`, ''));
  say(tree(folder, 'union'));

  title('Change the union: write, create, delete, rename a directory');
  command('echo "10.0.0.7 quarry" >> union/etc/hosts');
  writeFileSync(join(union, 'etc/hosts'), '10.0.0.7 quarry\n', { flag: 'a' });
  command('echo "mine" > union/notes');
  writeFileSync(join(union, 'notes'), 'mine\n');
  command('rm union/etc/motd');
  rmSync(join(union, 'etc/motd'));
  command('mv union/share union/shared');
  renameSync(join(union, 'share'), join(union, 'shared'));
  say(tree(folder, 'union'));

  title('Who owns what?');
  step(folder, 'why', 'union/etc/hosts', 'union/notes', 'union/shared/words');
  step(folder, 'why', 'union/etc/motd');

  title('What the server did');
  step(folder, 'status', 'union');

  title('All changes lie in the upper; the layers are as they were');
  step(folder, 'umount', 'union');
  say(tree(folder, 'upper'));
  const after = [fingerprint(at('base')), fingerprint(at('patch'))];
  const same = before.join() === after.join();
  say(same ? 'base and patch: every byte unchanged.' : 'base or patch CHANGED: this is a bug.');
  if (!same) return EXIT.failed;
  say('\nThat is all. `varve help mount` has every option; `varve doctor` looks at this machine.');
  return EXIT.ok;
}

const say = (text: string): void => {
  if (text !== '') process.stdout.write(`${text}\n`);
};

const bold = (text: string): string => (process.stdout.isTTY ? `\x1b[1m${text}\x1b[0m` : text);
const dim = (text: string): string => (process.stdout.isTTY ? `\x1b[2m${text}\x1b[0m` : text);

const title = (text: string): void => say(`\n${bold(`# ${text}`)}`);
const command = (text: string): void => say(`${dim('$')} ${text}`);

/** Runs a command of varve in the folder. */
function varve(folder: string, ...args: string[]): { status: number; text: string } {
  const script = process.argv[1] as string;
  const ran = spawnSync(process.execPath, [script, ...args], { cwd: folder, encoding: 'utf8' });
  return { status: ran.status ?? EXIT.failed, text: `${ran.stdout}${ran.stderr}`.trimEnd() };
}

/** Shows and runs a command; one that says how things are may say that something is absent. */
function step(folder: string, ...args: string[]): void {
  command(`varve ${args.join(' ')}`);
  const { status, text } = varve(folder, ...args);
  say(text.replaceAll(`${folder}/`, ''));
  if (status !== EXIT.ok && !(args[0] === 'why' && status === EXIT.absent)) {
    throw new MountError(
      'server',
      `demo: varve ${args[0]} failed with ${status}: \`varve doctor\` may know why`,
    );
  }
}

/** The files below a folder, one a line, with their first line. */
function tree(folder: string, name: string): string {
  const lines: string[] = [];
  const walk = (path: string): void => {
    for (const entry of readdirSync(join(folder, path)).sort()) {
      const inner = join(path, entry);
      const stat = lstatSync(join(folder, inner));
      if (stat.isDirectory()) {
        if (readdirSync(join(folder, inner)).length === 0) lines.push(`  ${inner}/`);
        walk(inner);
      } else if (stat.isFile()) {
        const text = readFileSync(join(folder, inner), 'utf8').trimEnd().split('\n').join(' | ');
        lines.push(`  ${inner.padEnd(20)} ${dim(text)}`);
      } else {
        lines.push(`  ${inner.padEnd(20)} ${dim('whiteout')}`);
      }
    }
  };
  walk(name);
  return lines.join('\n');
}

/** Names, modes, times and content of a folder as one hash. */
function fingerprint(folder: string): string {
  const hash = createHash('sha256');
  const walk = (path: string): void => {
    const stat = lstatSync(path);
    hash.update(`${path} ${stat.mode} ${stat.mtimeMs}\n`);
    if (stat.isDirectory()) for (const entry of readdirSync(path).sort()) walk(join(path, entry));
    else hash.update(readFileSync(path));
  };
  walk(folder);
  return hash.digest('hex');
}
