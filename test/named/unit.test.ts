// Units of systemd and lines of fstab: whatever a path holds, systemd and mount(8) read back the same.
// Under test: src/named/unit.ts and fstab.ts. systemd's own parser (`systemd --test`, as a plain user, which
// starts nothing) and mount(8) with a helper that only writes down its arguments are the judges.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { fstabLine } from '../../src/named/fstab.js';
import { optionText } from '../../src/named/request.js';
import { type Stack, type StackFile, stackNamed, stacksOf } from '../../src/named/stacks.js';
import { escapeUnitPath, mountUnit, serviceUnit, type Unit } from '../../src/named/unit.js';
import { parseOptions } from '../../src/stack/options.js';
import { privately } from '../clients/private.js';
import { quote } from '../clients/shell.js';
import { campaign } from '../support/campaign.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';

/** A name in a path: what shells, mount(8), systemd and YAML have special meanings for, and more than ASCII. */
const name = fc
  .string({
    unit: fc.constantFrom(...'ab.- ,:;=\\"\'%$#*?!~@{}[]()<>&|`^+_\t', 'é', '層', '😀'),
    minLength: 1,
    maxLength: 8,
  })
  .filter((text) => text !== '.' && text !== '..');
const path = fc.array(name, { minLength: 1, maxLength: 2 }).map((names) => `/${names.join('/')}`);
const drawn = fc.record({
  lowers: fc.array(path, { minLength: 1, maxLength: 3 }),
  upper: path,
  mount: path,
});
type Drawn = typeof drawn extends fc.Arbitrary<infer T> ? T : never;

async function stackOf({
  lowers,
  upper,
  mount,
}: Drawn): Promise<{ stack: Stack; file: StackFile }> {
  const dollars = (text: string): string => text.replace(/\$/g, '$$$$');
  const web = {
    layers: lowers.map(dollars),
    upper: dollars(upper),
    workdir: `${dollars(upper)}.w`,
    mount: dollars(mount),
    description: 'a 100% "odd" one\\',
    options: { noatime: true },
  };
  const file = await stacksOf(
    Buffer.from(JSON.stringify({ stacks: { web } })),
    '/etc/o dd"%/varve.yaml',
    {},
  );
  return { stack: stackNamed(file, 'web'), file };
}

const samples = (seed: number, count: number): Drawn[] =>
  fc.sample(drawn, { seed: campaign('seed', seed), numRuns: campaign('ops', count) });

/** mount(8) has a meaning of its own for it. */
const quotes = ({ lowers, upper }: Drawn): boolean => [...lowers, upper].join().includes('"');

test('names of units are those of systemd-escape', {
  skip: requires({ packages: ['systemd'] }),
}, () => {
  const paths = ['/', '/a', '/a-b/c', '/.a/.b', ...samples(3, 40).map(({ mount }) => mount)].filter(
    (p) => !/\/\.\.?(\/|$)/.test(p),
  );
  const said = spawnSync('systemd-escape', ['--path', '--', ...paths], { encoding: 'utf8' });
  assert.equal(said.status, 0, said.stderr);
  assert.deepEqual(paths.map(escapeUnitPath), said.stdout.trim().split(' '));
});

