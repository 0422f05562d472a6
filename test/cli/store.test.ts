// `varve store`: what each command prints, its JSON, and the lines and exit codes of what goes wrong.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { verityDigest } from '../../src/store/verity.js';
import { noise, writeFiles } from '../store/stores.js';
import { tempDir } from '../support/temp.js';
import { type Cli, cliIn, MAIN } from './cli.js';

/** A folder with a store and a source. */
function started(t: Parameters<typeof tempDir>[0]): Cli & { ok(...args: string[]): string } {
  const cli = cliIn(tempDir(t));
  cli.env['VARVE_STORE'] = join(cli.folder, 'store');
  writeFiles(join(cli.folder, 'src'), {
    'bin/tool': noise(1, 9000),
    'bin/copy': noise(1, 9000),
    note: 'short',
  });
  const ok = (...args: string[]): string => {
    const ran = cli.run('store', ...args);
    assert.equal(ran.code, 0, `${args.join(' ')}: ${ran.err}`);
    return ran.out;
  };
  return { ...cli, ok };
}

test('from an empty store to an empty store', (t) => {
  const cli = started(t);
  assert.deepEqual(JSON.parse(cli.ok('init', '--json')), {
    store: join(cli.folder, 'store'),
    made: true,
  });
  assert.match(cli.run('store', 'init').err, /is a store already\n$/);
  const added = JSON.parse(cli.ok('add', 'src', '--name', 'os/one', '--json'));
  assert.equal(added.known, false);
  assert.deepEqual(
    [added.files, added.bytes, added.inlineFiles, added.newObjects, added.newBytes],
    [3, 18005, 1, 1, 9000],
  );
  const again = cli.run('store', 'add', 'src', '--format-version=1', '--threads=2');
  assert.match(again.out, /^[0-9a-f]{64}\n$/);
  assert.match(again.err, /0 new objects, 0 B; no name: the next gc takes it away/);
  const other = again.out.trim();
  assert.notEqual(other, added.digest);

  const listed = JSON.parse(cli.ok('ls', '--json'));
  assert.deepEqual(
    listed.images.map(({ digest, names }: { digest: string; names: string[] }) => [digest, names]),
    [
      [added.digest, ['os/one']],
      [other, []],
    ].sort(),
  );
  assert.match(cli.ok('ls'), /^NAME +IMAGE +METADATA +ADDED\n- +[0-9a-f]{12} /);
  assert.match(cli.ok('ls', '--digests'), new RegExp(`^os/one +${added.digest} `, 'm'));
  const shown = JSON.parse(cli.ok('show', 'os/one', '--json'));
  assert.deepEqual(
    [shown.digest, shown.files, shown.objects, shown.bytes, shown.fileBytes],
    [added.digest, 3, 1, 9000, 18000],
  );
  const object = verityDigest(noise(1, 9000)).toString('hex');
  assert.equal(
    cli.ok('show', added.digest.slice(0, 10), '--objects'),
    `${object} 9000 /bin/copy\n${object} 9000 /bin/tool\n`,
  );
  const used = JSON.parse(cli.ok('du', '--json'));
  assert.deepEqual(
    used.images.map((i: { sharedBytes: number; ownBytes: number }) => [i.sharedBytes, i.ownBytes]),
    [
      [9000, 0],
      [9000, 0],
    ],
  );
  assert.match(cli.ok('du', '-b'), /^0 +9000 +9000 +\d+ +[0-9a-f]{12} +os\/one$/m);
  assert.match(cli.ok('check'), /: whole: 3 objects, .*, 2 images, 1 name\n$/);

  assert.match(cli.ok('gc', '-n'), /^image [0-9a-f]{12}: would be removed\n1 object would be /);
  assert.match(cli.ok('gc'), /1 object removed, .*; 2 objects kept\n$/);
  cli.ok('rm', 'os/one');
  assert.equal(JSON.parse(cli.ok('gc', '--json')).objects, 2);
  assert.equal(cli.ok('ls'), '');
  assert.match(cli.ok('du'), /^in all 0 objects/);
});

test('dumps, archives and standard input', (t) => {
  const cli = started(t);
  cli.ok('init');
  const digest = cli.ok('add', 'src', '-q').trim();
  const path = join(cli.folder, 'store/objects', digest.slice(0, 2), digest.slice(2));
  const dump = cli.run('image', 'dump', path);
  assert.equal(dump.code, 0, dump.err);
  writeFileSync(join(cli.folder, 'dump'), dump.out);
  assert.equal(cli.ok('add', 'dump').trim(), digest, 'a dump gives the image back');
  execFileSync('tar', ['-cf', join(cli.folder, 'a.tar'), '-C', join(cli.folder, 'src'), '.']);
  const tar = JSON.parse(cli.ok('add', 'a.tar', '--json'));
  assert.equal(tar.newObjects, 0);
  const piped = spawnSync(process.execPath, [MAIN, 'store', 'add', '-q', '-'], {
    cwd: cli.folder,
    env: cli.env,
    input: gzipSync(readFileSync(join(cli.folder, 'a.tar'))),
    encoding: 'utf8',
  });
  assert.deepEqual([piped.stdout.trim(), piped.stderr], [tar.digest, '']);
});

