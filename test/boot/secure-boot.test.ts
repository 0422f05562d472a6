// A signed unified kernel image under real firmware with Secure Boot: it boots through to the payload, one with a single bit altered
// never begins, and a signed one does not take another image from the disk.
// Firmware: OVMF with the keys of Debian's package, whose private key is public, under QEMU without KVM.

import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { readPe } from '../../src/boot/auth/pe.js';
import { makeUki } from '../../src/boot/auth/uki.js';
import { verifyBoot } from '../../src/boot/auth/verify.js';
import { MemorySource } from '../../src/bytes/source.js';
import { requires } from '../support/requires.js';
import { makeTempDir, removeTempDir } from '../support/temp.js';
import { busybox } from '../vm/guest-files.js';
import { runQemu } from '../vm/qemu.js';
import { type Built, build, kernel } from './machine.js';
import { script } from './payload.js';

const packages = ['busybox-static', 'kmod', 'lz4', 'openssl', 'ovmf', 'qemu-system-x86'];
const skip = requires({ packages: [...packages, 'sbsigntool', 'systemd-boot-efi'] });

/** Keys that the firmware's variables trust. */
const SNAKEOIL = {
  key: '/usr/share/ovmf/PkKek-1-snakeoil.key',
  cert: '/usr/share/ovmf/PkKek-1-snakeoil.pem',
  passin: 'pass:snakeoil',
};
const CODE = '/usr/share/OVMF/OVMF_CODE_4M.secboot.fd';
const VARIABLES = '/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd';

const RUNS = 'payload: runs';
const REFUSED = /BdsDxe: failed to load Boot\d+ .*: Access Denied/;

let folder: string;
let built: Built;
let uki: string;

/** A payload that says that it runs, and what the kernel knows of Secure Boot. */
function makePayload(name: string): string {
  const root = join(folder, name);
  for (const dir of ['bin', 'dev', 'proc', 'sys', 'run'])
    mkdirSync(join(root, dir), { recursive: true });
  copyFileSync(busybox, join(root, 'bin/busybox'));
  symlinkSync('busybox', join(root, 'bin/sh'));
  writeFileSync(join(root, 'name'), name);
  script(
    join(root, 'init'),
    `run=/bin/busybox
$run mount -t proc proc /proc
echo "${RUNS} $($run cat /name)"
$run dmesg | $run grep -o 'secureboot: .*'
$run poweroff -f
`,
  );
  return root;
}

/** Starts the program as a firmware does: from a FAT filesystem, which has the images as well. @returns the console. */
async function start(program: string, images: Built, until?: RegExp): Promise<string> {
  const disk = join(folder, `esp-${Math.random().toString(36).slice(2)}`);
  mkdirSync(join(disk, 'EFI/BOOT'), { recursive: true });
  copyFileSync(program, join(disk, 'EFI/BOOT/BOOTX64.EFI'));
  for (const { file } of images.manifest.layers)
    copyFileSync(join(images.folder, file), join(disk, file));
  const variables = `${disk}.vars`;
  copyFileSync(VARIABLES, variables);
  const args = ['-accel', 'tcg,thread=single', '-smp', '1', '-m', '384', '-nodefaults'];
  args.push(
    '-cpu',
    'Nehalem',
    '-nic',
    'none',
    '-display',
    'none',
    '-no-reboot',
    '-serial',
    'stdio',
  );
  // The variables are the firmware's alone: it is in system management mode when it writes them.
  args.push('-machine', 'q35,smm=on', '-global', 'driver=cfi.pflash01,property=secure,value=on');
  args.push('-drive', `if=pflash,format=raw,unit=0,readonly=on,file=${CODE}`);
  args.push('-drive', `if=pflash,format=raw,unit=1,file=${variables}`);
  const fat = `file.driver=vvfat,file.dir=${disk},file.label=BOOT`;
  args.push('-drive', `if=none,id=esp,format=raw,readonly=on,${fat}`);
  args.push('-device', 'virtio-blk-pci,drive=esp,bootindex=0');
  const lines: string[] = [];
  const ending = await runQemu(args, {
    limit: 120_000,
    onLine: (line) => {
      lines.push(line);
      return until?.test(line);
    },
  });
  const console = lines.join('\n');
  assert.equal(ending, undefined, console);
  return console;
}

before(async () => {
  if (skip !== false) return;
  folder = makeTempDir();
  built = await build(join(folder, 'out'), {
    source: { root: makePayload('right') },
    bootfs: 'LABEL=BOOT',
    bootfstype: 'vfat',
    verify: 'verity',
    miniCompress: 'lz4',
  });
  uki = join(folder, 'linux.efi');
  await makeUki({
    folder: built.folder,
    kernel: kernel().image,
    cmdline: 'console=ttyS0 loglevel=6 panic=-1 nokaslr mitigations=off',
    pin: true,
    force: false,
    signing: SNAKEOIL,
    out: uki,
  });
});

after(() => {
  if (folder !== undefined) removeTempDir(folder);
});

/** A copy with one bit of a section flipped: by default in its middle. */
function altered(name: string, at?: string): string {
  const bytes = readFileSync(uki);
  const section = readPe(new MemorySource(bytes), uki).sections.find((one) => one.name === name);
  assert.ok(section !== undefined);
  const { offset, virtualSize } = section;
  const place = at === undefined ? offset + (virtualSize >> 1) : bytes.indexOf(at, offset);
  assert.ok(place >= offset && place < offset + virtualSize);
  bytes[place] = (bytes[place] as number) ^ 1;
  const path = join(folder, `altered${name}.efi`);
  writeFileSync(path, bytes);
  return path;
}

test('a signed unified kernel image boots, and Secure Boot is on', { skip }, async () => {
  const { cert } = SNAKEOIL;
  const { ok, checks } = await verifyBoot({
    folder: built.folder,
    uki,
    cert,
    kernel: kernel().image,
  });
  assert.ok(ok, JSON.stringify(checks, null, 1));
  const console = await start(uki, built);
  assert.match(console, /UEFI Secure Boot is enabled/);
  assert.match(console, /varve-boot: .* hash tree of \/boot\/initoverlayfs\.img is used/);
  assert.match(console, new RegExp(`^${RUNS} right$`, 'm'));
  assert.match(console, /^secureboot: Secure boot enabled$/m);
});

test('with a bit of the command line altered the firmware refuses it', { skip }, async () => {
  const console = await start(altered('.cmdline', 'varve.roothash='), built, REFUSED);
  assert.match(console, REFUSED);
  assert.doesNotMatch(console, /Linux version|varve-boot|payload/);
});

test('with a bit of the mini-initramfs altered the firmware refuses it', { skip }, async () => {
  const console = await start(altered('.initrd'), built, REFUSED);
  assert.match(console, REFUSED);
  assert.doesNotMatch(console, /Linux version|varve-boot|payload/);
});

test('another image in the place of the one that was signed is refused by the mini-initramfs', {
  skip,
}, async () => {
  const other = await build(join(folder, 'other'), {
    source: { root: makePayload('wrong') },
    bootfs: 'LABEL=BOOT',
    bootfstype: 'vfat',
    verify: 'verity',
  });
  // A good image with a good hash tree, of the same size; only nobody signed it.
  assert.equal(other.manifest.layers[0]?.size, built.manifest.layers[0]?.size);
  const console = await start(uki, other);
  assert.match(console, /varve-boot: FAILED: (?:superblock of the hash tree|root hash) is wrong/);
  assert.doesNotMatch(console, new RegExp(RUNS));
});
