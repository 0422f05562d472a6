// `varve boot sign`: the root hashes of a build are signed.
// Run by main.ts; boot/auth/sign.ts does it.
// Manual: boot-auth-commands.ts.

import type { KeyRequest } from '../boot/auth/key.js';
import { signBoot } from '../boot/auth/sign.js';
import { MountError } from '../stack/errors.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { counted, print, remark } from './output.js';

export async function run(given: Arguments): Promise<number> {
  const key = keyOf(given);
  if (key === undefined)
    throw new MountError('option', 'boot sign: no key named: write --key KEY --cert FILE');
  const [folder = ''] = given.operands;
  const result = await signBoot({
    ...key,
    folder,
    force: given.has('force'),
    onRemark: (text) => remark(given, text),
  });
  if (given.has('json')) print(given, { version: 1, ...result }, () => '');
  else remark(given, `${folder}: ${counted(result.layers.length, 'image')} signed`);
  return EXIT.ok;
}

/** --key, --cert and --passin; undefined: none of them. @throws MountError when only a part is given. */
export function keyOf(given: Arguments): KeyRequest | undefined {
  const [key, cert, passin] = ['key', 'cert', 'passin'].map((name) => given.value(name));
  if (key === undefined && cert === undefined && passin === undefined) return undefined;
  if (key !== undefined && cert !== undefined) return { key, cert, ...(passin && { passin }) };
  throw new MountError(
    'option',
    `--${key === undefined ? 'key' : 'cert'}: is missing: a key and its certificate are named together`,
  );
}