test('faults are named, one a line and one an entry', (t) => {
  const cli = started(t);
  cli.ok('init');
  cli.ok('add', 'src', '--name', 'x');
  const object = verityDigest(noise(1, 9000)).toString('hex');
  const place = `objects/${object.slice(0, 2)}/${object.slice(2)}`;
  const path = join(cli.folder, 'store', place);
  const bytes = readFileSync(path);
  bytes[8999] = (bytes[8999] as number) ^ 0x80;
  writeFileSync(path, bytes);
  const flipped = cli.run('store', 'check');
  assert.equal(flipped.code, 3);
  assert.match(flipped.out, new RegExp(`^content: ${place}: its bytes are not those`));
  assert.equal(cli.run('store', 'check', '--links').code, 0, 'content is not read');
  assert.deepEqual(cli.run('store', 'check', '-q'), { code: 3, out: '', err: '' });
  unlinkSync(path);
  const missing = cli.run('store', 'check', '--json');
  assert.equal(missing.code, 3);
  const report = JSON.parse(missing.out);
  assert.deepEqual([report.ok, report.found], [false, 1]);
  assert.equal(report.faults[0].kind, 'missing');
});

test('what goes wrong is one line with its exit code', (t) => {
  const cli = started(t);
  const fails = (code: number, message: RegExp, ...args: string[]): void => {
    const ran = cli.run('store', ...args);
    assert.equal(ran.code, code, `${args.join(' ')}: ${ran.err}`);
    assert.match(ran.err, message, args.join(' '));
    assert.equal(ran.err.split('\n').length, 2, ran.err);
    assert.equal(ran.out, '');
  };
  fails(3, /store: no store: make one by `varve store init/, 'ls');
  fails(3, /src: has (bin|note) and is no store/, 'init', 'src');
  cli.ok('init');
  fails(3, /none: no such file or directory/, 'add', 'none');
  fails(3, /note is no tar or cpio archive/, 'add', 'src/note');
  fails(2, /"..\/x": cannot name an image/, 'add', 'src', '--name', '../x');
  fails(2, /--threads=0: must be a number from 1/, 'add', 'src', '--threads=0');
  fails(2, /--format-version=2: must be 0 or 1/, 'add', 'src', '--format-version=2');
  fails(2, /name one store/, 'ls', 'store', '--store', 'other');
  fails(6, /none: no image of .*store: see `varve store ls/, 'show', 'none');
  fails(6, /none: no name of an image/, 'rm', 'none');
  fails(2, /something is missing/, 'add');
  writeFileSync(
    join(cli.folder, 'dump'),
    `/ 4096 40755 2 0 0 0 0.0 - - -\n/f 9 100644 1 0 0 0 0.0 ab/${'cd'.repeat(31)} - -\n`,
  );
  fails(3, /"\/f": its object .*store\/objects\/ab\/.* is missing/, 'add', 'dump');
  writeFileSync(
    join(cli.folder, 'dump'),
    `/ 4096 40755 2 0 0 0 0.0 - - -\n/f 9 100644 1 0 0 0 0.0 - - ${'cd'.repeat(32)}\n`,
  );
  fails(3, /"\/f": has 9 bytes, and nothing says which object they are/, 'add', 'dump');
  writeFileSync(join(cli.folder, 'dump'), '/ 4096 40755 2 0 0 0 0.0 - - -\n/f 9 1006\n');
  fails(3, /dump line 2: /, 'add', 'dump');
  assert.equal(cli.ok('ls'), '', 'nothing of this is an image');
  fails(3, /\/proc\/none: no such file or directory/, 'init', '/proc/none');
  cli.ok('add', 'src', '--name', 'os/a', '--quiet');
  fails(2, /os: is the folder of os\/a: take another name/, 'add', 'src', '--name', 'os');
  fails(2, /os\/a\/b: os\/a names an image/, 'add', 'src', '--name', 'os/a/b');
  fails(6, /none: no name of an image/, 'rm', 'os/a', 'none');
  cli.ok('rm', 'os/a', 'os/a');
});

test('the digest is that of mkcomposefs', (t) => {
  const cli = started(t);
  cli.ok('init');
  const flags = ['--owner=0', '--group=0', '--mtime=@1700000000', '--mode=u=rwX,go=rX'];
  execFileSync('tar', [
    ...flags,
    '-cf',
    join(cli.folder, 'a.tar'),
    '-C',
    join(cli.folder, 'src'),
    '.',
  ]);
  // Of mkcomposefs 1.0.8 --print-digest-only, for the archive unpacked by root.
  const theirs = '10171845883d43784d671037a8d956a715d3282b3c7d57769ec8f492314542a5';
  assert.equal(cli.ok('add', 'a.tar', '-q').trim(), theirs);
});
