// A command's word to the loader that it uses layers: that the kernel is about to mount them, which is taken when their blobs are
// marked, or that their content may come before anybody can read it.
// Used by stack/lazy-kernel.ts and stack/load-ahead.ts. Other than a server's connection (client.ts) it asks only this, and may wait.
// Speaks protocol.ts.

import { createConnection } from 'node:net';
import { frameOf, readFrames } from './frames.js';
import { Ask, LOADER_PROTOCOL, Tell, type UseRequest } from './protocol.js';

/** Milliseconds without a word after which the loader counts as gone. */
const PATIENCE = 20_000;

/** Why the loader does not take a layer; the message is for people. */
export class AnnounceError extends Error {}

/** Layers that the loader knows to be in use, until end(). */
export interface Announced {
  /** Folders of those that are not complete: content of others that goes before they are mounted is loaded by nobody. */
  readonly loaded: ReadonlySet<string>;
  /** Of the kernel's way: the mount stands, or will not be made. */
  end(): void;
}

/** Who uses the layers, and how. */
export interface Announcement extends Pick<UseRequest, 'mountpoint' | 'policy'> {
  readonly way: NonNullable<UseRequest['way']>;
}

/**
 * @param socket path of the loader's socket. @param folders of the layers, absolute.
 * @throws AnnounceError when it refuses one, or ends before it has answered.
 */
export function announceUse(
  socket: string,
  folders: readonly string[],
  how: Announcement,
): Promise<Announced> {
  return new Promise((done, fail) => {
    const connection = createConnection(socket);
    const broken = (message: string): void => {
      fail(new AnnounceError(message));
      connection.destroy();
    };
    connection.setTimeout(PATIENCE, () => broken('it does not answer'));
    connection.once('error', (error) => broken(error.message));
    connection.once('close', () => broken('it ended before it answered'));
    connection.once('connect', () => {
      connection.write(frameOf(Ask.HELLO, LOADER_PROTOCOL));
      folders.forEach((folder, layer) => {
        const request: UseRequest = { ...how, layer, folder };
        connection.write(frameOf(Ask.USE, 0, request));
      });
    });
    const loaded = new Set<string>();
    let taken = 0;
    readFrames(connection, (kind, first, json, layer) => {
      if (kind === Tell.HELLO && first !== LOADER_PROTOCOL) {
        broken('it is of another version: unmount what it loads, then try again');
      } else if (kind === Tell.REFUSED) {
        broken((json as { message: string }).message);
      } else if (kind === Tell.USING) {
        if (first === 0) loaded.add(folders[layer] as string);
        if (++taken < folders.length) return;
        connection.setTimeout(0);
        connection.removeAllListeners('close');
        done({ loaded, end: () => connection.destroy() });
      }
    });
  });
}
