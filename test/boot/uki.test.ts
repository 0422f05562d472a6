// `varve boot uki` and the EFI programs below it: sections, signatures, what is refused, and files that are damaged.
// Oracles: objcopy (which takes the sections out, and makes the same image its own way), sbverify. A kernel is stood in for by
// systemd-boot, which is an EFI program too; a true one boots in secure-boot.test.ts.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { readPe, sectionSource, writePe } from '../../src/boot/auth/pe.js';
import { makeUki, type UkiRequest } from '../../src/boot/auth/uki.js';
import { MemorySource } from '../../src/bytes/source.js';
import { MountError } from '../../src/stack/errors.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { makeAuthBuild, makePair, noise } from './auth-build.js';

const skip = requires({ packages: ['binutils', 'openssl', 'sbsigntool', 'systemd-boot-efi'] });
const STUB = '/usr/lib/systemd/boot/efi/linuxx64.efi.stub';
const KERNEL = '/usr/lib/systemd/boot/efi/systemd-bootx64.efi';

function run(program: string, ...args: string[]): string {
  const result = spawnSync(program, args, { encoding: 'utf8' });
  assert.equal(result.status, 0, `${program}: ${result.stderr}`);
  return result.stdout;
}

/** The content of a section, as objcopy takes it out. */
function dumped(file: string, section: string, folder: string): Buffer {
  const out = join(folder, `dumped${section}`);
  run('objcopy', '-O', 'binary', '--dump-section', `${section}=${out}`, file, '/dev/null');
  return readFileSync(out);
}

const sbverify = (file: string, cert: string): boolean =>
  spawnSync('sbverify', ['--cert', cert, file]).status === 0;

const uki = (folder: string, out: string, more: Partial<UkiRequest> = {}) =>
  makeUki({ folder, out, kernel: KERNEL, pin: true, force: false, ...more });

test('sections are what was put in, behind those of the stub, and never overlap', {
  skip,
}, async (t) => {
  const dir = tempDir(t);
  const build = join(dir, 'build');
  const manifest = await makeAuthBuild(build, { verify: 'verity', images: ['a.img', 'b.img'] });
  const out = join(dir, 'linux.efi');
  writeFileSync(join(dir, 'os'), 'ID=test\n');
  writeFileSync(join(dir, 'line'), 'root=LABEL=x\n  quiet\n');
  const made = await uki(build, out, {
    cmdline: `@${join(dir, 'line')}`,
    osRelease: join(dir, 'os'),
  });
  const hashes = manifest.layers.map(({ verity }) => verity?.roothash).join(',');
  assert.equal(made.cmdline, `root=LABEL=x quiet varve.roothash=${hashes}`);
  const wanted: Record<string, Buffer> = {
    '.osrel': Buffer.from('ID=test\n'),
    '.cmdline': Buffer.from(made.cmdline),
    '.initrd': readFileSync(join(build, 'initramfs.img')),
    '.linux': readFileSync(KERNEL),
  };
  for (const [name, bytes] of Object.entries(wanted))
    assert.ok(dumped(out, name, dir).equals(bytes), name);

  const image = readPe(new MemorySource(readFileSync(out)), out);
  const stub = readPe(new MemorySource(readFileSync(STUB)), STUB);
  const names = image.sections.map(({ name }) => name);
  assert.deepEqual(names, [...stub.sections.map(({ name }) => name), ...Object.keys(wanted)]);
  for (const [i, section] of image.sections.entries()) {
    const next = image.sections[i + 1];
    const end = section.virtualAddress + section.virtualSize;
    assert.ok(end <= (next?.virtualAddress ?? image.sizeOfImage), section.name);
    assert.ok(section.offset + section.rawSize <= (next?.offset ?? made.size), section.name);
    if (i >= stub.sections.length) assert.equal(section.virtualAddress % 4096, 0);
  }
  await uki(build, join(dir, 'again.efi'), {
    cmdline: 'root=LABEL=x quiet',
    osRelease: join(dir, 'os'),
  });
  assert.ok(readFileSync(out).equals(readFileSync(join(dir, 'again.efi'))), 'the same bytes');
});