suite('units', { skip: requires({ packages: ['systemd'], features: ['plain-user'] }) }, () => {
  const SYSTEMD = '/lib/systemd/systemd';

  /** What systemd understood: for each unit its lines `Key: value`. */
  function understood(folder: string, units: readonly Unit[]): Map<string, string[]> {
    for (const old of readdirSync(folder)) rmSync(join(folder, old), { recursive: true });
    const put = (file: string, text: string): void => {
      writeFileSync(join(folder, file), text);
      chmodSync(join(folder, file), 0o644);
    };
    for (const target of [
      'sysinit',
      'basic',
      'shutdown',
      'multi-user',
      'default',
      'local-fs',
      'local-fs-pre',
      'umount',
    ]) {
      put(`${target}.target`, '[Unit]\nDefaultDependencies=no\n');
    }
    for (const { file, text } of units) put(file, text);
    const wants = units.map(({ file }) => `Wants=${file}\n`);
    put('all.target', `[Unit]\nDefaultDependencies=no\n${wants.join('')}`);
    const nobody = ['--reuid=65534', '--regid=65534', '--clear-groups'];
    const said = spawnSync(
      'setpriv',
      [...nobody, SYSTEMD, '--test', '--system', '--unit=all.target', '--no-pager'],
      {
        env: {
          PATH: process.env['PATH'],
          SYSTEMD_UNIT_PATH: folder,
          HOME: '/',
          XDG_RUNTIME_DIR: folder,
        },
        encoding: 'utf8',
        maxBuffer: 1 << 26,
        timeout: 60_000,
      },
    );
    const found = new Map<string, string[]>();
    for (const block of said.stdout.split(/^\t-> Unit /m).slice(1)) {
      const [first = '', ...lines] = block.split('\n');
      found.set(
        first.replace(/:$/, ''),
        lines.map((line) => line.trimStart()),
      );
    }
    assert.ok(found.has('all.target'), said.stdout.slice(0, 2000) + said.stderr);
    return found;
  }

  const value = (lines: readonly string[], key: string): string[] =>
    lines.flatMap((line) => (line.startsWith(`${key}: `) ? [line.slice(key.length + 2)] : []));

  /** A command line as systemd shows it: quoted as for a shell, control characters as in C. */
  function wordsOf(line: string): string[] {
    return (line.match(/"(?:\\.|[^"\\])*"|[^ "]+/g) ?? []).map((word) =>
      word.startsWith('"')
        ? word.slice(1, -1).replace(/\\(.)/g, (_, c) => (c === 't' ? '\t' : c === 'n' ? '\n' : c))
        : word,
    );
  }

  test('mount units: mount point, options and paths are understood as they are', async (t) => {
    const folder = tempDir(t);
    const made = new Map<string, { unit: Unit; stack: Stack; file: StackFile }>();
    for (const sample of samples(1, 60)) {
      const { stack, file } = await stackOf(sample);
      if (quotes(sample)) {
        assert.throws(() => mountUnit(stack, file), /a double quote, or/);
        continue;
      }
      if (/[\s\\]$/.test(sample.mount)) {
        assert.throws(() => mountUnit(stack, file), /cannot stand in a mount unit: say --service/);
        continue;
      }
      const unit = mountUnit(stack, file);
      // systemd takes no longer names of files.
      if (unit.file.length < 255) made.set(unit.file, { unit, stack, file });
    }
    assert.ok(made.size >= 20);
    const found = understood(
      folder,
      [...made.values()].map(({ unit }) => unit),
    );
    for (const [file, { stack, unit, file: stacks }] of made) {
      const lines = found.get(file);
      assert.ok(lines !== undefined, `${file}\n${unit.text}`);
      assert.deepEqual(value(lines, 'Where'), [stack.mount?.path], unit.text);
      assert.deepEqual(value(lines, 'What'), ['varve']);
      assert.deepEqual(
        value(lines, 'Options'),
        [`${optionText(stack, stacks)},nosuid,nodev`],
        unit.text,
      );
      const needed = value(lines, 'RequiresMountsFor').map((line) =>
        line.replace(/ \(origin-[a-z-]+\)$/, ''),
      );
      for (const layer of [
        ...stack.layers.map((l) => (l.kind === 'path' ? l.path : '')),
        stack.upper?.path,
      ]) {
        assert.ok(needed.includes(layer as string), `${layer}\n${unit.text}\n${needed.join('\n')}`);
      }
    }
  });

  test('services: the command is understood as it is', async (t) => {
    const folder = tempDir(t);
    const units = await Promise.all(
      samples(2, 20).map(async ({ mount, ...rest }, i) => {
        const { stack } = await stackOf({ mount, ...rest });
        const file = { path: `${mount}/varve.yaml`, folder: mount, stacks: new Map() };
        return serviceUnit({ ...stack, name: `s${i}` }, file, '/bin/echo', i % 2 === 0);
      }),
    );
    const found = understood(folder, units);
    samples(2, 20).forEach(({ mount }, i) => {
      const lines = found.get(`varve-s${i}.service`);
      assert.ok(lines !== undefined, units[i]?.text);
      const [command] = value(lines, 'Command Line');
      // What $$ stands for is decided when it is run.
      const words = wordsOf(command as string);
      const path = `${mount.replace(/\$/g, '$$$$')}/varve.yaml`;
      assert.deepEqual(words.slice(0, 7), [
        '/bin/echo',
        'up',
        '--quiet',
        '--file',
        path,
        '--',
        `s${i}`,
      ]);
    });
  });

  test('systemd-analyze verify has nothing to say', async (t) => {
    const folder = tempDir(t);
    const { stack, file } = await stackOf({
      lowers: ['/usr'],
      upper: '/srv/a b',
      mount: '/srv/m n',
    });
    for (const unit of [mountUnit(stack, file), serviceUnit(stack, file, '/bin/echo', false)]) {
      writeFileSync(join(folder, unit.file), unit.text);
      const said = spawnSync('systemd-analyze', ['verify', '--man=no', join(folder, unit.file)], {
        encoding: 'utf8',
      });
      assert.deepEqual([said.status, said.stdout, said.stderr], [0, '', '']);
    }
  });
});

