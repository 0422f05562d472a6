// A named stack as a line of fstab(5), for mount(8) and mount.fuse.varve.
// Used by `varve stack fstab`; text only, nothing is installed.
// Follows fstab(5) (octal escapes of the fields) and mount(8) of util-linux 2.38.

import { pathsOf } from './order.js';
import type { Stack, StackFile } from './stacks.js';
import { helperOptions } from './unit.js';

/** @param further options of fstab(5), such as `noauto`. @returns the line, without a line break. */
export function fstabLine(stack: Stack, file: StackFile, further: readonly string[]): string {
  const mount = stack.mount?.path as string;
  const options = [helperOptions(stack, file), ...further, ...orderOptions(stack)].join(',');
  return ['varve', mount, 'fuse.varve', options].map(field).join(' ').concat(' 0 0');
}

/** For systemd, which mounts what these paths lie on first. It reads no escapes here: odd paths are left out. */
function orderOptions(stack: Stack): string[] {
  const paths = new Set(pathsOf(stack).filter((path) => path !== stack.mount?.path));
  return [...paths]
    .filter((path) => /^[\w./+-]+$/.test(path))
    .map((path) => `x-systemd.requires-mounts-for=${path}`);
}

/** Blanks and backslashes stand as octal numbers. */
function field(text: string): string {
  return text.replace(/[\s\\#]/g, (c) =>
    [...Buffer.from(c)].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`).join(''),
  );
}
