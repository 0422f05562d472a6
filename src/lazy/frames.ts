// Frames of protocol.ts on a stream socket of Node: how commands speak to the loader.
// Used by ask-loader.ts and announce.ts; servers, whose thread must never wait, have client.ts.

import type { Socket } from 'node:net';
import { FRAME, MAX_JSON, Tell } from './protocol.js';

/** @param kind of Ask. @param json what follows the frame; its `count` is the length of that. */
export function frameOf(kind: number, first = 0, json?: object): Buffer {
  const body = json === undefined ? Buffer.alloc(0) : Buffer.from(JSON.stringify(json));
  const head = Buffer.alloc(FRAME);
  head.writeUInt32LE(kind, 0);
  head.writeUInt32LE(first, 8);
  head.writeUInt32LE(body.length, 12);
  return Buffer.concat([head, body]);
}

/**
 * Calls `take` for every frame of the loader's: its kind (of Tell), its `first`, the JSON that it carries, and its `layer`.
 * A loader that says too much loses the connection.
 */
export function readFrames(
  socket: Socket,
  take: (kind: number, first: number, json: unknown, layer: number) => void,
): void {
  let held = Buffer.alloc(0);
  socket.on('data', (piece) => {
    held = Buffer.concat([held, piece as Buffer]);
    while (held.length >= FRAME && !socket.destroyed) {
      const kind = held.readUInt32LE(0);
      const carries = kind === Tell.JSON_REPLY || kind === Tell.REFUSED;
      const length = carries ? held.readUInt32LE(12) : 0;
      if (length > MAX_JSON) {
        socket.destroy(new Error(`the loader sends an answer of ${length} bytes`));
        return;
      }
      if (held.length < FRAME + length) return;
      const json: unknown =
        length === 0 ? undefined : JSON.parse(held.toString('utf8', FRAME, FRAME + length));
      const first = held.readUInt32LE(8);
      const layer = held.readUInt32LE(4);
      held = held.subarray(FRAME + length);
      take(kind, first, json, layer);
    }
  });
}