test('reads what objcopy has made, and objdump agrees', { skip }, (t) => {
  const dir = tempDir(t);
  const files = { '.cmdline': Buffer.from('quiet'), '.initrd': noise(70_000) };
  const args: string[] = [];
  for (const [i, [name, bytes]] of Object.entries(files).entries()) {
    const path = join(dir, name);
    writeFileSync(path, bytes);
    args.push(
      '--add-section',
      `${name}=${path}`,
      '--change-section-vma',
      `${name}=0x${(0x30000 + i * 0x10000).toString(16)}`,
    );
  }
  const out = join(dir, 'theirs.efi');
  run('objcopy', ...args, STUB, out);
  const source = new MemorySource(readFileSync(out));
  const image = readPe(source, out);
  for (const [name, bytes] of Object.entries(files)) {
    const section = image.sections.find((one) => one.name === name);
    assert.ok(section !== undefined, name);
    const found = sectionSource(source, section);
    const content = Buffer.alloc(found.size);
    found.read(0, content);
    assert.ok(content.equals(bytes), name);
  }
  const listed = [
    ...run('objdump', '-h', out).matchAll(/^ +\d+ (\S+) +([0-9a-f]+) +([0-9a-f]+)/gm),
  ];
  assert.deepEqual(
    image.sections.map(({ name, virtualSize, virtualAddress }) => [
      name,
      virtualSize,
      virtualAddress,
    ]),
    listed.map(([, name, size, vma]) => [
      name,
      Number.parseInt(size as string, 16),
      Number.parseInt(vma as string, 16),
    ]),
  );
});

test('signed, and the signature is over everything', { skip }, async (t) => {
  const dir = tempDir(t);
  const pair = makePair(dir, 'db', { rsa: true });
  const locked = makePair(dir, 'locked', { rsa: true, passphrase: 'a secret' });
  const build = join(dir, 'build');
  await makeAuthBuild(build, { verify: 'verity' });
  const out = join(dir, 'linux.efi');
  assert.equal((await uki(build, out, { signing: pair, cmdline: 'quiet' })).signed, true);
  assert.ok(sbverify(out, pair.cert));
  assert.ok(!sbverify(out, locked.cert));
  const good = readFileSync(out);
  const image = readPe(new MemorySource(good), out);
  const bad = join(dir, 'bad.efi');
  for (const { name, offset, virtualSize } of image.sections) {
    const bytes = Buffer.from(good);
    const at = offset + (virtualSize >> 1);
    bytes[at] = (bytes[at] as number) ^ 1;
    writeFileSync(bad, bytes);
    assert.ok(!sbverify(bad, pair.cert), `${name} altered`);
  }
  process.env['VARVE_TEST_PASS'] = 'a secret';
  t.after(() => delete process.env['VARVE_TEST_PASS']);
  await uki(build, out, { signing: { ...locked, passin: 'env:VARVE_TEST_PASS' } });
  assert.ok(sbverify(out, locked.cert));
  assert.ok(!readdirSync(dir).some((name) => /\.(new|signed)$/.test(name)), 'nothing is left over');
});

test('root hashes: none for digests, left out on demand, those of signed images by default', {
  skip,
}, async (t) => {
  const dir = tempDir(t);
  const out = join(dir, 'linux.efi');
  const { cert } = makePair(dir, 'boot');
  await makeAuthBuild(join(dir, 'digest'), { verify: 'digest' });
  assert.equal((await uki(join(dir, 'digest'), out, { cmdline: 'a  b' })).cmdline, 'a b');
  const signed = join(dir, 'signed');
  const { layers } = await makeAuthBuild(signed, { verify: 'signature', cert });
  const word = `varve.roothash=${layers[0]?.verity?.roothash}`;
  assert.equal((await uki(signed, out)).cmdline, word);
  // Not empty: the stub would take what the loader says.
  assert.equal((await uki(signed, out, { pin: false })).cmdline, ' ');
});

test('the mini-initramfs as it is installed', { skip }, async (t) => {
  const dir = tempDir(t);
  const build = join(dir, 'build');
  await makeAuthBuild(build, { verify: 'verity' });
  const installed = join(dir, 'installed.img');
  // Zeros behind an archive mean nothing, but it is not the file of the build any more.
  writeFileSync(
    installed,
    Buffer.concat([readFileSync(join(build, 'initramfs.img')), Buffer.alloc(512)]),
  );
  await uki(build, join(dir, 'linux.efi'), { initramfs: installed });
  assert.ok(dumped(join(dir, 'linux.efi'), '.initrd', dir).equals(readFileSync(installed)));
});

