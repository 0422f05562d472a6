// `varve boot sign`: what is written, what is refused, and that a root hash never has the signature of another.
// Oracle: openssl, with the very arguments of share/boot/storage-init.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { signBoot } from '../../src/boot/auth/sign.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { makeAuthBuild, makePair, type Pair } from './auth-build.js';

const skip = requires({ packages: ['openssl', 'strace'] });

/** Where storage-init and its parts are. */
const SHARE = new URL('../../../share/boot/', import.meta.url);

/** As storage-init calls it. @returns whether the signature is right. */
function opensslTakes(image: string, cert: string): boolean {
  const files = readdirSync(SHARE, { withFileTypes: true }).filter((entry) => entry.isFile());
  const script = files.map(({ name }) => readFileSync(new URL(name, SHARE), 'utf8')).join('\n');
  const [, args = ''] = /openssl (smime -verify .*?-out \/dev\/null)/s.exec(script) ?? [];
  const words = args
    .replace(/\\\n/g, ' ')
    .split(/\s+/)
    .filter(Boolean)
    .map((word) => {
      if (word === '/varve/signature') return `${image}.verity.p7s`;
      if (word === '/varve/signed') return `${image}.verity`;
      return word === '/etc/varve/boot.crt' ? cert : word;
    });
  assert.ok(words.includes(cert), 'the call in storage-init was found');
  return spawnSync('openssl', words).status === 0;
}

const sign = (folder: string, pair: Pair, more: { passin?: string; force?: boolean } = {}) =>
  signBoot({ folder, ...pair, force: false, ...more });

test('every image gets its root hash and a signature that the mini-initramfs takes', {
  skip,
}, async (t) => {
  const dir = tempDir(t);
  const [pair, other] = [makePair(dir, 'one'), makePair(dir, 'two')];
  const out = join(dir, 'out');
  const images = ['base.img', 'site.img'];
  const manifest = await makeAuthBuild(out, { verify: 'signature', images, cert: pair.cert });
  const before = new Set(readdirSync(out));
  const result = await sign(out, pair);
  assert.deepEqual(
    readdirSync(out).filter((name) => !before.has(name)),
    ['base.img.verity.p7s', 'site.img.verity.p7s'],
  );
  assert.deepEqual(
    result.layers.map(({ roothash }) => roothash),
    manifest.layers.map(({ verity }) => verity?.roothash),
  );
  for (const name of images) {
    const image = join(out, name);
    assert.ok(opensslTakes(image, pair.cert));
    assert.ok(!opensslTakes(image, other.cert), 'another certificate');
    writeFileSync(
      `${image}.verity`,
      readFileSync(`${image}.verity`, 'utf8').replace(/size \d/, 'size 9'),
    );
    assert.ok(!opensslTakes(image, pair.cert), 'what is signed was altered');
  }
});

test('two certificates in the mini-initramfs: a key is changed without a break', {
  skip,
}, async (t) => {
  const dir = tempDir(t);
  const [old, next] = [makePair(dir, 'old'), makePair(dir, 'next')];
  const both = join(dir, 'both.crt');
  writeFileSync(both, readFileSync(old.cert, 'utf8') + readFileSync(next.cert, 'utf8'));
  const out = join(dir, 'out');
  await makeAuthBuild(out, { verify: 'signature', cert: both });
  for (const pair of [old, next]) {
    await sign(out, pair);
    assert.ok(opensslTakes(join(out, 'initoverlayfs.img'), both));
  }
});

test('an expired certificate signs, is told of, and is taken at boot', { skip }, async (t) => {
  const dir = tempDir(t);
  const expired = makePair(dir, 'expired', { days: -1 });
  const out = join(dir, 'out');
  await makeAuthBuild(out, { verify: 'signature', cert: expired.cert });
  const remarks: string[] = [];
  await signBoot({ folder: out, ...expired, force: false, onRemark: (text) => remarks.push(text) });
  assert.equal(remarks.length, 1);
  assert.match(remarks[0] as string, /expired\.crt: the certificate has expired/);
  assert.ok(opensslTakes(join(out, 'initoverlayfs.img'), expired.cert));
});

