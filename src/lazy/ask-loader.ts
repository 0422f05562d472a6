// Asks the loader something as a command does: one connection, one question, one answer.
// Used by stack/ for status, top, evict, detach and record; servers have client.ts, which never blocks.
// Speaks protocol.ts.

import { createConnection } from 'node:net';
import { frameOf, readFrames } from './frames.js';
import { Ask, LOADER_PROTOCOL, type LoaderCommand, Tell } from './protocol.js';

/** Milliseconds without an answer after which the loader counts as gone. */
const PATIENCE = 20_000;

/** A loader that answered with an error, or not at all. */
export class LoaderError extends Error {}

/** It ended before it answered: it had nothing left to load, or another takes its place. */
export class LoaderGoneError extends LoaderError {}

/**
 * @param path of the loader's socket. @returns undefined when no loader is there.
 * @throws LoaderError when it refuses, LoaderGoneError when it ends before it has answered.
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
      socket.write(frameOf(Ask.HELLO, LOADER_PROTOCOL));
      socket.write(frameOf(Ask.COMMAND, 0, command));
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (!connected && (error.code === 'ENOENT' || error.code === 'ECONNREFUSED')) done(undefined);
      else if (error.code === 'ECONNRESET' || error.code === 'EPIPE') fail(gone());
      else fail(error instanceof LoaderError ? error : new LoaderError(error.message));
    });
    socket.once('close', () => fail(gone()));
    readFrames(socket, (kind, _first, reply) => {
      if (kind !== Tell.JSON_REPLY) return;
      socket.removeAllListeners('close');
      socket.destroy();
      const { error } = reply as { error?: string };
      if (error === undefined) done(reply as T);
      else fail(new LoaderError(error));
    });
  });
}

const gone = (): LoaderGoneError => new LoaderGoneError('the loader ended before it answered');
