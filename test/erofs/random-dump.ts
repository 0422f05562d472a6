// Random dumps that composefs can make an image of: odd names, marks of overlayfs, hard links, sizes around all limits.
// Used by composefs.test.ts, against digests that mkcomposefs gave and against the program itself where it is at hand.

import { letters, sequence } from './composefs-samples.js';

const HEX = '0123456789abcdef';
const XATTR_NAMES = [
  ...['user.a', 'user.', 'security.selinux', 'security.capability', 'trusted.x', 'foo.bar'],
  ...['system.posix_acl_access', 'system.posix_acl_default', 'system.posix_acl_accessX'],
  ...['trusted.overlay.opaque', 'trusted.overlay.overlay.opaque', 'trusted.overlay.metacopy'],
  ...['trusted.overlay.whiteout', 'trusted.overlay.redirect', 'user.overlay.opaque', 'lustre.x'],
];
const FILE_SIZES = [1, 2, 100, 4096, 4097, 1e6, 5e9, 2 ** 40 + 1, 2 ** 43, 2 ** 43 + 1, 2 ** 50];
const INLINE_SIZES = [0, 1, 10, 64, 100, 1000, 2047, 2048, 2049, 3000, 4095, 4096, 4100, 5000];
const TARGET_SIZES = [1, 5, 30, 200, 1000, 2000, 3900, 3990, 4000, 4030, 4060, 4090, 4095];
const KINDS = ['dir', 'dir', 'file', 'file', 'file', 'bare', 'inline', 'inline', 'symlink'].concat([
  'symlink',
  'whiteout',
  'device',
  'fifo',
  'socket',
  'link',
  'empty',
]);

/** As a field of a dump. */
function escapeBytes(text: string, also = ''): string {
  return [...text]
    .map((char) => {
      const isPlain = char > ' ' && char <= '~' && char !== '\\' && char !== also;
      return isPlain ? char : `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`;
    })
    .join('');
}

/** @param seed the same one gives the same dump. */
export function randomDump(seed: number): Buffer {
  const next = sequence(Math.imul(seed, 2654435761));
  const one = <T>(of: readonly T[]): T => of[next(of.length)] as T;
  const bytes = (length: number, plain: number): string =>
    Array.from({ length }, () =>
      String.fromCharCode(next(100) < plain ? 97 + next(26) : next(256)),
    ).join('');
  const digest = (): string => Array.from({ length: 64 }, () => one([...HEX])).join('');
  const name = (): string => {
    if (next(20) === 0) return one([...HEX]) + one([...HEX]);
    const text = bytes(one([1, 1, 2, 3, 8, 20, 100, 250, 255]), 70).replace(/[/\0]/g, '_');
    return text === '.' || text === '..' ? 'dots' : text;
  };
  const id = (): number => one([0, 0, 1000, 65535, 65536, 70000]);
  const time = (): string => one(['1700000000.0', '1700000000.1', '1.0', '-3.5', `${next(4)}.0`]);
  const pool = Array.from({ length: 6 }, () => {
    const rest = next(3) === 0 ? bytes(1 + next(12), 80).replace(/[=\0]/g, '_') : '';
    return `${escapeBytes(one(XATTR_NAMES) + rest, '=')}=${escapeBytes(bytes(one([0, 1, 4, 30, 100, 700]), 20), '=')}`;
  });
  // mkcomposefs fails where it has to replace a mark that it makes itself.
  const harmless = pool.filter((text) => !/overlay\.(opaque|whiteout)/.test(text));
  const xattrs = (from: readonly string[]): string =>
    from.length === 0
      ? ''
      : Array.from({ length: one([0, 0, 0, 1, 2, 4]) }, () => ` ${one(from)}`).join('');

  const lines = [`/ 0 40755 2 ${id()} ${id()} 0 ${time()} - - -${xattrs(harmless)}`];
  const dirs = [''];
  const targets: string[] = [];
  const used = new Set<string>();
  const add = (path: string, size: number, mode: string, rest: string, rdev = 0): void => {
    const links = one([1, 1, 2, 70000]);
    lines.push(
      `${escapeBytes(path)} ${size} ${mode} ${links} ${id()} ${id()} ${rdev} ${time()} ${rest}${xattrs(/^(4|20)/.test(mode) ? harmless : pool)}`,
    );
  };
  const kinds: Record<string, (path: string) => void> = {
    dir(path) {
      add(path, next(5000), one(['40755', '41777']), '- - -');
      dirs.push(path);
    },
    file(path) {
      const named = digest();
      const payload = one([`${named.slice(0, 2)}/${named.slice(2)}`, 'some/path', '/absolute']);
      add(path, one(FILE_SIZES), '100644', `${payload} - ${one(['-', named])}`);
    },
    bare: (path) => add(path, next(9000), '100600', `- - ${one(['-', digest()])}`),
    inline(path) {
      const size = one(INLINE_SIZES);
      const content = escapeBytes(bytes(size, 80));
      add(path, size, '100755', `${one(['-', 'x/y'])} ${content === '-' ? '\\x2d' : content} -`);
    },
    symlink: (path) => add(path, 0, '120777', `${letters(next, one(TARGET_SIZES))} - -`),
    whiteout: (path) => add(path, one([0, 5]), one(['20000', '20644']), '- - -'),
    device: (path) =>
      add(path, 0, one(['20644', '60600']), '- - -', one([1, 259, 2049, 2 ** 32 - 1])),
    fifo: (path) => add(path, one([0, 6e9]), '10644', '- - -'),
    socket: (path) => add(path, 0, '140755', '- - -'),
    empty: (path) => add(path, 0, '100644', '- - -'),
    link(path) {
      if (targets.length === 0) return;
      lines.push(`${escapeBytes(path)} 0 @100644 1 0 0 0 0.0 ${escapeBytes(one(targets))} - -`);
    },
  };
  for (let left = one([3, 10, 40, 150, 400]); left > 0; left--) {
    const path = `${next(2) === 0 ? '' : one(dirs)}/${name()}`;
    const kind = one(KINDS);
    if (used.has(path)) continue;
    used.add(path);
    kinds[kind]?.(path);
    if (kind !== 'dir' && kind !== 'link') targets.push(path);
  }
  return Buffer.from(`${lines.join('\n')}\n`, 'latin1');
}
