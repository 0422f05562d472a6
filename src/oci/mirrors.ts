// Whom to ask for what a reference names: its mirrors in turn, then the registry itself.
// Used by registry.ts for everything that it reads; what is pushed goes to the registry itself.
// Which they are is endpoint.ts (containers-registries.conf(5)); here a mirror that fails is left out for a while.

import type { Client } from './client.js';
import { type Endpoint, endpointsOf } from './endpoint.js';
import { RegistryError } from './errors.js';
import type { Clock } from './limits.js';
import type { Reference } from './reference.js';
import type { RegistriesConf } from './registries-conf.js';

/** A mirror that fails is tried once more, then left out for a minute: milliseconds. */
const MIRROR_RETRIES = 1;
const MIRROR_REST = 60_000;

/** Failures that are remembered at most. */
const MOST_FAILED = 10_000;

export interface MirrorsOptions {
  readonly conf: RegistriesConf;
  readonly client: Client;
  readonly clock: Clock;
  log(line: string): void;
}

export class Mirrors {
  readonly #conf: RegistriesConf;
  readonly #client: Client;
  readonly #clock: Clock;
  readonly #log: (line: string) => void;
  /** Mirrors (and what of them) that failed -> the clock's time until which they are left out. */
  readonly #failed = new Map<string, number>();

  constructor({ conf, client, clock, log }: MirrorsOptions) {
    this.#conf = conf;
    this.#client = client;
    this.#clock = clock;
    this.#log = log;
  }

  /** The registry itself, where things are pushed to. @throws RegistryError `refused` where registries.conf blocks it */
  home(ref: Reference): Endpoint {
    return endpointsOf(this.#conf, ref).at(-1)!;
  }

  /**
   * Asks mirrors and the registry in turn, each again as often as it is worth; the registry's own error is the answer.
   *
   * @param what for messages, and by which failures of a mirror are told apart: `manifest latest of host/name`
   */
  async each<T>(
    ref: Reference,
    what: string,
    work: (endpoint: Endpoint) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    for (const endpoint of this.usable(ref, what)) {
      try {
        const retries = retriesOf(endpoint);
        return await this.#client.retrying(() => work(endpoint), { signal, retries });
      } catch (error) {
        this.leave(endpoint, what, error);
      }
    }
    throw new RegistryError('absent', `${what}: there is nobody to ask`);
  }

  /** Endpoints without the mirrors that failed lately. */
  usable(ref: Reference, what: string): Endpoint[] {
    const now = this.#clock.now();
    const left = (endpoint: Endpoint, of: string): boolean =>
      (this.#failed.get(keyOf(endpoint, of)) ?? 0) > now;
    return endpointsOf(this.#conf, ref).filter(
      (endpoint) => !endpoint.mirror || !(left(endpoint, '') || left(endpoint, what)),
    );
  }

  /** Leaves a mirror out from now on. @throws the error when it was not a mirror's: that of the registry counts */
  leave(endpoint: Endpoint, what: string, error: unknown): void {
    if (!endpoint.mirror || !(error instanceof RegistryError)) throw error;
    this.#log(`mirror ${endpoint.host}: ${error.message}; asking the next one`);
    if (this.#failed.size > MOST_FAILED) this.#failed.clear();
    const single = error.kind === 'absent' || error.kind === 'wrong' || error.kind === 'limit';
    this.#failed.set(keyOf(endpoint, single ? what : ''), this.#clock.now() + MIRROR_REST);
  }
}

/** How often an endpoint is asked again; undefined: as often as the client does. */
export function retriesOf({ mirror }: Endpoint): number | undefined {
  return mirror ? MIRROR_RETRIES : undefined;
}

function keyOf(endpoint: Endpoint, what: string): string {
  return `${endpoint.host}/${endpoint.repository} ${what}`;
}
