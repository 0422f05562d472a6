// Changes of varve.yaml: comments, order and form of all that is not concerned stay; files, owners, locks, killed writers.
// Under test: src/named/edit.ts and write.ts.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import fc from 'fast-check';
import { parse } from 'yaml';
import { type Draft, editStacks } from '../../src/named/edit.js';
import { readStacks, stackNamed } from '../../src/named/stacks.js';
import { changeStacks, pathsOfLayers, updateStack } from '../../src/named/write.js';
import { MAIN } from '../cli/cli.js';
import { campaign } from '../support/campaign.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';

const FILE = `# a header

version:   1    # of the format


x-flags:  &flags   {noatime: true,   timeout: 5}

stacks:
    # about web
    web:
        layers:             # topmost first
            # the newest
            - "new"         # in quotes
            - 'old'

        upper:   changes    # aligned
        options: *flags
    # about api
    api:  { base: web,   layers: [x,y] }   # flow


# the end
`;

suite('the text', () => {
  const rows: [string, (draft: Draft) => void, [string, string][]][] = [
    ['nothing', () => {}, []],
    [
      'a key that is there',
      (d) => d.set('web', 'upper', 'other'),
      [['        upper:   changes    # aligned', '        upper: other # aligned']],
    ],
    [
      'a key that is not there',
      (d) => d.set('web', 'mount', '/srv'),
      [['        options: *flags\n', '        options: *flags\n        mount: /srv\n']],
    ],
    [
      'a layer on top: the comment stays with the layer that it is about',
      (d) => d.setList('web', 'layers', ['newest', 0, 1]),
      [['            # the newest\n', '            - newest\n            # the newest\n']],
    ],
    [
      'a layer in the place of another one keeps its comment',
      (d) => d.setList('web', 'layers', [0, 'older']),
      [["            - 'old'\n", '            - older\n']],
    ],
    [
      'a layer out of a list on one line',
      (d) => d.setList('api', 'layers', [1]),
      [
        [
          '    api:  { base: web,   layers: [x,y] }   # flow',
          '    api: { base: web, layers: [ y ] } # flow',
        ],
      ],
    ],
    [
      'an option behind an alias: the others keep theirs',
      (d) => d.setOption('web', 'ro', true),
      [['        options: *flags\n', '        options: { noatime: true, timeout: 5, ro: true }\n']],
    ],
    [
      'another name, also where it is the base',
      (d) => d.rename('web', 'shop'),
      // The lines between the two are written anew.
      [],
    ],
    ['a stack away', (d) => d.remove('api'), []],
  ];
  for (const [what, edit, replaced] of rows) {
    test(what, async () => {
      const result = await editStacks(FILE, edit);
      const expected = replaced.reduce((text, [from, to]) => {
        assert.ok(text.includes(from), from);
        return text.replace(from, to);
      }, FILE);
      if (replaced.length > 0 || what === 'nothing') assert.equal(result, expected);
      // The rest of the file stands as it did.
      assert.ok(result.startsWith(FILE.slice(0, FILE.indexOf('    web:'))));
      assert.ok(result.endsWith('# the end\n'));
    });
  }

  test('a rename reaches bases and layers', async () => {
    const result = parse(await editStacks(FILE, (d) => d.rename('web', 'shop')), { merge: true });
    assert.deepEqual(Object.keys(result.stacks), ['shop', 'api']);
    assert.equal(result.stacks.api.base, 'shop');
  });

  test('what is merged is written out where it changes', async () => {
    const text = 'x-a: &a\n  layers: [l]\n  create: true\nstacks:\n  one:\n    <<: *a\n  two: *a\n';
    const one = parse(await editStacks(text, (d) => d.setList('one', 'layers', ['m', 0])), {
      merge: true,
    });
    assert.deepEqual(one.stacks.one, { layers: ['m', 'l'], create: true });
    assert.deepEqual(one.stacks.two, { layers: ['l'], create: true });
    const two = parse(await editStacks(text, (d) => d.set('two', 'create', false)), {
      merge: true,
    });
    assert.deepEqual(two.stacks.two, { layers: ['l'], create: false });
    assert.deepEqual(two.stacks.one, { layers: ['l'], create: true });
  });

  test('CRLF, a byte order mark and a missing last line end stay', async () => {
    const text = `\uFEFF${FILE.replace(/\n/g, '\r\n').trimEnd()}`;
    const result = await editStacks(text, (d) => d.set('web', 'mount', '/srv'));
    assert.equal(
      result,
      text.replace(
        '        options: *flags\r\n',
        '        options: *flags\r\n        mount: /srv\r\n',
      ),
    );
  });

  for (const text of [
    '',
    '# only this\n',
    'version: 1\n',
    'stacks:\n',
    'stacks: {}\n',
    'stacks: {} # none\n',
  ]) {
    test(`the first stack of ${JSON.stringify(text)}`, async () => {
      const result = await editStacks(text, (d) => d.put('a', { layers: ['x'] }));
      assert.deepEqual(parse(result).stacks, { a: { layers: ['x'] } });
      for (const comment of text.match(/#.*/g) ?? []) assert.ok(result.includes(comment), result);
    });
  }

  test('any change of any file says what was meant, and loses no comment', async () => {
    const name = fc.constantFrom('a', 'b', 'c');
    const space = fc.constantFrom('', ' ', '   ');
    const comment = fc.constantFrom('', ' # one', '  # two: three');
    const layer = fc.constantFrom('x', '"y z"', "'it''s'", '{ stack: a }', './d');
    const block = fc
      .tuple(fc.array(fc.tuple(layer, comment), { maxLength: 3 }), space, comment, fc.boolean())
      .map(([layers, s, c, flow]) =>
        flow
          ? ` {layers:${s} [${layers.map(([text]) => text).join(`,${s}`)}]}${c}\n`
          : `${c}\n    upper: ${s}u${c}\n    layers:${layers.length === 0 ? ' []' : ''}${c}\n${layers.map(([text, d]) => `    - ${text}${d}\n`).join('')}${s === '' ? '\n\n' : ''}`,
      );
    const file = fc.tuple(fc.dictionary(name, block, { minKeys: 1 }), comment).map(
      ([stacks, c]) =>
        `${c.trim()}\nstacks:\n${Object.entries(stacks)
          .map(([n, text]) => `  ${n}:${text}`)
          .join('')}`,
    );
    const change = fc.tuple(name, fc.constantFrom('put', 'mount', 'push', 'option'));
    await fc.assert(
      fc.asyncProperty(file, change, async (text, [stack, kind]) => {
        const before = parse(text);
        fc.pre(kind === 'put' || before.stacks[stack] !== undefined);
        const layers = (before.stacks[stack]?.layers ?? []) as unknown[];
        const result = await editStacks(text, (d) => {
          if (kind === 'put') d.put('new', { layers: ['n'] });
          else if (kind === 'mount') d.set(stack, 'mount', 'm # n');
          else if (kind === 'push') d.setList(stack, 'layers', ['top', ...layers.keys()]);
          else d.setOption(stack, 'ro', true);
        });
        const expected = structuredClone(before);
        if (kind === 'put') expected.stacks.new = { layers: ['n'] };
        else if (kind === 'mount') expected.stacks[stack].mount = 'm # n';
        else if (kind === 'push') expected.stacks[stack].layers = ['top', ...layers];
        else expected.stacks[stack].options = { ro: true };
        assert.deepEqual(parse(result), expected, result);
        const comments = (t: string): number => (t.match(/#/g) ?? []).length;
        assert.equal(comments(result), comments(text) + (kind === 'mount' ? 1 : 0), result);
      }),
      { numRuns: campaign('ops', 300), seed: campaign('seed', 1) },
    );
  });
});

suite('updateStack()', () => {
  const text =
    'stacks:\n  base:\n    layers: [os]   # the system\n  web:\n    base: base\n    layers:\n    - a # first\n    - ~/b\n    upper: u\n    mount: m\n';
  const env = (folder: string): NodeJS.ProcessEnv => ({ HOME: folder });

  test('a new layer, another one in a place, an upper; paths relative to the file', async (t) => {
    const folder = tempDir(t);
    const path = join(folder, 'varve.yaml');
    writeFileSync(path, text);
    const { stacks } = await readStacks(path, env(folder));
    const lowers = pathsOfLayers(stacks.get('web')!);
    await updateStack(
      path,
      'web',
      { lowers: [join(folder, 'layers/1'), ...lowers], upper: '/elsewhere/~$' },
      env(folder),
    );
    await updateStack(path, 'base', { lowers: [join(folder, 'os-2')] }, env(folder));
    assert.equal(
      readFileSync(path, 'utf8'),
      text
        .replace('[os]   #', '[ os-2 ] #')
        .replace('    - a # first', '    - layers/1\n    - a # first')
        .replace('upper: u', () => 'upper: /elsewhere/~$$'),
    );
    const after = await readStacks(path, env(folder));
    assert.equal(stackNamed(after, 'web').upper?.path, '/elsewhere/~$');
    assert.deepEqual(pathsOfLayers(stackNamed(after, 'web')).slice(0, 2), [
      join(folder, 'layers/1'),
      join(folder, 'a'),
    ]);
  });

  test('the layers of a base are not changed for one that builds on it', async (t) => {
    const folder = tempDir(t);
    const path = join(folder, 'varve.yaml');
    writeFileSync(path, text);
    await assert.rejects(
      updateStack(path, 'web', { lowers: ['/x', '/y'] }, env(folder)),
      /the layers of base, on which it builds, would change/,
    );
    assert.equal(readFileSync(path, 'utf8'), text);
  });

  test('symlinked layers are recognised by what a mount calls them', async (t) => {
    const folder = tempDir(t);
    const path = join(folder, 'varve.yaml');
    mkdirSync(join(folder, 'real'));
    symlinkSync('real', join(folder, 'a'));
    writeFileSync(path, text);
    await updateStack(
      path,
      'web',
      { lowers: [join(folder, 'n'), join(folder, 'real'), join(folder, 'b'), join(folder, 'os')] },
      env(folder),
    );
    assert.equal(
      readFileSync(path, 'utf8'),
      text.replace('    - a # first', '    - n\n    - a # first'),
    );
  });
});

suite('the file', () => {
  const put =
    (name: string) =>
    (draft: Draft): void =>
      draft.put(name, { layers: ['x'] });

  test('mode, owner and symlink stay', { skip: requires({ root: true }) }, async (t) => {
    const folder = tempDir(t);
    const real = join(folder, 'dotfiles/stacks.yaml');
    mkdirSync(join(folder, 'dotfiles'));
    writeFileSync(real, 'stacks: {}\n');
    chmodSync(real, 0o640);
    chownSync(real, 1234, 4321);
    symlinkSync('dotfiles/stacks.yaml', join(folder, 'varve.yaml'));
    await changeStacks(join(folder, 'varve.yaml'), process.env, put('a'));
    assert.equal(readlinkSync(join(folder, 'varve.yaml')), 'dotfiles/stacks.yaml');
    const { mode, uid, gid } = statSync(real);
    assert.deepEqual([mode & 0o7777, uid, gid], [0o640, 1234, 4321]);
    assert.deepEqual(readdirSync(join(folder, 'dotfiles')), ['stacks.yaml']);
    // A symlink to what is not there yet is followed as well.
    symlinkSync('dotfiles/new.yaml', join(folder, 'other.yaml'));
    await changeStacks(join(folder, 'other.yaml'), process.env, put('a'));
    assert.ok(lstatSync(join(folder, 'other.yaml')).isSymbolicLink());
    assert.deepEqual(parse(readFileSync(join(folder, 'dotfiles/new.yaml'), 'utf8')).stacks, {
      a: { layers: ['x'] },
    });
  });

  test('a change that would be wrong is not written, nor is one of a wrong file', async (t) => {
    const path = join(tempDir(t), 'varve.yaml');
    const text = 'stacks: {a: {layers: [x], mount: m}}\n';
    writeFileSync(path, text);
    await assert.rejects(
      changeStacks(path, process.env, (d) => d.put('b', { layers: ['y'], mount: 'm' })),
      /nothing was written, for it would be wrong: .*varve\.yaml:\d+:\d+: mount: .*is the mount point of a too/,
    );
    assert.equal(readFileSync(path, 'utf8'), text);
    writeFileSync(path, 'stacks: [\n');
    await assert.rejects(changeStacks(path, process.env, put('b')), /varve\.yaml:\d+:\d+: /);
    assert.equal(readFileSync(path, 'utf8'), 'stacks: [\n');
  });

  test('writers wait for each other: no change is lost', async (t) => {
    const path = join(tempDir(t), 'varve.yaml');
    writeFileSync(path, '# kept\n');
    await Promise.all(
      Array.from({ length: 20 }, (_, i) => changeStacks(path, process.env, put(`s${i}`))),
    );
    const text = readFileSync(path, 'utf8');
    assert.equal(Object.keys(parse(text).stacks).length, 20);
    assert.ok(text.startsWith('# kept\n'));
  });

  test('a killed writer leaves the old file or the new one, and no lock', async (t) => {
    const folder = tempDir(t);
    const path = join(folder, 'varve.yaml');
    const rounds = campaign('rounds', 12);
    writeFileSync(path, 'stacks:\n  s:\n    layers: [l0]\n');
    let last = 0;
    for (let round = 1; round <= rounds; round++) {
      const child = spawn(
        process.execPath,
        [MAIN, 'stack', 'set', 's', '-l', `l${round}`, '--file', path],
        { stdio: 'ignore', cwd: folder },
      );
      const ended = once(child, 'exit');
      // The change happens towards the end of some 0.4 s; by chance on either side of it.
      await setTimeout(200 + ((round * 97) % 300));
      child.kill('SIGKILL');
      await ended;
      const [layer] = parse(readFileSync(path, 'utf8')).stacks.s.layers as string[];
      assert.ok(layer === `l${round}` || layer === `l${last}`, `${layer} after ${round}`);
      last = Number(layer?.slice(1));
    }
    await changeStacks(path, process.env, put('done'));
    assert.deepEqual(readdirSync(folder), ['varve.yaml']);
  });
});
