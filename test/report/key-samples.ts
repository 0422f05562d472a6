// Changed keys made by hand for the tests of reports: what an installer does to a registry.
// Used by keys.test.ts and keys-html.test.ts.
// In the order of the tree, as a document has them.

import type { KeyChange, KeyData } from '../../src/report/keys.js';

export const text = (words: string): KeyData => ({
  type: 'REG_SZ',
  size: 2 * words.length + 2,
  text: words,
});
export const dword = (number: number): KeyData => ({ type: 'REG_DWORD', size: 4, number });
export const binary = (bytes: string): KeyData => ({
  type: 'REG_BINARY',
  size: bytes.length / 2,
  bytes,
});
export const lines = (...all: string[]): KeyData => ({
  type: 'REG_MULTI_SZ',
  size: 2 * (all.join(' ').length + 2),
  lines: all,
});

const USER = 'HKEY_CURRENT_USER';
const MACHINE = 'HKEY_LOCAL_MACHINE\\Software';

export const KEYS: readonly KeyChange[] = [
  {
    path: `${USER}\\Control Panel\\Desktop`,
    status: 'M',
    values: [
      {
        name: 'Wallpaper',
        status: 'M',
        before: text('C:\\windows\\old.bmp'),
        after: text('C:\\windows\\new.bmp'),
      },
    ],
  },
  { path: `${USER}\\Software\\Acme`, status: 'A', values: [] },
  {
    path: `${USER}\\Software\\Acme\\Editor/2`,
    status: 'A',
    values: [
      { name: '', status: 'A', after: text('The editor') },
      { name: 'Count', status: 'A', after: dword(4711) },
      { name: 'Keys', status: 'A', after: binary('000102030405060708090a0b0c0d0e0f10411f') },
      { name: 'Recent', status: 'A', after: lines('one', 'two') },
    ],
  },
  {
    path: `${USER}\\Software\\Wine\\Fonts`,
    status: 'M',
    values: [
      {
        name: 'Codepages',
        status: 'M',
        noise: 'fonts',
        before: text('437'),
        after: text('850'),
      },
    ],
  },
  {
    path: `${MACHINE}\\Classes\\.txt`,
    status: 'M',
    options: { before: ['#class="old"'], after: ['#class="new"'] },
    values: [
      { name: '', status: 'M', before: text('txtfile'), after: dword(1) },
      { name: 'Perceived', status: 'D', before: text('text') },
    ],
  },
  {
    path: `${MACHINE}\\Microsoft\\Old`,
    status: 'D',
    values: [{ name: 'x', status: 'D', before: dword(1) }],
  },
  {
    path: `${MACHINE}\\Microsoft\\Old\\Below`,
    status: 'D',
    values: [{ name: 'y', status: 'D', before: binary('') }],
  },
  { path: `${MACHINE}\\Microsoft\\Older`, status: 'A', noise: 'a cache', values: [] },
];
