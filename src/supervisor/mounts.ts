// The mounts of one supervisor: found by mount point, made, forgotten.
// Called by supervisor.ts for every request; what becomes of one mount is mount.ts's.
// Several may have had the same mount point; the last one is meant.

import { Mount } from './mount.js';
import type { MountRequest, MountStatus } from './protocol.js';
import { RefusedError } from './refusals.js';
import { Spare } from './spare.js';

/** What the surroundings do when a mount ends. */
export interface MountsHost {
  serverLog(name: string): string;
  /** A mount went; there may be none left. */
  changed(): void;
}

export class Mounts {
  readonly #host: MountsHost;
  readonly #spare: Spare;
  /** In the order in which they were made. */
  #all: Mount[] = [];
  #next = 1;

  constructor(host: MountsHost) {
    this.#host = host;
    this.#spare = new Spare(host.serverLog('spare'));
  }

  /** Number of mounts that are served or about to be. */
  get live(): number {
    return this.#all.filter((mount) => !mount.isOver).length;
  }

  /** Failed mounts that are kept so that someone can ask why. */
  get failed(): number {
    return this.#all.length - this.live;
  }

  list(): MountStatus[] {
    return this.#all.map((mount) => mount.status());
  }

  find(mountpoint: string): Mount {
    const mount = this.#all.findLast((m) => m.mountpoint === mountpoint);
    if (mount === undefined) {
      throw new RefusedError('absent', `${mountpoint}: not a mount of this supervisor`);
    }
    return mount;
  }

  /** As the request `elsewhere`. @throws RefusedError. */
  async isOpenElsewhere(mountpoint: string, name: string): Promise<boolean> {
    const mount = this.find(mountpoint);
    if (!mount.isOpenElsewhere(name)) return false;
    // It may be other servers of ours; one that cannot be replaced now is somebody else.
    for (const other of this.#all) await mount.shareWith(other, name).catch(() => {});
    return mount.isOpenElsewhere(name);
  }

  /** Resolves when the mount answers. @throws RefusedError. */
  async mount(request: MountRequest): Promise<MountStatus> {
    const { mountpoint } = request.mount;
    if (this.#all.some((m) => m.mountpoint === mountpoint && m.attached)) {
      throw new RefusedError('busy', `${mountpoint}: already mounted: unmount it first`);
    }
    for (const mount of this.#all) {
      if (mount.mountpoint === mountpoint && mount.isOver) this.#drop(mount);
    }
    const log = this.#host.serverLog(String(this.#next++));
    const mount = new Mount(request, log, {
      spare: this.#spare,
      ended: () => {
        if (mount.state !== 'failed') this.#drop(mount);
        if (this.live === 0) this.#spare.drop();
        this.#host.changed();
      },
    });
    this.#all.push(mount);
    await mount.ready;
    return mount.status();
  }

  /** Detaches a mount, or forgets a failed one that is detached. @throws RefusedError. */
  umount(mountpoint: string, force: boolean): void {
    const mount = this.find(mountpoint);
    if (mount.isOver) this.#drop(mount);
    else mount.umount(force);
  }

  #drop(mount: Mount): void {
    mount.forget();
    this.#all = this.#all.filter((other) => other !== mount);
  }

  /** Detaches everything; resolves when every server is gone. */
  async end(): Promise<void> {
    this.#spare.end();
    for (const mount of this.#all) mount.umount(false);
    await Promise.all(this.#all.map((mount) => mount.gone));
  }

  /** Keeps logs small; called now and then. */
  trimLogs(): void {
    for (const mount of this.#all) mount.trimLog();
  }
}
