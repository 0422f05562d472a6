// The commands that authenticate boot images, as data: `varve boot sign`, `varve boot uki`, `varve boot verify`.
// Part of commands.ts; command-record.ts says what the fields mean.
// Holds text only.

import type { FlagRecord } from './args.js';
import type { CommandRecord } from './command-record.js';

const PASSIN: FlagRecord = {
  name: 'passin',
  value: 'SOURCE',
  help: 'Where the passphrase of the key is: pass:TEXT, env:VARIABLE, file:PATH, fd:NUMBER or stdin.',
};
const QUIET: FlagRecord = { name: 'quiet', short: 'q', help: 'Say nothing on success.' };
const JSON_FLAG: FlagRecord = { name: 'json', help: 'Print JSON for programs instead of text.' };

export const BOOT_AUTH_COMMANDS: readonly CommandRecord[] = [
  {
    name: 'boot sign',
    summary: 'sign the root hashes of a build',
    operands: 'OUTDIR',
    count: [1, 1],
    description: [
      'Writes two files beside every image of a build: IMAGE.verity, which says its root hash, and IMAGE.verity.p7s, the signature of that (PKCS#7, detached, DER; made by openssl). A mini-initramfs that was built with --verify signature takes an image only with a valid signature by the certificate that it carries.',
      'Every image is compared with its hash tree before, and every signature is checked before the first file gets its name. An image whose root hash has changed has no signature for a moment, never that of another. A key that is not that of the certificate is refused, and so is a certificate that the mini-initramfs does not trust.',
      'A signature that is checked by an initramfs which nobody checks proves nothing: see `varve boot uki` and docs/boot-signing.md.',
    ],
    flags: [
      {
        name: 'key',
        value: 'KEY',
        help: "The private key (PEM), or a `pkcs11:` URI, which needs openssl's engine pkcs11.",
      },
      { name: 'cert', value: 'FILE', help: 'Its certificate (PEM).' },
      PASSIN,
      {
        name: 'force',
        short: 'f',
        help: 'Also with a certificate that is not in the mini-initramfs.',
      },
      QUIET,
      JSON_FLAG,
    ],
    examples: [
      ['varve boot sign out --key boot.key --cert boot.crt', 'sign every image of a build'],
      [
        'varve boot sign out --key boot.key --passin file:/run/secret --cert boot.crt',
        'with a key that has a passphrase',
      ],
    ],
    completes: 'directory',
  },
  {
    name: 'boot uki',
    summary: 'join kernel, mini-initramfs and command line in one EFI program',
    operands: 'OUTDIR',
    count: [1, 1],
    description: [
      "Makes a unified kernel image: systemd's stub with the kernel, the mini-initramfs of a build and the command line as further sections. Firmware with Secure Boot checks the signature over all of it before it runs anything. The command line gets varve.roothash= with the root hashes of all images, lowest first, so that the images hang on the same signature.",
      'With --key and --cert it is signed by sbsign and checked by sbverify before it gets its name. The certificate must be known to the firmware (db, or MOK of shim).',
      'Refused: a kernel that is no EFI program, a kernel of another version than the modules in the mini-initramfs, an initramfs that is not what boot.json says, and a build with --verify none, of which the signature would protect nothing (--force makes it all the same). Images inside of the mini-initramfs (--embed) are protected with it.',
      'The stub is that of systemd (package systemd-boot-efi) for the machine of the kernel.',
    ],
    flags: [
      { name: 'kernel', value: 'VMLINUZ', help: 'The kernel.' },
      { name: 'output', short: 'o', value: 'FILE', help: 'The file to write.' },
      {
        name: 'initramfs',
        value: 'FILE',
        help: 'The mini-initramfs that `varve boot install` has made of the build: it names the images by their paths there.',
      },
      {
        name: 'cmdline',
        value: 'TEXT|@FILE',
        help: 'The command line, root= and all, or the file that has it.',
      },
      {
        name: 'no-roothash',
        help: 'Leave the root hashes out: images that are signed later are taken as well.',
      },
      { name: 'key', value: 'KEY', help: 'Sign with this key (PEM), or a `pkcs11:` URI.' },
      { name: 'cert', value: 'FILE', help: 'Its certificate (PEM).' },
      PASSIN,
      { name: 'stub', value: 'FILE', help: 'Another stub.' },
      {
        name: 'os-release',
        value: 'FILE',
        help: 'What boot menus show (default that of this system).',
      },
      { name: 'force', short: 'f', help: 'Also of a build with --verify none.' },
      QUIET,
      JSON_FLAG,
    ],
    examples: [
      [
        'varve boot uki out --kernel /boot/vmlinuz-6.1.0-40-amd64 --cmdline "root=UUID=... quiet" --key db.key --cert db.crt -o /boot/efi/EFI/Linux/varve.efi',
        'signed, where systemd-boot finds it',
      ],
      [
        'varve boot uki out --kernel vmlinuz --cmdline @/etc/kernel/cmdline -o linux.efi',
        'without a signature',
      ],
    ],
    completes: 'directory',
  },
  {
    name: 'boot verify',
    summary: 'check everything that a boot hangs on',
    operands: '[OUTDIR]',
    count: [0, 1],
    description: [
      'Compares, one line a check: the files of a build with boot.json; the configuration inside of the mini-initramfs with that beside it; every image with the size and digest that the mini-initramfs asks for; every block of it with its hash tree; signatures with the certificate in the mini-initramfs. Nothing is mounted and nothing is written, and no root is needed where the files can be read.',
      'Of a unified kernel image (--uki): its signature by --cert, its sections against the files that are named (OUTDIR, --kernel), the mini-initramfs in it, and the root hashes on its command line.',
      '--boot checks what `varve boot install` has installed in a boot filesystem; --root a system: its /boot, and where it runs, the root hashes that its kernel was started with. Without operand and flags it is --root=/.',
      'The exit code is 3 when something is wrong. What there is nothing to compare with is said, and is no failure.',
    ],
    flags: [
      { name: 'boot', value: 'DIR', help: 'A boot filesystem.' },
      { name: 'root', value: 'DIR', help: 'A system, this one or another.' },
      { name: 'uki', value: 'FILE', help: 'A unified kernel image.' },
      { name: 'cert', value: 'FILE', help: 'The certificate (PEM) that it must be signed with.' },
      { name: 'kernel', value: 'FILE', help: 'The kernel that must be in it.' },
      { name: 'quiet', short: 'q', help: 'Print only what is wrong.' },
      JSON_FLAG,
    ],
    examples: [
      ['varve boot verify out', 'a build'],
      [
        'varve boot verify out --uki linux.efi --kernel /boot/vmlinuz-6.1.0-40-amd64 --cert db.crt',
        'and the unified kernel image made of it',
      ],
      ['varve boot verify', 'the running system'],
    ],
    completes: 'directory',
  },
];
