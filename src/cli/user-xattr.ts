// --userxattr: layers that are named one by one have the marks of plain users.
// Used by apply and flatten, whose stacks may be named without mount options.
// The choice that is made otherwise: ops/open-stack.ts.

import type { NamedStack } from '../ops/open-stack.js';
import { MountError } from '../stack/errors.js';
import type { Arguments } from './args.js';

/** @throws MountError where the stack is named in a way that tells it already. */
export function withUserXattr(given: Arguments, named: NamedStack): NamedStack {
  if (!given.has('userxattr')) return named;
  if (given.has('options') || named.mount !== undefined) {
    throw new MountError(
      'option',
      '--userxattr: is for LAYERs: write it into -o, a mount knows it',
    );
  }
  return { ...named, layers: { ...named.layers, userxattr: true } };
}
