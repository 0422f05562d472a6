// `varve wine diff` as a person or a script uses it: prefixes, layers, bases and paths, forms, files, trials, refusals.
// Under test: src/cli/wine-diff*.ts and src/wine/diff, over a library with a stub of Wine; no Wine is needed.

import assert from 'node:assert/strict';
import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createPrefix } from '../../src/wine/library/create.js';
import { tempDir } from '../support/temp.js';
import { installer, type Place, record, shown, withBase } from '../wine/library-place.js';
import { cliIn, type Ran } from './cli.js';

interface Here extends Place {
  readonly prefix: string;
  diff(...args: string[]): Ran;
}

/** A base, a layer `app` that an installer left, and a prefix `p` on both with changes of its own. */
async function here(t: TestContext): Promise<Here> {
  const folder = tempDir(t);
  const place = await withBase(folder);
  const setup = installer(
    place,
    'setup',
    'mkdir "$C/app"; echo program >"$C/app/app.exe"; echo more >>"$C/Program Files/readme.txt"; key App 1.0',
  );
  await record(place, 'app', [setup]);
  const { folder: prefix } = await createPrefix({
    prefix: 'p',
    base: 'default',
    layers: ['app'],
    wine: place.wine.wine,
    env: place.env,
  });
  mkdirSync(join(prefix, 'drive_c/docs'));
  writeFileSync(join(prefix, 'drive_c/docs/letter.txt'), 'Dear\n');
  appendFileSync(
    join(prefix, 'user.reg'),
    '\n[Software\\\\Mine\\\\Options] 1700000000\n"Size"=dword:0000000a\n' +
      '\n[Software\\\\Wine\\\\Drivers\\\\winex\\\\devices\\\\0] 1700000000\n"x"="y"\n',
  );
  const system = readFileSync(join(prefix, 'system.reg'), 'latin1');
  writeFileSync(join(prefix, 'system.reg'), system.replace('"name"="base"', '"name"="mine"'));
  const cli = cliIn(folder);
  cli.env['VARVE_WINE_DIR'] = place.root;
  return { ...place, prefix, diff: (...args) => cli.run('wine', 'diff', ...args) };
}

