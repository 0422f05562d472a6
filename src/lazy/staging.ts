// Folders in which layers are put together, before one rename makes them layers of the store; and what killed processes have left of them.
// Used by build/, pull/ and tar/; prune.ts removes layers through the same kind of name.
// Who makes one has it locked (flock(2)) until it is published or gone: a lock ends with its process, whatever that dies of.

import { randomBytes } from 'node:crypto';
import { closeSync, mkdirSync, openSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { lockFile } from '../linux/peer.js';
import { LayerFolder, STAGING } from './layer-folder.js';

/** Milliseconds for which a folder without a lock is left alone: it is locked right after it was made. */
const YOUNG = 10_000;

/** Locks of this process, by path. */
const held = new Map<string, number>();

/**
 * A folder in which a layer is put together. Publish it with publishLayer(), which also says who was first, or discard it.
 * @returns its path.
 */
export function stageLayer(store: string): string {
  const layers = join(store, 'layers');
  mkdirSync(layers, { recursive: true });
  sweepStaged(layers, Date.now());
  const path = join(layers, `${STAGING}${process.pid}-${randomBytes(6).toString('hex')}`);
  mkdirSync(path, 0o700);
  const fd = openSync(path, 'r');
  lockFile(fd);
  held.set(path, fd);
  return path;
}

function letGo(staged: string): void {
  const fd = held.get(staged);
  if (fd !== undefined) closeSync(fd);
  held.delete(staged);
}

/**
 * Gives a staged folder its name. Its files must be on disk already. A layer that is there already stays, for whoever
 * uses it, and the staged one is removed.
 */
export function publishLayer(store: string, staged: string, id: string): LayerFolder {
  const folder = LayerFolder.of(store, id);
  try {
    renameSync(staged, folder.path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw error;
    discardStaged(staged);
  }
  letGo(staged);
  return folder;
}

/** Removes a staged folder. From its name first: a loader that has begun with it may be making files there. */
export function discardStaged(staged: string): void {
  const gone = goneName(dirname(staged));
  try {
    renameSync(staged, gone);
    rmSync(gone, { recursive: true, force: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  } finally {
    letGo(staged);
  }
}

/** A name under which something goes. */
export function goneName(layers: string): string {
  return join(layers, `${STAGING}gone-${process.pid}-${randomBytes(6).toString('hex')}`);
}

/**
 * Removes what killed processes have left.
 * @param layers folder of the store. @param now milliseconds since 1970. @returns bytes.
 */
export function sweepStaged(layers: string, now: number): number {
  let bytes = 0;
  for (const name of namesIn(layers)) {
    if (!name.startsWith(STAGING)) continue;
    try {
      bytes += sweep(join(layers, name), now);
    } catch {
      // It is gone, or somebody else's.
    }
  }
  return bytes;
}

function sweep(path: string, now: number): number {
  if (held.has(path) || now - statSync(path).mtimeMs < YOUNG) return 0;
  const fd = openSync(path, 'r');
  try {
    if (lockFile(fd) < 0) return 0;
    const bytes = bytesOf(path);
    rmSync(path, { recursive: true, force: true });
    return bytes;
  } finally {
    closeSync(fd);
  }
}

/** Bytes on disk of a file, or of the files in a folder. */
export function bytesOf(path: string): number {
  const stat = statSync(path);
  if (!stat.isDirectory()) return stat.blocks * 512;
  return namesIn(path).reduce((sum, name) => sum + statSync(join(path, name)).blocks * 512, 0);
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
