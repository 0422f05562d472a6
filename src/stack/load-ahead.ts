// Content in the recorded order while metadata is still fetched and checked: a loader, and layers that it may begin with.
// Used by cli/obtain-image.ts for what is mounted next. Who loads starts while the manifest comes.
// What goes wrong here shows when the mount asks for the same.

import { type Announced, announceUse } from '../lazy/announce.js';
import { askLoader } from '../lazy/ask-loader.js';
import { DEFAULT_POLICY } from '../lazy/protocol.js';
import { askForLoader, startAhead } from '../supervisor/client.js';
import { loaderEnvironment, loaderProgram } from './loader-program.js';
import { serverProgram } from './server-program.js';

export class LoadAhead {
  readonly #socket: Promise<string | undefined>;
  readonly #prefetches: boolean;
  readonly #uses: Promise<Announced | undefined>[] = [];

  /**
   * Starts a loader where none runs. @param prefetches false: nothing is wanted before the mount stands.
   * @param isServed a server is likely to be wanted, too. @param limit bytes a second of the loader from now on; 0: as many as come.
   */
  constructor(prefetches: boolean, isServed: boolean, limit?: number) {
    this.#prefetches = prefetches;
    const request = {
      op: 'load',
      program: loaderProgram(),
      env: loaderEnvironment(),
      byKernel: !isServed,
    } as const;
    try {
      startAhead({ loader: request, ...(isServed && { server: serverProgram() }) });
    } catch {
      // Whoever mounts says what is wrong.
    }
    const socket = askForLoader(request).then(
      (reply) => reply.loader?.socket,
      () => undefined,
    );
    this.#socket = limit === undefined ? socket : limited(socket, limit);
    // settled() tells.
    this.#socket.catch(() => {});
  }

  /** The loader may begin with a layer. @param folder of it, which may be renamed from now on. */
  begin(folder: string): void {
    if (this.#prefetches) this.#uses.push(this.#use(folder).catch(() => undefined));
  }

  async #use(folder: string): Promise<Announced | undefined> {
    const socket = await this.#socket;
    if (socket === undefined) return undefined;
    // Nobody reads yet: the mount says what else is to be fetched.
    const policy = { ...DEFAULT_POLICY, fill: false };
    // Layers of one mount belong together, and to no other's.
    const mountpoint = `process ${process.pid}`;
    return announceUse(socket, [folder], { mountpoint, policy, way: 'server' });
  }

  /**
   * Programs of the image are about to be started: what they need comes while the mount is made.
   * @param folders of the layers, topmost first. @param programs as they are written: paths, or names.
   */
  async starts(folders: readonly string[], programs: readonly string[]): Promise<void> {
    const socket = await this.#socket;
    if (socket === undefined || !this.#prefetches) return;
    for (const folder of folders) this.begin(folder);
    await this.settled();
    await askLoader(socket, { op: 'starts', programs, folders }).catch(() => {});
  }

  /** Resolves when the loader runs and knows the layers. @throws MountError when it does not take the limit. */
  async settled(): Promise<void> {
    await this.#socket;
    await Promise.all(this.#uses);
  }

  /** The mount has its layers by now, or there is none. */
  async end(): Promise<void> {
    for (const use of await Promise.all(this.#uses)) use?.end();
  }
}

/** Nothing is asked of the loader before it has its limit. */
async function limited(
  socket: Promise<string | undefined>,
  limit: number,
): Promise<string | undefined> {
  const path = await socket;
  if (path === undefined) return undefined;
  const { limitLoader } = await import('./loader-status.js');
  await limitLoader(limit);
  return path;
}
