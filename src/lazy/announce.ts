// A command's word to the loader that it uses layers: that the kernel is about to mount them, which is taken when their blobs are
// marked, or that their content may come before anybody can read it.
// Used by stack/lazy-kernel.ts and stack/load-ahead.ts. Other than a server's connection (client.ts) it asks only this, and may wait.
// Speaks protocol.ts.

import { createConnection, type Socket } from 'node:net';
import { Ask, FRAME, LOADER_PROTOCOL, MAX_JSON, Tell, type UseRequest } from './protocol.js';

/** Milliseconds without a word after which the loader counts as gone. */
const PATIENCE = 20_000;

/** Why the loader does not take a layer; the message is for people. */
export class AnnounceError extends Error {}

/** Layers that the loader knows to be in use, until end(). */
export interface Announced {
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
      connection.write(frame(Ask.HELLO, LOADER_PROTOCOL));
      folders.forEach((folder, layer) => {
        const request: UseRequest = { ...how, layer, folder };
        const json = Buffer.from(JSON.stringify(request));
        connection.write(Buffer.concat([frame(Ask.USE, 0, json.length), json]));
      });
    });
    let taken = 0;
    readFrames(connection, (kind, first, json) => {
      if (kind === Tell.HELLO && first !== LOADER_PROTOCOL) {
        broken('it is of another version: unmount what it loads, then try again');
      } else if (kind === Tell.REFUSED) {
        broken((json as { message: string }).message);
      } else if (kind === Tell.USING && ++taken === folders.length) {
        connection.setTimeout(0);
        connection.removeAllListeners('close');
        done({ end: () => connection.destroy() });
      }
    });
  });
}

function frame(kind: number, first: number, count = 0): Buffer {
  const bytes = Buffer.alloc(FRAME);
  bytes.writeUInt32LE(kind, 0);
  bytes.writeUInt32LE(first, 8);
  bytes.writeUInt32LE(count, 12);
  return bytes;
}

function readFrames(
  connection: Socket,
  take: (kind: number, first: number, json: unknown) => void,
): void {
  let held = Buffer.alloc(0);
  connection.on('data', (piece) => {
    held = Buffer.concat([held, piece as Buffer]);
    while (held.length >= FRAME) {
      const kind = held.readUInt32LE(0);
      const length = kind === Tell.REFUSED ? held.readUInt32LE(12) : 0;
      if (length > MAX_JSON) {
        connection.destroy();
        return;
      }
      if (held.length < FRAME + length) return;
      const json =
        length === 0 ? undefined : JSON.parse(held.toString('utf8', FRAME, FRAME + length));
      const first = held.readUInt32LE(8);
      held = held.subarray(FRAME + length);
      take(kind, first, json);
    }
  });
}
