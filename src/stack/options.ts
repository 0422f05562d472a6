// Reads the `-o` options of a command line: text to the options of a mount, or one line about what is wrong.
// Called by every command that mounts; pure text in, data out (paths are checked by stack/check.ts).
// Follows mount(8); the options themselves are listed in option-table.ts.

import { MountError } from './errors.js';
import { type Draft, MAX_LAYERS, type MountOptions, OPTIONS } from './option-table.js';
import { type RawOption, splitOptions, unescapeValue } from './option-text.js';

/** What mount(8) and fstab(5) add for themselves; mount.fuse.varve ignores it. */
const FSTAB = new Set([
  'defaults',
  'auto',
  'noauto',
  'user',
  'users',
  'nouser',
  'owner',
  'group',
  '_netdev',
  'nofail',
  'loud',
  'silent',
]);

const BY_NAME = new Map(OPTIONS.map((option) => [option.name, option]));

/** What differs between the three command lines. */
export interface Dialect {
  /** Options that the caller may overrule, read first. */
  readonly defaults: string;
  /** Options of mount(8) and fstab(5), and `x-*`, are passed over. */
  readonly fstab?: boolean;
  /** Empty names between single colons of lowerdir vanish, as in fuse-overlayfs. */
  readonly looseColons?: boolean;
  /** The upper is only read: it needs no workdir. */
  readonly reads?: boolean;
}

function emptyDraft(): Draft {
  return {
    lowerdirs: [],
    datadirs: [],
    devices: [],
    digests: [],
    redirectDir: 'on',
    metacopy: false,
    index: true,
    xino: 'auto',
    ino32: false,
    uuid: 'auto',
    volatile: false,
    whiteouts: 'kernel',
    nfsExport: false,
    uidMapping: [],
    gidMapping: [],
    staticNlink: false,
    acl: true,
    fsync: true,
    xattrs: true,
    xattrPermissions: 0,
    timeout: 86400,
    allowOther: false,
    defaultPermissions: true,
    readOnly: false,
    nosuid: true,
    nodev: true,
    noexec: false,
    noatime: false,
    fsname: 'varve',
    subtype: 'varve',
    raw: false,
    trace: false,
    backend: 'auto',
    verity: 'off',
  };
}

/**
 * Reads the values of every `-o` of a command line; a later option overrules an earlier one.
 * @throws MountError of kind `option` that names the option.
 */
export function parseOptions(texts: readonly string[], dialect: Dialect): MountOptions {
  const draft = emptyDraft();
  for (const option of splitOptions(dialect.defaults)) applyOption(draft, option, dialect);
  for (const part of texts) {
    for (const option of splitOptions(part)) applyOption(draft, option, dialect);
  }
  checkTogether(draft, dialect);
  return draft;
}

function applyOption(draft: Draft, option: RawOption, dialect: Dialect): void {
  const { name, value } = option;
  if (dialect.fstab === true && (FSTAB.has(name) || /^(x-|comment$)/i.test(name))) return;
  const record = BY_NAME.get(name);
  if (record === undefined) {
    throw new MountError(
      'option',
      `unknown option: ${name}: see the options in \`varve mount --help\``,
    );
  }
  if (record.value === undefined && value !== undefined) {
    throw new MountError('option', `option ${name}: it takes no value: write "${name}" alone`);
  }
  if (record.value !== undefined && value === undefined && record.optional !== true) {
    throw new MountError(
      'option',
      `option ${name}: it needs a value: write ${name}=${record.value}`,
    );
  }
  let raw = value ?? '';
  if (dialect.looseColons === true && name === 'lowerdir') raw = looseColons(raw);
  const wrong = record.apply?.(draft, unescapeValue(raw), raw);
  if (wrong !== undefined) throw new MountError('option', `option ${name}=${raw}: ${wrong}`);
}

/** `:A:B:` as `A:B`. */
function looseColons(value: string): string {
  return value.replace(/^:+/, '').replace(/(^|[^\\]):+$/, '$1');
}

function checkTogether(draft: Draft, dialect: Dialect): void {
  const refuse = (message: string): never => {
    throw new MountError('option', message);
  };
  if (draft.lowerdirs.length === 0)
    refuse('lowerdir: missing: name at least one layer, -o lowerdir=DIR');
  if (draft.upperdir !== undefined && draft.workdir === undefined && dialect.reads !== true) {
    refuse(`workdir: missing: an upperdir needs one on its filesystem, -o workdir=DIR`);
  }
  const layers = draft.lowerdirs.length + draft.datadirs.length;
  if (layers > MAX_LAYERS) {
    refuse(
      `lowerdir: ${layers} layers: at most ${MAX_LAYERS} can be stacked: flatten some of them`,
    );
  }
  if (draft.metacopy && (draft.redirectDir === 'off' || draft.redirectDir === 'nofollow')) {
    refuse(`metacopy=on: contradicts redirect_dir=${draft.redirectDir}: drop one of the two`);
  }
  if (draft.nfsExport && !draft.index && draft.upperdir !== undefined) {
    refuse('nfs_export=on: contradicts index=off: drop one of the two');
  }
  if (draft.nfsExport && draft.raw) {
    refuse('nfs_export=on: contradicts raw: drop one of the two');
  }
  if (draft.nfsExport && draft.metacopy) {
    refuse('nfs_export=on: contradicts metacopy=on: drop one of the two');
  }
  if (draft.verity !== 'off' && !draft.metacopy) {
    refuse(`verity=${draft.verity}: needs metacopy=on`);
  }
  if (draft.ino32 && draft.raw) {
    refuse('ino32: contradicts raw: an image that is shown as it is shows its own numbers');
  }
  if (draft.upperdir === undefined) draft.readOnly = true;
  if (draft.allowOther) draft.defaultPermissions = true;
}
