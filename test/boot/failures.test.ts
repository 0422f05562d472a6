// What cannot be used is not used: each kind of damage ends in what is configured, with its message on the console, before the payload runs;
// damage that dm-verity finds later stops the machine at the first read.
// Each row is a real boot in QEMU with Debian's kernel.

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import {
  appendFileSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { signBoot } from '../../src/boot/auth/sign.js';
import { writeConfig } from '../../src/boot/config.js';
import { requires } from '../support/requires.js';
import { makeTempDir, removeTempDir } from '../support/temp.js';
import { run } from '../vm/guest-files.js';
import { type Boot, type Built, boot, build, cannotBoot, ext4, patched } from './machine.js';
import { makePayload } from './payload.js';

const packages = ['busybox-static', 'dmsetup', 'e2fsprogs', 'kmod', 'openssl', 'qemu-system-x86'];
const skip = requires({ root: true, packages }) || cannotBoot();

const IMAGE = 'initoverlayfs.img';
/** 5 seconds before it is; most rows are ended here. */
const POWERED_OFF = /varve-boot: \[\S+\] the machine is switched off in 5 s/;
const REALLY_OFF = /reboot: Power down/;
const RESTARTED = /reboot: (?:Restarting system|machine restart)/;
const PAYLOAD = /^payload: arguments=/m;
/** Stored as it is, since nothing compresses it. */
const victim = randomBytes(1 << 20);

interface Row extends Partial<Boot> {
  readonly name: string;
  readonly verify: 'digest' | 'verity' | 'signature';
  /** Of the boot filesystem's files, by their names. */
  readonly damage?: (files: string) => void;
  /** Of the configuration in the mini-initramfs; undefined takes it away. */
  readonly config?: (text: string) => Uint8Array | string | undefined;
  readonly says: RegExp;
  readonly ends: RegExp;
  /** The payload has begun before. */
  readonly late?: boolean;
}

suite('failures', { skip }, () => {
  let folder = '';
  const builds = new Map<string, Built>();
  let complete = '';

  before(async () => {
    folder = makeTempDir();
    const payload = makePayload(join(folder, 'payload'), {
      commands: 'cat /victim >/dev/null && echo "payload: all is read"; poweroff -f',
    });
    writeFileSync(join(payload, 'victim'), victim);
    // What begins like the archives of microcode, as on most machines; 512 bytes are how they are padded.
    mkdirSync(join(folder, 'early/kernel'), { recursive: true });
    const pack = 'cd "$0" && find . | busybox cpio -o -H newc > "$1"';
    const [plain, early] = [join(folder, 'payload.cpio'), join(folder, 'early.cpio')];
    run('sh', ['-c', pack, payload, plain]);
    run('sh', ['-c', pack, join(folder, 'early'), early]);
    complete = join(folder, 'complete.img');
    copyFileSync(early, complete);
    appendFileSync(complete, new Uint8Array(512));
    appendFileSync(complete, gzipSync(readFileSync(plain), { level: 1 }));

    const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
    const made = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=boot'];
    run('openssl', [...made, '-keyout', key, '-out', cert]);
    for (const verify of ['digest', 'verity', 'signature'] as const) {
      const built = await build(join(folder, verify), {
        source: { root: payload },
        verify,
        ...(verify === 'signature' && { certificate: cert }),
        fallback: `/complete.img=${complete}`,
      });
      builds.set(verify, built);
    }
    await signBoot({ folder: join(folder, 'signature'), key, cert, force: false });
  });
  after(() => removeTempDir(folder));

  const builtFor = ({ verify }: Pick<Row, 'verify'>): Built => builds.get(verify) as Built;

  /** Boots with the damage. */
  async function bootDamaged(row: Row): Promise<string> {
    const built = builtFor(row);
    const disk = join(folder, 'disk');
    const tree = join(folder, 'files');
    mkdirSync(tree);
    for (const name of [IMAGE, `${IMAGE}.verity`, `${IMAGE}.verity.p7s`]) {
      const source = join(built.folder, name);
      run('sh', ['-c', '[ ! -e "$0" ] || cp "$0" "$1"', source, join(tree, name)]);
    }
    copyFileSync(complete, join(tree, 'complete.img'));
    row.damage?.(tree);
    ext4(disk, tree, 'varve-boot');
    let initramfs = join(built.folder, 'initramfs.img');
    if (row.config !== undefined) {
      const text = row.config(writeConfig(built.manifest.config));
      const bytes = text === undefined ? undefined : Buffer.from(text);
      const path = join(folder, 'patched.img');
      initramfs = patched(built, path, { 'etc/initoverlayfs.conf': bytes });
    }
    const until = row.ends === POWERED_OFF ? POWERED_OFF : undefined;
    return boot({ ...row, initramfs, disks: [disk], until });
  }

  const flip = (path: string, at: number): void => {
    const bytes = readFileSync(path);
    bytes[at] = (bytes[at] as number) ^ 1;
    writeFileSync(path, bytes);
  };
  /** In the last block of the file that the payload reads. */
  const flipVictim = (files: string): void => {
    const path = join(files, IMAGE);
    const at = readFileSync(path).indexOf(victim.subarray(1 << 19, (1 << 19) + 64));
    assert.ok(at > 0);
    flip(path, at);
  };
  const hashOffset = (): number => {
    const { verity } = builtFor({ verify: 'verity' }).manifest.layers[0] ?? {};
    return verity?.hashOffset as number;
  };
  const root = (): string =>
    builtFor({ verify: 'verity' }).manifest.layers[0]?.verity?.roothash as string;
  const another = (hash: string): string => (hash.startsWith('0') ? '1' : '0') + hash.slice(1);

  const rows: Row[] = [
    {
      name: 'nothing is damaged, and the signature is right',
      verify: 'signature',
      says: /varve-boot: \[\S+\] signature of \/boot\/initoverlayfs.img is right/,
      late: true,
      ends: /payload: all is read/,
    },
    {
      name: 'digest: a flipped bit; the complete initramfs takes its place',
      verify: 'digest',
      damage: flipVictim,
      append: 'varve.on-failure=fallback',
      memory: 256,
      says: /FAILED: image has another digest.*falls back to \/boot\/complete.img/s,
      late: true,
      ends: /payload: all is read/,
    },
    {
      name: 'a complete initramfs with another digest is not used',
      verify: 'digest',
      damage: (files) => {
        flipVictim(files);
        flip(join(files, 'complete.img'), 5000);
      },
      append: 'varve.on-failure=fallback',
      says: /no fallback: \/boot\/complete.img has the digest [0-9a-f]{64} instead of/,
      ends: RESTARTED,
    },
    {
      name: 'verity: a flipped bit stops the machine at the first read',
      verify: 'verity',
      damage: flipVictim,
      says: /device-mapper: verity: \S+: data block \d+ is corrupted/,
      late: true,
      ends: /Kernel panic - not syncing: dm-verity device corrupted/,
    },
    {
      name: 'verity: a flipped bit reboots the machine at the first read',
      verify: 'verity',
      damage: flipVictim,
      append: 'varve.on-failure=reboot',
      says: /device-mapper: verity: \S+: data block \d+ is corrupted/,
      late: true,
      ends: RESTARTED,
    },
    {
      name: 'a flipped bit in the tree, in the block that the root hash is of; a shell',
      verify: 'verity',
      damage: (files) => flip(join(files, IMAGE), hashOffset() + 4096 + 40),
      append: 'varve.on-failure=shell',
      typed: { after: /emergency shell/, text: 'echo $((40 + 2)) is typed; exit\n' },
      says: /FAILED: root hash is wrong: \/boot\/initoverlayfs.img: [0-9a-f]{64} instead of/,
      ends: /^42 is typed\n.*reboot: (?:Restarting|machine)/ms,
    },
    {
      name: 'a flipped bit in the lowest level of the tree',
      verify: 'verity',
      // Every leaf: the block that is read first may be of any.
      damage: (files) => {
        const path = join(files, IMAGE);
        const { length } = readFileSync(path);
        for (let at = hashOffset() + 8192; at < length; at += 4096) flip(path, at + 8);
      },
      says: /device-mapper: verity: \S+: metadata block \d+ is corrupted/,
      ends: /Kernel panic - not syncing: dm-verity device corrupted/,
    },
    {
      name: 'the superblock of the tree is another',
      verify: 'verity',
      damage: (files) => flip(join(files, IMAGE), hashOffset() + 72),
      says: /FAILED: superblock of the hash tree is wrong: \/boot\/initoverlayfs.img at byte/,
      ends: REALLY_OFF,
    },
    {
      name: 'the root hash of the configuration is another',
      verify: 'verity',
      config: (text) => text.replace(root(), another(root())),
      says: /FAILED: root hash is wrong/,
      ends: POWERED_OFF,
    },
    {
      name: 'the root hash of the command line is another',
      verify: 'verity',
      append: `varve.roothash=${'0'.repeat(64)}`,
      says: /FAILED: root hash is not that of the command line/,
      ends: POWERED_OFF,
    },
    {
      name: 'the signature is missing',
      verify: 'signature',
      damage: (files) => rmSync(join(files, `${IMAGE}.verity.p7s`)),
      says: /FAILED: signature is missing: \/boot\/initoverlayfs.img.verity.p7s/,
      ends: POWERED_OFF,
    },
    {
      name: 'what is signed is another',
      verify: 'signature',
      damage: (files) => {
        const path = join(files, `${IMAGE}.verity`);
        const text = readFileSync(path, 'utf8');
        writeFileSync(
          path,
          text.replace(/roothash (\S+)/, (_, hash: string) => `roothash ${another(hash)}`),
        );
      },
      says: /FAILED: signature is not valid/,
      ends: POWERED_OFF,
    },
    {
      name: 'the configuration is garbled',
      verify: 'digest',
      // Before the line that says what then happens, which counts nevertheless.
      config: (text) =>
        text.replace('bootfstype ext4', 'bootfst\0pe ext4').replace('poweroff', 'reboot'),
      says: /FAILED: configuration is not understood: \/etc\/initoverlayfs.conf:\d+/,
      ends: RESTARTED,
    },
    {
      name: 'there is no configuration',
      verify: 'digest',
      config: () => undefined,
      append: 'varve.on-failure=poweroff',
      says: /FAILED: configuration is missing/,
      ends: POWERED_OFF,
    },
    {
      name: 'there is no such device',
      verify: 'digest',
      append: 'varve.bootfs=LABEL=elsewhere varve.timeout=7',
      says: /waits for LABEL=elsewhere; there is: vda.*FAILED: device not found within 7 s: LABEL=elsewhere: there is: vda/s,
      ends: POWERED_OFF,
    },
    {
      name: 'there is no memory for changes',
      verify: 'digest',
      config: (text) => text.replace('overlay-size 50%', 'overlay-size 64k'),
      says: /FAILED: too little memory for changes: tmpfs of overlay-size 64k/,
      ends: POWERED_OFF,
    },
    {
      name: 'the image is cut off',
      verify: 'verity',
      damage: (files) => truncateSync(join(files, IMAGE), hashOffset()),
      says: /FAILED: image has another size: \/boot\/initoverlayfs.img: \d+ bytes instead of \d+/,
      ends: POWERED_OFF,
    },
  ];

  for (const row of rows) {
    test(row.name, async () => {
      const console = await bootDamaged(row);
      assert.match(console, row.says);
      assert.match(console, row.ends);
      if (row.late) assert.match(console, PAYLOAD);
      else assert.doesNotMatch(console, PAYLOAD);
    });
  }

  test('what is no image of EROFS is not mounted', async () => {
    const console = await bootDamaged({
      name: '',
      verify: 'digest',
      damage: (files) => flip(join(files, IMAGE), 1024),
      config: (text) => {
        const image = readFileSync(join(folder, 'digest', IMAGE));
        image[1024] = (image[1024] as number) ^ 1;
        return text.replace(/digest [0-9a-f]{64}/, `digest ${sha256(image)}`);
      },
      says: /./,
      ends: POWERED_OFF,
    });
    assert.match(console, /FAILED: image cannot be mounted: \/boot\/initoverlayfs.img \(erofs\)/);
    assert.doesNotMatch(console, PAYLOAD);
  });
});

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
