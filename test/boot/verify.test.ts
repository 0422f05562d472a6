// `varve boot verify`: a build that is right, and everything that can be wrong with one, found and named.
// Each row alters one thing; what is found must be just that, and the command's exit code must say so.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Check } from '../../src/boot/auth/checks.js';
import { readPe } from '../../src/boot/auth/pe.js';
import { signBoot } from '../../src/boot/auth/sign.js';
import { makeUki } from '../../src/boot/auth/uki.js';
import { type VerifyRequest, verifyBoot } from '../../src/boot/auth/verify.js';
import { installBuild } from '../../src/boot/install/install.js';
import { readSettings } from '../../src/boot/install/settings.js';
import { MemorySource } from '../../src/bytes/source.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { makeAuthBuild, makePair } from './auth-build.js';

const skip = requires({ packages: ['openssl', 'sbsigntool', 'systemd-boot-efi'] });
const KERNEL = '/usr/lib/systemd/boot/efi/systemd-bootx64.efi';
const LAUNCHER = fileURLToPath(new URL('../../../bin/varve.js', import.meta.url));

const failures = (checks: readonly Check[]): string[] =>
  checks
    .filter(({ state }) => state === 'failed')
    .map(({ subject, check, detail }) => `${subject}: ${check}: ${detail}`);

/** Flips a bit of a file. */
function flip(path: string, at: number): void {
  const bytes = readFileSync(path);
  bytes[at] = (bytes[at] as number) ^ 0x04;
  writeFileSync(path, bytes);
}

async function expectRight(request: VerifyRequest, least: number): Promise<readonly Check[]> {
  const { ok, checks } = await verifyBoot(request);
  assert.deepEqual(failures(checks), []);
  assert.equal(ok, true);
  assert.ok(
    checks.filter(({ state }) => state === 'ok').length >= least,
    JSON.stringify(checks, null, 1),
  );
  return checks;
}

for (const verify of ['none', 'digest', 'verity'] as const) {
  for (const embed of [false, true]) {
    test(`${verify}${embed ? ', embedded' : ''}: right as built, and not with a bit of an image flipped`, async (t) => {
      const out = join(tempDir(t), 'out');
      const manifest = await makeAuthBuild(out, { verify, embed, images: ['a.img', 'b.img'] });
      await expectRight({ folder: out }, 8);
      const file = join(out, embed ? 'initramfs.img' : 'b.img');
      // Of an embedded image: its last block but one before the end of the archive.
      flip(file, embed ? manifest.initramfs.size - 3 * 4096 : 150 * 4096);
      const { ok, checks } = await verifyBoot({ folder: out });
      assert.equal(ok, false);
      const found = failures(checks).join('\n');
      assert.match(found, /: size and digest: SHA-256 is [0-9a-f]{64}, must be/);
      assert.match(found, /b\.img: digest: SHA-256 is/);
      if (verify === 'verity')
        assert.match(found, /b\.img: hash tree: (?:data block|hash tree: block)/);
      assert.doesNotMatch(found, /a\.img/);
    });
  }
}

test('signed: every region of every file that is altered is found', { skip }, async (t) => {
  const dir = tempDir(t);
  const pair = makePair(dir, 'boot');
  const [good, out] = [join(dir, 'good'), join(dir, 'out')];
  const { layers } = await makeAuthBuild(good, { verify: 'signature', cert: pair.cert });
  await signBoot({ folder: good, ...pair, force: false });
  await expectRight({ folder: good }, 10);
  const tree = layers[0]?.verity?.hashOffset as number;
  const sizeOf = (name: string): number => readFileSync(join(good, name)).length;
  const image = 'initoverlayfs.img';
  const spread = (name: string, count: number): [string, number][] =>
    Array.from({ length: count }, (_, i) => [name, Math.floor(((i + 0.5) * sizeOf(name)) / count)]);
  const rows: [name: string, at: number][] = [
    [image, 0],
    [image, tree - 1],
    // Superblock: its signature, its UUID, its salt, and the zeros behind.
    ...[0, 20, 90, 3000].map((at): [string, number] => [image, tree + at]),
    [image, sizeOf(image) - 1],
    ...spread('initramfs.img', 6),
    ...spread('initoverlayfs.conf', 8),
    ...spread(`${image}.verity`, 8),
    ...spread(`${image}.verity.p7s`, 16),
  ];
  for (const [name, at] of rows) {
    rmSync(out, { recursive: true, force: true });
    cpSync(good, out, { recursive: true });
    flip(join(out, name), at);
    const { ok, checks } = await verifyBoot({ folder: out });
    assert.equal(ok, false, `${name} altered at byte ${at}`);
    assert.ok(
      failures(checks).some((line) => line.includes(name)),
      failures(checks).join('\n'),
    );
  }
});