test('refused, and the file from before stays', { skip }, async (t) => {
  const dir = tempDir(t);
  const build = join(dir, 'build');
  await makeAuthBuild(build, { verify: 'verity', release: '6.1.0-test' });
  const out = join(dir, 'linux.efi');
  writeFileSync(out, 'before');
  const file = (name: string, bytes: Uint8Array | string): string => {
    writeFileSync(join(dir, name), bytes);
    return join(dir, name);
  };
  const rejects = (more: Partial<UkiRequest>, message: RegExp, folder = build) =>
    assert.rejects(uki(folder, out, more), (error: Error) => {
      assert.match(error.message, message);
      return error instanceof MountError;
    });
  await rejects({ kernel: join(dir, 'none') }, /none: the kernel cannot be read: no such file/);
  await rejects({ kernel: file('text', 'x'.repeat(9000)) }, /text: is no EFI program: .* MZ/);
  const old = Buffer.alloc(9000);
  old.write('MZ');
  await rejects({ kernel: file('old', old) }, /CONFIG_EFI_STUB/);
  await rejects({ stub: join(dir, 'none') }, /stub \(package systemd-boot-efi\) cannot be read/);
  await rejects({ cmdline: 'varve.roothash=x' }, /varve\.roothash= is added here/);
  await rejects({ cmdline: 'ä' }, /printable ASCII/);
  await rejects({ cmdline: 'x'.repeat(2048) }, /Linux takes 2047/);
  await rejects({ cmdline: `@${join(dir, 'none')}` }, /no such file/);
  await rejects({ osRelease: join(dir, 'none') }, /--os-release .*no such file/);
  const arm = Buffer.from(readFileSync(STUB));
  arm.writeUInt16LE(0xaa64, arm.readUInt32LE(0x3c) + 4);
  await rejects({ stub: file('arm', arm) }, /is for another machine/);
  const other = Buffer.from(readFileSync(KERNEL));
  const kernel = Buffer.concat([other, Buffer.alloc(0x4000)]);
  kernel.write('HdrS', 0x202);
  kernel.writeUInt16LE(0x3000, 0x20e);
  kernel.write('6.1.0-other (x@y) #1', 0x3200);
  await rejects(
    { kernel: file('other', kernel) },
    /is Linux 6\.1\.0-other, the modules .* are of 6\.1\.0-test/,
  );

  const next = join(dir, 'next');
  await makeAuthBuild(next, { verify: 'verity', seed: 1 });
  await rejects({ initramfs: join(next, 'initramfs.img') }, /asks for other images/);
  const none = join(dir, 'open');
  await makeAuthBuild(none, { verify: 'none' });
  await rejects({}, /takes \/initoverlayfs\.img unchecked/, none);
  assert.equal(readFileSync(out, 'utf8'), 'before');
  const { cmdline } = await uki(none, out, { force: true });
  assert.equal(cmdline, ' ');
  // What is carried inside is protected with the rest.
  await makeAuthBuild(join(dir, 'embed'), { verify: 'none', embed: true });
  await uki(join(dir, 'embed'), out);

  writeFileSync(join(build, 'initramfs.img'), Buffer.alloc(5000), { flag: 'a' });
  await rejects({}, /initramfs\.img: is not what boot\.json says/);
  assert.ok(!existsSync(`${out}.new`));
});

test('a damaged stub or image is an error of ours, whatever byte it is', { skip }, (t) => {
  const dir = tempDir(t);
  const good = readFileSync(STUB);
  const outcome = (bytes: Uint8Array): string => {
    try {
      const source = new MemorySource(bytes);
      const { sections } = readPe(source, 'stub');
      for (const section of sections) sectionSource(source, section);
      writePe(source, [{ name: '.x', source: new MemorySource(noise(9)) }], 'stub', () => {});
      return 'read';
    } catch (error) {
      assert.ok(error instanceof MountError, `${(error as Error).stack}`);
      return error.message;
    }
  };
  assert.equal(outcome(good), 'read');
  // Header fields one by one, to values that a reader might trust.
  for (let at = 0; at < 0x400; at++) {
    for (const value of [0, 0x7f, 0xff]) {
      const bytes = Buffer.from(good);
      bytes[at] = value;
      outcome(bytes);
    }
  }
  for (let size = 0; size < 0x500; size += 7)
    assert.notEqual(outcome(good.subarray(0, size)), 'read');
  assert.match(outcome(good.subarray(0, 0x11000)), /is cut off: section/);
  const file = join(dir, 'stub');
  writeFileSync(file, good);
  truncateSync(file, 100);
  assert.match(outcome(readFileSync(file)), /is no EFI program/);
});
