import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FOLLOW, type ImageView, METADATA, RAW } from '../../src/erofs/composefs-view.js';
import { S } from '../../src/linux/constants.js';

const long = (prefix: string, length: number): string => prefix.padEnd(length, 'x');

/** Name in the image; under which it is shown for an overlay on top, and in the finished tree ('' : not at all). */
const rows: readonly (readonly [stored: string, metadata: string, follow: string])[] = [
  ['trusted.overlay.metacopy', 'user.overlay.metacopy', ''],
  ['trusted.overlay.redirect', 'user.overlay.redirect', ''],
  ['trusted.overlay.opaque', 'user.overlay.opaque', ''],
  ['trusted.overlay.overlay', 'user.overlay.overlay', ''],
  ['trusted.overlay.overlay.whiteout', 'trusted.overlay.whiteout', 'trusted.overlay.whiteout'],
  ['trusted.overlay.overlay.overlay.x', 'trusted.overlay.overlay.x', 'trusted.overlay.overlay.x'],
  ['user.overlay.whiteout', 'user.overlay.overlay.whiteout', 'user.overlay.whiteout'],
  ['user.overlay.overlay.x', 'user.overlay.overlay.overlay.x', 'user.overlay.overlay.x'],
  ['user.overlay', 'user.overlay', 'user.overlay'],
  ['user.overlayx', 'user.overlayx', 'user.overlayx'],
  ['user.mime_type', 'user.mime_type', 'user.mime_type'],
  ['trusted.plain', 'trusted.plain', 'trusted.plain'],
  ['trusted.overlayed', 'trusted.overlayed', 'trusted.overlayed'],
  ['security.capability', 'security.capability', 'security.capability'],
  ['system.posix_acl_access', 'system.posix_acl_access', 'system.posix_acl_access'],
  // Escaped, this one would be longer than any name may be.
  [long('user.overlay.', 248), '', long('user.overlay.', 248)],
  [long('user.overlay.', 247), long('user.overlay.overlay.', 255), long('user.overlay.', 247)],
];

for (const type of [S.IFREG, S.IFDIR]) {
  test(`names of attributes and what they are shown as, mode 0${type.toString(8)}`, () => {
    for (const [stored, metadata, follow] of rows) {
      assert.equal(RAW.shown(stored, type), stored);
      assert.equal(METADATA.shown(stored, type) ?? '', metadata, stored);
      assert.equal(FOLLOW.shown(stored, type) ?? '', follow, stored);
    }
  });
}

test('a name that is shown leads back to the one that is stored, and to no other', () => {
  for (const view of [RAW, METADATA, FOLLOW]) {
    const seen = new Set<string>();
    for (const [stored] of rows) {
      const shown = view.shown(stored, S.IFREG);
      if (shown === undefined) continue;
      assert.equal(view.stored(shown), stored);
      assert.ok(!seen.has(shown), `${shown} is shown for two`);
      seen.add(shown);
    }
  }
});

test('marks of the image are not read by their own names in the finished tree', () => {
  for (const [stored, , follow] of rows) {
    if (follow !== '') continue;
    assert.notEqual(FOLLOW.stored(stored), stored);
  }
});

test('no user attribute is listed where the VFS refuses to give it', () => {
  const views: readonly ImageView[] = [METADATA, FOLLOW];
  for (const type of [S.IFLNK, S.IFCHR, S.IFBLK, S.IFIFO, S.IFSOCK]) {
    for (const view of views) {
      for (const [stored] of rows) {
        assert.ok(!view.shown(stored, type)?.startsWith('user.'), stored);
      }
    }
  }
});
