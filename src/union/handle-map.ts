// Things by the file handle of an object, as origin marks and names of index entries say it.
// Used by changes.ts (what was copied from what) and index-names.ts.
// Follows: struct ovl_fb of fs/overlayfs/overlayfs.h: with uuid=off and on filesystems without a UUID there are zeros for it.

import type { Handle } from './view.js';

interface Entry<V> {
  readonly uuid: string | undefined;
  value: V;
}

/** Objects of different filesystems may have the same bytes: the UUID tells them apart, where it is known. */
export class HandleMap<V> {
  readonly #entries = new Map<string, Entry<V>[]>();

  get size(): number {
    return this.#entries.size;
  }

  set(handle: Handle, value: V): void {
    const uuid = uuidOf(handle);
    const entries = this.#entries.get(keyOf(handle)) ?? [];
    const known = entries.find((entry) => entry.uuid === uuid);
    if (known === undefined) this.#entries.set(keyOf(handle), [...entries, { uuid, value }]);
    else known.value = value;
  }

  get(handle: Handle): V | undefined {
    const uuid = uuidOf(handle);
    const entries = this.#entries.get(keyOf(handle)) ?? [];
    const fits = entries.find((entry) => entry.uuid === uuid);
    if (fits !== undefined) return fits.value;
    return entries.find((entry) => entry.uuid === undefined || uuid === undefined)?.value;
  }

  delete(handle: Handle): void {
    const value = this.get(handle);
    const entries = this.#entries.get(keyOf(handle)) ?? [];
    this.#entries.set(
      keyOf(handle),
      entries.filter((entry) => entry.value !== value),
    );
  }
}

function keyOf({ type, bytes }: Handle): string {
  return `${type}:${Buffer.from(bytes).toString('latin1')}`;
}

function uuidOf({ uuid }: Handle): string | undefined {
  if (uuid === undefined || uuid.every((byte) => byte === 0)) return undefined;
  return Buffer.from(uuid).toString('latin1');
}