test('fstab: mount(8) hands the helper what the stack is', {
  skip: requires({ root: true, features: ['overlayfs'] }),
}, async (t) => {
  const folder = tempDir(t);
  const helpers = join(folder, 'sbin');
  const table = join(folder, 'fstab');
  const heard = join(folder, 'heard');
  mkdirSync(helpers);
  mkdirSync(heard);
  // The place of each line's answer is the mount point's number, which the helper reads from a file.
  writeFileSync(
    join(helpers, 'mount.fuse.varve'),
    `#!/bin/sh\nprintf '%s\\0' "$@" >${heard}/$(cat ${folder}/number)\n`,
  );
  chmodSync(join(helpers, 'mount.fuse.varve'), 0o755);
  const made: { stack: Stack; file: StackFile; mount: string }[] = [];
  for (const sample of samples(4, 60)) {
    const { stack, file } = await stackOf(sample);
    if (quotes(sample)) {
      assert.throws(() => fstabLine(stack, file, []), /a double quote, or/);
      continue;
    }
    made.push({ stack, file, mount: sample.mount });
  }
  const script = made.map(
    ({ stack, file, mount }, i) =>
      `printf '%s\\n' ${quote(fstabLine(stack, file, ['noauto', 'nofail']))} >${table}; echo ${i} >${folder}/number
       mount -T ${table} -- ${quote(mount)} || echo failed ${i}`,
  );
  const said = privately(
    `mount -t overlay helpers -o lowerdir=${helpers}:/usr/sbin /usr/sbin\ncd ${folder}\n${script.join('\n')}`,
  );
  assert.equal(said, '');
  assert.ok(made.length >= 20);
  made.forEach(({ stack, file, mount }, i) => {
    const words = readFileSync(join(heard, String(i)), 'utf8').split('\0');
    const options = words[words.indexOf('-o') + 1] as string;
    assert.deepEqual(words.slice(0, 2), ['varve', mount]);
    const { nosuid: _, nodev: _n, ...got } = parseOptions([options], { defaults: '', fstab: true });
    const {
      nosuid: _s,
      nodev: _d,
      ...wanted
    } = parseOptions([optionText(stack, file)], { defaults: '' });
    assert.deepEqual(got, wanted, fstabLine(stack, file, []));
    // What follows the layers is still told apart from them.
    assert.match(options, /(^|,)nosuid(,|$)/);
  });
});
