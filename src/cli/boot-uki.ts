// `varve boot uki`: one EFI program of kernel, mini-initramfs and command line.
// Run by main.ts; boot/auth/uki.ts does it.
// Manual: boot-auth-commands.ts.

import { makeUki } from '../boot/auth/uki.js';
import { bytesText } from '../report/words.js';
import { MountError } from '../stack/errors.js';
import type { Arguments } from './args.js';
import { keyOf } from './boot-sign.js';
import { EXIT } from './exit-codes.js';
import { print, remark } from './output.js';

export async function run(given: Arguments): Promise<number> {
  const [folder = ''] = given.operands;
  const need = (flag: string, what: string): string => {
    const value = given.value(flag);
    if (value !== undefined) return value;
    throw new MountError(
      'option',
      `boot uki: no ${what} named: write ${flag === 'output' ? '-o' : `--${flag}`} FILE`,
    );
  };
  const result = await makeUki({
    folder,
    kernel: need('kernel', 'kernel'),
    out: need('output', 'output'),
    initramfs: given.value('initramfs'),
    cmdline: given.value('cmdline'),
    pin: !given.has('no-roothash'),
    stub: given.value('stub'),
    osRelease: given.value('os-release'),
    signing: keyOf(given),
    force: given.has('force'),
    onRemark: (text) => remark(given, text),
  });
  if (given.has('json')) print(given, { version: 1, ...result }, () => '');
  else {
    const { file, size, signed } = result;
    remark(given, `${file}: ${bytesText(size)}, ${signed ? 'signed' : 'not signed'}`);
  }
  return EXIT.ok;
}