test('keys with a passphrase, and of RSA', { skip }, async (t) => {
  const dir = tempDir(t);
  const locked = makePair(dir, 'locked', { passphrase: 'secret' });
  const rsa = makePair(dir, 'rsa', { rsa: true });
  const out = join(dir, 'out');
  await makeAuthBuild(out, { verify: 'signature', cert: locked.cert });
  await assert.rejects(
    sign(out, locked),
    /locked\.key: has a passphrase: say where it is by --passin/,
  );
  await assert.rejects(sign(out, locked, { passin: 'pass:wrong' }), /the passphrase is another/);
  await assert.rejects(sign(out, locked, { passin: 'secret' }), (error: Error) => {
    assert.match(error.message, /--passin: must be pass:TEXT/);
    return !error.message.includes('secret');
  });
  writeFileSync(join(dir, 'pass'), 'secret\nmore\n');
  await sign(out, locked, { passin: `file:${join(dir, 'pass')}` });
  assert.ok(opensslTakes(join(out, 'initoverlayfs.img'), locked.cert));
  await sign(out, rsa, { force: true });
  assert.ok(opensslTakes(join(out, 'initoverlayfs.img'), rsa.cert));
});

test('refused, and nothing is written', { skip }, async (t) => {
  const dir = tempDir(t);
  const [pair, other] = [makePair(dir, 'one'), makePair(dir, 'two')];
  const out = join(dir, 'out');
  await makeAuthBuild(out, { verify: 'signature', images: ['a.img', 'b.img'], cert: pair.cert });
  const before = readdirSync(out);
  await assert.rejects(
    sign(out, { key: other.key, cert: pair.cert }),
    /two\.key: is not the key of the certificate .*one\.crt/,
  );
  await assert.rejects(sign(out, other), /initramfs\.img: trusts another certificate/);
  await assert.rejects(sign(out, { key: pair.cert, cert: pair.cert }), /is no private key/);
  await assert.rejects(sign(out, { key: pair.key, cert: pair.key }), /is no certificate/);
  await assert.rejects(sign(out, { key: join(dir, 'none'), cert: pair.cert }), /no such file/);
  // The second image is damaged: the first gets no signature either.
  const image = join(out, 'b.img');
  const bytes = readFileSync(image);
  bytes[5000] = (bytes[5000] as number) ^ 1;
  writeFileSync(image, bytes);
  await assert.rejects(sign(out, pair), /b\.img: data block 1 .*does not match/);
  assert.deepEqual(readdirSync(out), before);

  await makeAuthBuild(join(dir, 'digest'), { verify: 'digest' });
  await assert.rejects(sign(join(dir, 'digest'), pair), /has no hash tree .*--verify signature/);
  await makeAuthBuild(join(dir, 'embed'), { verify: 'verity', embed: true });
  await assert.rejects(sign(join(dir, 'embed'), pair), /sign all of it with varve boot uki/);
});

test('what is killed while it signs again leaves no root hash with the signature of another', {
  skip,
}, async (t) => {
  const dir = tempDir(t);
  const pair = makePair(dir, 'one');
  const out = join(dir, 'out');
  await makeAuthBuild(out, { verify: 'signature', cert: pair.cert });
  await sign(out, pair);
  const image = join(out, 'initoverlayfs.img');
  const first = readFileSync(`${image}.verity`);
  // The next build of the same folder, whose .verity is not written yet: the old pair is there in full.
  await makeAuthBuild(join(dir, 'next'), { verify: 'signature', cert: pair.cert, seed: 1 });
  for (const name of ['initoverlayfs.img', 'initramfs.img', 'boot.json'])
    writeFileSync(join(out, name), readFileSync(join(dir, 'next', name)));
  const trace = join(dir, 'trace');
  const program = `import('${new URL('../../src/boot/auth/sign.js', import.meta.url).href}')
    .then(({ signBoot }) => signBoot(${JSON.stringify({ folder: out, ...pair, force: false })}))`;
  const ran = spawnSync(
    'strace',
    [
      '-f',
      '-qq',
      '-e',
      'trace=rename,renameat,renameat2,unlink,unlinkat',
      '-o',
      trace,
      process.execPath,
      '-e',
      program,
    ],
    { encoding: 'utf8', timeout: 60_000 },
  );
  assert.equal(ran.status, 0, ran.stderr);
  const steps = readFileSync(trace, 'utf8')
    .split('\n')
    .filter((line) => line.includes(out) && line.endsWith('= 0'))
    .map((line) =>
      line.replace(/^.*?(rename|unlink)\w*\((.*)\).*$/, '$1 $2').replaceAll(`${image}.`, ''),
    );
  const order = steps.filter((step) => !step.includes('unlink "verity.new"'));
  assert.deepEqual(order, [
    'unlink "verity.p7s"',
    'rename "verity.new", "verity"',
    'rename "verity.p7s.new", "verity.p7s"',
  ]);
  assert.ok(!readFileSync(`${image}.verity`).equals(first));
  assert.ok(opensslTakes(image, pair.cert));
});