test('a prefix, a layer, two of them: trees, JSON, lines, noise, exit codes', async (t) => {
  const { diff, prefix } = await here(t);
  const own = diff('p');
  assert.equal(own.err, '');
  assert.equal(
    own.out,
    `Files of prefix p
└── A drive_c/docs/
    └── A letter.txt  5 B
2 changes: 2 added; 5 B in the upper

Registry
├── A HKEY_CURRENT_USER\\Software\\
│   └── A Mine\\
│       └── A Options\\
│           └── A Size  REG_DWORD  0x0000000a (10)
└── HKEY_LOCAL_MACHINE\\Software\\Base\\
    └── M name          REG_SZ     "base" → "mine"
3 keys added; 2 values: 1 added, 1 modified; 6 of noise: --noise lists them
`,
  );
  assert.match(diff('p', '--noise').out, /A devices\\.*\(noise: .*\n.*A 0\\/);
  assert.equal(diff(prefix).out.replace(prefix, 'p'), own.out, 'by its path');
  assert.equal(diff('prefix:p').out, own.out);

  const layer = diff('app', '--name-status');
  assert.equal(layer.err, '');
  assert.equal(
    layer.out,
    [
      'M\tdrive_c/Program Files/readme.txt',
      'A\tdrive_c/app',
      'A\tdrive_c/app/app.exe',
      'A\tHKEY_LOCAL_MACHINE\\Software\\Stub\\',
      'A\tHKEY_LOCAL_MACHINE\\Software\\Stub\\App\\',
      'A\tHKEY_LOCAL_MACHINE\\Software\\Stub\\App\\\tv',
      '',
    ].join('\n'),
  );
  assert.equal(diff('app', '--files', '--name-status').out.split('\n').length, 4);
  assert.match(diff('app', '--patch').out, /^-of the base\n.*\n?\+of the basemore$/m);

  const all = JSON.parse(diff('default', 'p', '--json').out);
  assert.deepEqual(
    [all.version, all.files.stack],
    [1, { lowerdirs: ['base default@1'], upperdir: 'prefix p' }],
  );
  assert.deepEqual(
    all.files.changes.map(
      ({ path, status }: { path: string; status: string }) => `${status} ${path}`,
    ),
    [
      'M drive_c/Program Files/readme.txt',
      'A drive_c/app',
      'A drive_c/app/app.exe',
      'A drive_c/docs',
      'A drive_c/docs/letter.txt',
    ],
  );
  const { values } = all.registry.keys.find(({ path }: { path: string }) => path.endsWith('Base'));
  assert.deepEqual(values, [
    {
      name: 'name',
      status: 'M',
      before: { type: 'REG_SZ', size: 10, text: 'base' },
      after: { type: 'REG_SZ', size: 10, text: 'mine' },
    },
  ]);
  const back = diff('p', 'default@1', '--stat').out;
  assert.match(back, /drive_c\/app\/app.exe .*-8 B/);
  assert.match(back, /Software\\Stub\\App +\| 2 --/);

  assert.equal(diff('default@1', 'base:default', '--exit-code').code, 0, 'nothing differs');
  assert.equal(diff('app', '--exit-code').code, 1);
  const quiet = diff('p', '--quiet');
  assert.deepEqual([quiet.code, quiet.out], [1, '']);
});

test('--html and --reg write files; a layer whose base is gone is told as it stands', async (t) => {
  const { diff, root, folder } = await here(t);
  const wrote = diff('p', '--html', 'p.html', '--reg', 'p.reg');
  assert.equal(wrote.out, '');
  assert.match(wrote.err, /p.reg: .*\n.*p.html: /);
  const page = readFileSync(join(folder, 'p.html'), 'utf8');
  assert.match(page, /id="tab-registry"[^>]*>Registry <b>5<\/b>/);
  const reg = readFileSync(join(folder, 'p.reg')).toString('utf16le');
  assert.match(reg, /\[HKEY_CURRENT_USER\\Software\\Mine\\Options\]\r\n"Size"=dword:0000000a\r\n/);
  assert.doesNotMatch(reg, /winex/, 'without noise');
  assert.match(diff('p', '--registry', '--html', '-').out, /data-tab="registry">/);
  writeFileSync(
    join(root, 'layers/app/layer.json'),
    readFileSync(join(root, 'layers/app/layer.json'), 'utf8').replace('default@1', 'gone@1'),
  );
  const alone = diff('app', '--name-status');
  assert.match(alone.err, /layer app: what it was recorded on is not here: compared with nothing/);
  assert.match(alone.out, /^A\tdrive_c\/Program Files\/readme.txt$/m);
});

test('what a program changes: told and gone, or kept as a layer', async (t) => {
  const place = await here(t);
  const { diff, prefix, wine } = place;
  const program = installer(
    place,
    'program',
    'echo said; echo x >"$C/docs/new.txt"; rm "$C/app/app.exe"; key Trial yes; exit 3',
  );
  const before = await shown(place, prefix);
  const tried = diff('p', '--wine', wine.wine, '--name-status', '--', program);
  assert.equal(tried.out, 'said\n', 'standard output is the program’s');
  assert.equal(tried.code, 3);
  assert.equal(
    tried.err,
    [
      'D\tdrive_c/app/app.exe',
      'A\tdrive_c/docs/new.txt',
      'A\tHKEY_LOCAL_MACHINE\\Software\\Stub\\Trial\\',
      'A\tHKEY_LOCAL_MACHINE\\Software\\Stub\\Trial\\\tv',
      '',
    ].join('\n'),
  );
  assert.equal(await shown(place, prefix), before, 'the prefix is what it was');
  const kept = installer(place, 'kept', 'echo x >"$C/kept.txt"; key Kept yes');
  const done = diff('p', '--wine', wine.wine, '--keep', 'mine', '--files', '--', kept);
  assert.equal(done.code, 0, done.err);
  assert.match(done.err, /A drive_c\/kept.txt/);
  assert.match(done.err, /layer mine: is kept/);
  assert.match(diff('mine', '--registry').out, /A HKEY_LOCAL_MACHINE\\Software\\Stub\\Kept\\/);
  assert.equal(await shown(place, prefix), before);
});

test('what is wrong is told on one line, with what to do', async (t) => {
  const { diff, folder } = await here(t);
  const rows: [code: number, words: RegExp, ...args: string[]][] = [
    [6, /nobody: no prefix, layer or base has that name: `varve wine ls`/, 'nobody'],
    [6, /no-such: no such folder or image/, './no-such'],
    [2, /neither a prefix nor a layer/, folder],
    [2, /base default@1: stands on nothing: name two/, 'default'],
    [2, /too many operands/, 'p', 'app', 'default'],
    [2, /--stat and --json both go to standard output/, 'p', '--json', '--stat'],
    [2, /--reg: tells the registry only: leave --files out/, 'p', '--reg', 'x', '--files'],
    [2, /--patch: tells files only/, 'p', '--patch', '--registry'],
    [2, /--keep: goes with -- PROGRAM only/, 'p', '--keep', 'x'],
    [2, /nothing stands behind --/, 'p', '--'],
    [2, /in one PREFIX/, 'p', 'app', '--', 'x'],
    [6, /prefix app: there is none/, 'app', '--', 'x'],
    [2, /--null: goes with --name-status/, 'p', '-z'],
  ];
  for (const [code, words, ...args] of rows) {
    const ran = diff(...args);
    assert.equal(ran.code, code, `${args.join(' ')}: ${ran.err}`);
    assert.match(ran.err, words);
    assert.equal(ran.err.split('\n').length, 2, ran.err);
    assert.equal(ran.out, '');
  }
});
