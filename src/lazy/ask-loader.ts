// Asks the loader something as a command does: one connection, one question, one answer.
// Used by stack/ for status, top, evict, detach and record; servers have client.ts, which never blocks.
// Speaks protocol.ts.

import { createConnection, type Socket } from 'node:net';
import { Ask, FRAME, LOADER_PROTOCOL, type LoaderCommand, MAX_JSON, Tell } from './protocol.js';

/** Milliseconds without an answer after which the loader counts as gone. */
const PATIENCE = 20_000;

/** A loader that answered with an error, or not at all. */
export class LoaderError extends Error {}

/**
 * @param path of the loader's socket. @returns undefined when no loader is there.
 * @throws LoaderError when it refuses, or ends before it has answered.
 */
export function askLoader<T>(path: string, command: LoaderCommand): Promise<T | undefined> {
  return new Promise((done, fail) => {
    const socket = createConnection(path);
    let connected = false;
    socket.setTimeout(PATIENCE, () =>
      socket.destroy(new LoaderError('the loader does not answer')),
    );
    socket.once('connect', () => {
      connected = true;
      socket.write(frame(Ask.HELLO, LOADER_PROTOCOL, 0));
      const json = Buffer.from(JSON.stringify(command));
      socket.write(Buffer.concat([frame(Ask.COMMAND, 0, json.length), json]));
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (!connected && (error.code === 'ENOENT' || error.code === 'ECONNREFUSED')) done(undefined);
      else fail(error);
    });
    socket.once('close', () => fail(new LoaderError('the loader ended before it answered')));
    readReply(socket, (reply) => {
      socket.removeAllListeners('close');
      socket.destroy();
      const { error } = reply as { error?: string };
      if (error === undefined) done(reply as T);
      else fail(new LoaderError(error));
    });
  });
}

function frame(kind: number, first: number, count: number): Buffer {
  const bytes = Buffer.alloc(FRAME);
  bytes.writeUInt32LE(kind, 0);
  bytes.writeUInt32LE(first, 8);
  bytes.writeUInt32LE(count, 12);
  return bytes;
}

/** Calls `take` with the JSON of the answer; other frames are skipped. */
function readReply(socket: Socket, take: (reply: unknown) => void): void {
  let held = Buffer.alloc(0);
  socket.on('data', (piece) => {
    held = Buffer.concat([held, piece as Buffer]);
    for (;;) {
      if (held.length < FRAME) return;
      const kind = held.readUInt32LE(0);
      const carries = kind === Tell.JSON_REPLY || kind === Tell.REFUSED;
      const length = carries ? held.readUInt32LE(12) : 0;
      if (length > MAX_JSON) {
        socket.destroy(new LoaderError(`an answer of ${length} bytes`));
        return;
      }
      if (held.length < FRAME + length) return;
      const json = held.subarray(FRAME, FRAME + length).toString();
      held = held.subarray(FRAME + length);
      if (kind === Tell.JSON_REPLY) {
        take(JSON.parse(json));
        return;
      }
    }
  });
}
