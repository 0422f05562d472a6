// `varve detach --lower` as it is typed: its words, its JSON, what it refuses, and the file that names the stack.

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { requires } from '../support/requires.js';
import { makeTempDir, removeTempDir } from '../support/temp.js';
import { type Cli, cliIn } from './cli.js';

const skip = requires({ root: true, features: ['fuse', 'resend'] });

function place(t: { after(fn: () => void): void }): Cli {
  const folder = makeTempDir();
  t.after(() => removeTempDir(folder));
  for (const name of ['one', 'two', 'base', 'up', 'mnt']) mkdirSync(join(folder, name));
  mkdirSync(join(folder, 'work'));
  writeFileSync(join(folder, 'one/a'), 'of one');
  writeFileSync(join(folder, 'two/b'), 'of two');
  writeFileSync(join(folder, 'base/c'), 'of base');
  return cliIn(folder);
}

function done(cli: Cli, ...args: string[]): string {
  const ran = cli.run(...args);
  assert.equal(ran.code, 0, ran.err);
  return ran.out;
}

test('a lower goes by its path, and what to mount next time is told', { skip }, (t) => {
  const cli = place(t);
  const options = 'lowerdir=one:two:base,upperdir=up,workdir=work';
  done(cli, 'mount', '--backend=fuse', '-o', options, 'mnt');
  try {
    assert.equal(cli.run('detach', 'mnt', '--cancel').code, 2);
    const absent = cli.run('detach', 'mnt', '--lower', '4');
    assert.equal(absent.code, 6);
    assert.match(absent.err, /4: not a lower of .*1: .*one, 2: .*two, 3: .*base/);
    assert.equal(cli.run('detach', 'mnt', '--lower', '1', '--cancel').code, 6);
    const text = done(cli, 'detach', 'mnt', '--lower', 'two');
    assert.match(text, /two: detached from .*mnt: 1 object copied, 6 B/);
    assert.match(text, /next time: -o lowerdir=\S+one:\S+base,upperdir=\S+up,workdir=\S+work$/m);
    rmSync(join(cli.folder, 'two'), { recursive: true });
    assert.equal(readFileSync(join(cli.folder, 'mnt/b'), 'latin1'), 'of two');
    const json = JSON.parse(done(cli, 'detach', 'mnt', '--lower', '1', '--json')) as {
      lowerdirs: string[];
      copied: number;
    };
    assert.deepEqual(json.lowerdirs, [join(cli.folder, 'base')]);
    assert.equal(json.copied, 1);
    const last = done(cli, 'detach', 'mnt', '--lower', '1');
    assert.match(last, /nothing is left below the upper: \S+up holds all of it/);
    assert.equal(readFileSync(join(cli.folder, 'up/c'), 'latin1'), 'of base');
  } finally {
    done(cli, 'umount', 'mnt');
  }
});

test('a named stack says the same afterwards', { skip }, (t) => {
  const cli = place(t);
  const file = join(cli.folder, 'varve.yaml');
  writeFileSync(
    file,
    'stacks:\n  low:\n    layers: [base]\n  app:\n    base: low\n    layers: [one, two]\n    upper: up\n    mount: mnt\n',
  );
  done(cli, 'up', 'app');
  try {
    const inherited = cli.run('detach', 'app', '--lower', '3');
    assert.equal(inherited.code, 2);
    assert.match(inherited.err, /is a layer of low, on which it builds/);
    assert.match(done(cli, 'detach', 'app', '--lower', '1'), /varve\.yaml names it no more/);
    assert.match(readFileSync(file, 'utf8'), /layers: \[ *two *\]/);
  } finally {
    done(cli, 'down', 'app');
  }
  rmSync(join(cli.folder, 'one'), { recursive: true });
  done(cli, 'up', 'app');
  try {
    for (const [name, text] of [
      ['a', 'of one'],
      ['b', 'of two'],
      ['c', 'of base'],
    ] as const) {
      assert.equal(readFileSync(join(cli.folder, 'mnt', name), 'latin1'), text);
    }
  } finally {
    done(cli, 'down', 'app');
  }
});
