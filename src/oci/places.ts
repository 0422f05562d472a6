// Where blobs really lie: many registries send their readers to a storage service, with an address that is good for some minutes.
// Asked by registry.ts for parts of blobs; going straight there saves a round trip each time.

import type { Endpoint } from './endpoint.js';
import { RegistryError } from './errors.js';
import type { Clock } from './limits.js';

/** Milliseconds; addresses are usually good for ten minutes or more. */
const LIFE = 120_000;
const MOST = 4096;

export class Places {
  private readonly clock: Clock;
  private readonly known = new Map<string, { place: URL; until: number }>();

  constructor(clock: Clock) {
    this.clock = clock;
  }

  /**
   * Reads from the place that is known, else, or when that fails, by the registry.
   *
   * @param read returns also where the bytes came from
   */
  async through<T>(
    endpoint: Endpoint,
    digest: string,
    read: (to: string | URL) => Promise<{ bytes: T; from: URL }>,
  ): Promise<T> {
    const key = `${endpoint.host}/${endpoint.repository} ${digest}`;
    const found = this.known.get(key);
    if (found !== undefined && found.until > this.clock.now()) {
      try {
        return (await read(found.place)).bytes;
      } catch (error) {
        if (!(error instanceof RegistryError)) throw error;
        // It has expired, or the service has moved on: the registry knows.
      }
    }
    this.known.delete(key);
    const { bytes, from } = await read(`blobs/${digest}`);
    if (from.host !== endpoint.host.toLowerCase()) {
      if (this.known.size >= MOST) this.known.clear();
      this.known.set(key, { place: from, until: this.clock.now() + LIFE });
    }
    return bytes;
  }
}