test('boot.json: whatever is altered that anything goes by is found', async (t) => {
  const out = join(tempDir(t), 'out');
  const { layers } = await makeAuthBuild(out, { verify: 'verity' });
  const path = join(out, 'boot.json');
  const good = readFileSync(path, 'utf8');
  const [layer] = layers;
  const rows: [string | RegExp, string, RegExp][] = [
    ['"embedded": false', '"embedded": true', /is embedded: true, but boots from LABEL=boot/],
    ['"file": "initoverlayfs.img"', '"fale": "initoverlayfs.img"', /names a file undefined/],
    ['"file": "initoverlayfs.img"', '"file": "../initoverlayfs.img"', /names a file "\.\./],
    [/"sha256": "[^"]*"/, '"sha256": "00"', /initramfs\.img: size and digest/],
    [/("sha256": "[^"]*".*)"sha256": "[^"]*"/s, '$1"sha256": "00"', /size or digest is another/],
    [
      /(?<="layers": .*)"size": \d+/s,
      '"size": 7',
      /size or digest is another|is not what boot\.json/,
    ],
    [/"timeout": 30/, '"timeout": 31', /initoverlayfs\.conf: as boot\.json says/],
    [/"roothash": "[^"]*"(?=.*"roothash")/s, '"roothash": "00"', /hash tree is another/],
    [
      new RegExp(`"hashOffset": ${layer?.verity?.hashOffset}(?!.*hashOffset)`, 's'),
      '"hashOffset": 4096',
      /hash tree is another/,
    ],
  ];
  for (const [from, to, message] of rows) {
    const text = good.replace(from, to);
    assert.notEqual(text, good, `${from}`);
    writeFileSync(path, text);
    const { ok, checks } = await verifyBoot({ folder: out });
    assert.equal(ok, false, to);
    assert.match(failures(checks).join('\n'), message, `${from}`);
  }
  writeFileSync(path, good.slice(0, 400));
  await assert.rejects(verifyBoot({ folder: out }), /boot\.json: is no JSON/);
});

test('signed: a signature of another key or image, none, and files that are missing or cut off', {
  skip,
}, async (t) => {
  const dir = tempDir(t);
  const [pair, other] = [makePair(dir, 'one'), makePair(dir, 'two')];
  const [good, out] = [join(dir, 'good'), join(dir, 'out')];
  await makeAuthBuild(good, { verify: 'signature', cert: pair.cert });
  await signBoot({ folder: good, ...pair, force: false });
  await makeAuthBuild(join(dir, 'other'), { verify: 'signature', cert: pair.cert, seed: 1 });
  await signBoot({ folder: join(dir, 'other'), ...pair, force: false });
  const image = join(out, 'initoverlayfs.img');
  const rows: [string, () => unknown, RegExp][] = [
    [
      'another key',
      () => signBoot({ folder: out, ...other, force: true }),
      /signature: .*was not made with the key/,
    ],
    ['no signature', () => rmSync(`${image}.verity.p7s`), /verity\.p7s: signature: /],
    [
      'no root hash',
      () => rmSync(`${image}.verity`),
      /verity: root hash to be signed: no such file/,
    ],
    ['no image', () => rmSync(image), /initoverlayfs\.img: image is there: no such file/],
    ['no mini', () => rmSync(join(out, 'initramfs.img')), /is a mini-initramfs: no such file/],
    [
      'no configuration',
      () => rmSync(join(out, 'initoverlayfs.conf')),
      /initoverlayfs\.conf: as boot\.json says/,
    ],
    [
      'cut off',
      () => truncateSync(image, 4096 * 201),
      /initoverlayfs\.img: size: is 823296 bytes, must be/,
    ],
    [
      'the root hash and signature of another image',
      () => {
        for (const end of ['', '.p7s'])
          cpSync(join(dir, 'other', `initoverlayfs.img.verity${end}`), `${image}.verity${end}`);
      },
      /hash tree: superblock of the hash tree: byte \d+ is not what/,
    ],
  ];
  for (const [name, alter, message] of rows) {
    rmSync(out, { recursive: true, force: true });
    cpSync(good, out, { recursive: true });
    await alter();
    const { ok, checks } = await verifyBoot({ folder: out });
    assert.equal(ok, false, name);
    assert.match(failures(checks).join('\n'), message, name);
  }
});

test('a unified kernel image: right beside its files and alone, and every section that is altered is found', {
  skip,
}, async (t) => {
  const dir = tempDir(t);
  const [db, other] = [makePair(dir, 'db', { rsa: true }), makePair(dir, 'two', { rsa: true })];
  const out = join(dir, 'out');
  await makeAuthBuild(out, { verify: 'verity' });
  const uki = join(dir, 'linux.efi');
  await makeUki({
    folder: out,
    kernel: KERNEL,
    out: uki,
    cmdline: 'quiet',
    pin: true,
    force: false,
    signing: db,
  });
  await expectRight({ folder: out, uki, kernel: KERNEL, cert: db.cert }, 14);
  const alone = await expectRight({ uki }, 3);
  assert.deepEqual(
    alone.filter(({ state }) => state === 'skipped').map(({ detail }) => detail),
    ['name the certificate by --cert', 'name the folder where it is: OUTDIR or --boot DIR'],
  );

  const good = readFileSync(uki);
  const bad = join(dir, 'bad.efi');
  const image = readPe(new MemorySource(good), uki);
  for (const { name, offset, virtualSize } of image.sections) {
    writeFileSync(bad, good);
    flip(bad, offset + (virtualSize >> 1));
    const { checks } = await verifyBoot({ folder: out, uki: bad, kernel: KERNEL, cert: db.cert });
    const found = failures(checks).join('\n');
    assert.match(found, /signature for Secure Boot: is not signed with the key/, name);
    if (name === '.linux' || name === '.initrd') assert.ok(found.includes(`${name} and `), found);
  }
  // Whoever alters the command line and cannot sign leaves a signature that does not fit; without --cert the hash tells.
  const line = image.sections.find(({ name }) => name === '.cmdline');
  writeFileSync(bad, good);
  flip(bad, (line?.offset ?? 0) + (line?.virtualSize ?? 0) - 1);
  const rows: [VerifyRequest, RegExp][] = [
    [{ folder: out, uki: bad }, /root hashes on the command line: image 1 must have/],
    [{ uki, cert: other.cert }, /signature for Secure Boot: is not signed with the key/],
    [{ uki: KERNEL }, /is a unified kernel image: has no section \.linux/],
    [{ uki, kernel: bad }, /\.linux and .*bad\.efi are not the same/],
    [{ uki: join(dir, 'none') }, /no such file/],
  ];
  for (const [request, message] of rows) {
    const { ok, checks } = await verifyBoot(request);
    assert.equal(ok, false);
    assert.match(failures(checks).join('\n'), message);
  }
  truncateSync(bad, good.length - 100_000);
  assert.match(failures((await verifyBoot({ uki: bad })).checks).join('\n'), /is cut off/);
});

test('installed: a boot filesystem and a system, and what its kernel was started with', {
  skip,
}, async (t) => {
  const root = tempDir(t);
  const boot = join(root, 'boot');
  const file = (path: string, content: string | Uint8Array): void => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
  };
  mkdirSync(boot);
  const nothing = await verifyBoot({ root });
  assert.equal(nothing.ok, true);
  assert.match(
    nothing.checks.map(({ detail }) => detail).join('\n'),
    /has installed nothing there/,
  );
  const out = join(root, 'out');
  const release = '6.1.0-test';
  const { layers } = await makeAuthBuild(out, {
    verify: 'verity',
    images: ['a.img', 'b.img'],
    release,
  });
  await installBuild({
    outdir: out,
    boot,
    root,
    settings: readSettings(root),
    keepFull: false,
    force: true,
  });
  const hashes = layers.map(({ verity }) => verity?.roothash).join(',');
  const secureBoot = 'sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c';
  file('proc/sys/kernel/osrelease', `${release}\n`);
  // Of several the last one counts, as for storage-init.
  file('proc/cmdline', `quiet varve.roothash=${'0'.repeat(64)} varve.roothash=${hashes}\n`);
  file(secureBoot, Buffer.of(6, 0, 0, 0, 1));
  const checks = await expectRight({ root }, 11);
  assert.ok(
    checks.some(
      ({ check, state }) => check === 'root hashes on the command line' && state === 'ok',
    ),
  );
  assert.ok(checks.some(({ check, detail }) => check === 'Secure Boot' && detail === 'is on'));

  file('proc/cmdline', `varve.roothash=${hashes.slice(0, 64)},${'0'.repeat(64)}\n`);
  const started = await verifyBoot({ root });
  assert.match(
    failures(started.checks).join('\n'),
    /proc\/cmdline: root hashes .* image 2 must have 0{64}/,
  );
  file('proc/cmdline', 'quiet\n');
  file(secureBoot, Buffer.of(6, 0, 0, 0, 0));
  const off = await verifyBoot({ root });
  assert.equal(off.ok, true);
  assert.match(JSON.stringify(off.checks), /is off: nobody has checked/);

  const record = JSON.parse(readFileSync(join(boot, `varve/${release}.installed.json`), 'utf8'));
  for (const { path } of [record.now.initramfs, ...record.now.images]) {
    const bytes = readFileSync(join(boot, path));
    flip(join(boot, path), 700);
    const { ok, checks: found } = await verifyBoot({ boot });
    assert.equal(ok, false, path);
    assert.ok(
      failures(found).some((line) => line.includes(path)),
      path,
    );
    writeFileSync(join(boot, path), bytes);
  }
});

test('the command: lines, JSON, only what is wrong, and its exit code', async (t) => {
  const out = join(tempDir(t), 'out');
  await makeAuthBuild(out, { verify: 'verity' });
  const run = (...args: string[]) =>
    spawnSync(process.execPath, [LAUNCHER, 'boot', 'verify', ...args], { encoding: 'utf8' });
  const right = run(out);
  assert.equal(right.status, 0, right.stderr);
  assert.match(right.stdout, /^ok {2}.*initoverlayfs\.img +hash tree +200 blocks under root hash/m);
  assert.match(right.stdout, /\n\d+ checks: \d+ ok, 0 failed, 0 skipped\n$/);
  assert.equal(run(out, '-q').stdout, '');
  flip(join(out, 'initoverlayfs.img'), 4096);
  const wrong = run(out, '-q');
  assert.equal(wrong.status, 3);
  assert.equal(wrong.stdout.trim().split('\n').length, 3);
  assert.match(wrong.stdout, /^FAILED {2}.*hash tree +data block 1 \(byte 4096\) does not match/m);
  const json = run(out, '--json');
  assert.equal(json.status, 3);
  const report = JSON.parse(json.stdout);
  assert.equal(report.ok, false);
  assert.equal(report.version, 1);
  assert.deepEqual(Object.keys(report.checks[0]), ['state', 'subject', 'check', 'detail']);
  const absent = run(join(out, 'none'));
  assert.equal(absent.status, 6);
  assert.match(absent.stderr, /boot\.json: no such file/);
});
