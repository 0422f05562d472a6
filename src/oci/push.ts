// Pushing blobs: one request for small ones, resumable uploads for others, none at all for what another repository has.
// Called by registry.ts.
// Follows: OCI distribution specification 1.1 (pushing blobs), with PATCH as distribution and all its relatives take it.

import type { Call, Client } from './client.js';
import type { Endpoint } from './endpoint.js';
import { RegistryError } from './errors.js';
import type { Answer } from './transport.js';

/** Blobs up to this many bytes are sent with the request that ends the upload. */
const SMALL = 1024 * 1024;

const SESSIONS = 4;

export interface Upload {
  digest: string;
  /** Bytes. */
  size: number;
  /** The content from a position on; may be called again when something breaks. */
  open(from: number): AsyncIterable<Uint8Array>;
  signal?: AbortSignal;
  what: string;
}

/** @throws RegistryError */
export async function upload(client: Client, endpoint: Endpoint, blob: Upload): Promise<void> {
  const common = { actions: 'pull,push', what: blob.what, signal: blob.signal } as const;
  // distribution gives up a session when a request of it breaks off: then another one is begun.
  for (let sessions = 0; ; sessions++) {
    try {
      const place = await client.retrying(
        async () => {
          const started = await client.once(endpoint, {
            ...common,
            method: 'POST',
            to: 'blobs/uploads/',
            headers: { 'content-length': '0' },
          });
          const at = await placeOf(started, blob.what);
          if (blob.size > SMALL) return at;
          await putAll(client, endpoint, blob, at, common);
          return undefined;
        },
        { signal: blob.signal },
      );
      if (place !== undefined) await session(client, endpoint, blob, place, common);
      return;
    } catch (error) {
      const forgotten = error instanceof RegistryError && error.kind === 'absent';
      if (!forgotten || sessions >= SESSIONS) throw error;
    }
  }
}

/**
 * Makes a blob of another repository of the same registry one of this repository, without moving it.
 *
 * @param from the other repository's name
 * @returns false when the registry would rather have it pushed
 */
export function mountFrom(
  client: Client,
  endpoint: Endpoint,
  digest: string,
  from: string,
  what: string,
): Promise<boolean> {
  const call = { actions: 'pull,push', from, what } as const;
  return client.retrying(async () => {
    const answer = await client.once(endpoint, {
      ...call,
      method: 'POST',
      to: `blobs/uploads/?${new URLSearchParams({ mount: digest, from })}`,
      headers: { 'content-length': '0' },
    });
    await answer.discard();
    if (answer.status === 201) return true;
    const place = answer.header('location');
    if (place !== undefined) await cancel(client, endpoint, new URL(place, answer.url), call);
    return false;
  });
}

async function cancel(
  client: Client,
  endpoint: Endpoint,
  place: URL,
  call: Pick<Call, 'actions' | 'what'>,
): Promise<void> {
  try {
    const answer = await client.once(endpoint, { ...call, method: 'DELETE', to: place });
    await answer.discard();
  } catch {
    // The registry forgets an upload that nobody continues.
  }
}

type Common = Pick<Call, 'actions' | 'what' | 'signal'>;

async function putAll(
  client: Client,
  endpoint: Endpoint,
  blob: Upload,
  place: URL,
  common: Common,
): Promise<void> {
  const answer = await client.once(endpoint, {
    ...common,
    method: 'PUT',
    to: closing(place, blob.digest),
    headers: { 'content-type': 'application/octet-stream' },
    body: { length: blob.size, open: () => blob.open(0) },
  });
  await answer.discard();
}

/** PATCH until all is there, then PUT. What broke off is asked for and continued. */
async function session(
  client: Client,
  endpoint: Endpoint,
  blob: Upload,
  first: URL,
  common: Common,
): Promise<void> {
  let place = first;
  let at = 0;
  let before = 0;
  let broken = false;
  await client.retrying(
    async () => {
      if (broken) ({ place, at } = await askPlace(client, endpoint, place, at, common));
      broken = true;
      if (at < blob.size) {
        const answer = await client.once(endpoint, {
          ...common,
          method: 'PATCH',
          to: place,
          headers: {
            'content-type': 'application/octet-stream',
            ...(at === 0 ? {} : { 'content-range': `${at}-${blob.size - 1}` }),
          },
          body: { length: blob.size - at, open: () => blob.open(at) },
        });
        place = await placeOf(answer, common.what);
        at = blob.size;
      }
    },
    {
      signal: blob.signal,
      progressed: () => {
        const more = at > before;
        before = at;
        return more;
      },
    },
  );
  await client.retrying(
    async () => {
      const answer = await client.once(endpoint, {
        ...common,
        method: 'PUT',
        to: closing(place, blob.digest),
        headers: { 'content-length': '0' },
      });
      await answer.discard();
    },
    { signal: blob.signal },
  );
}

/** How much of an upload the registry has. */
async function askPlace(
  client: Client,
  endpoint: Endpoint,
  place: URL,
  at: number,
  common: Common,
): Promise<{ place: URL; at: number }> {
  const answer = await client.once(endpoint, { ...common, method: 'GET', to: place });
  const range = /^(?:bytes=)?0-([0-9]{1,15})$/.exec(answer.header('range') ?? '');
  const next = await placeOf(answer, common.what, place);
  // `0-0` is what distribution says of an empty upload, too: then all is sent again from the start of it.
  const known = range === null || range[1] === '0' ? 0 : Number(range[1]) + 1;
  if (known < at) {
    throw new RegistryError('absent', `${common.what}: the registry has lost a part of the upload`);
  }
  return { place: next, at: known };
}

async function placeOf(answer: Answer, what: string, otherwise?: URL): Promise<URL> {
  const location = answer.header('location');
  await answer.discard();
  if (location === undefined && otherwise !== undefined) return otherwise;
  try {
    const place = new URL(location ?? '', answer.url);
    if (
      location === undefined ||
      (place.protocol !== answer.url.protocol && place.protocol !== 'https:')
    ) {
      throw new Error('no place of the same protection');
    }
    return place;
  } catch (cause) {
    throw new RegistryError('wrong', `${what}: the registry does not say where to upload`, {
      cause,
    });
  }
}

function closing(place: URL, digest: string): URL {
  const url = new URL(place);
  url.searchParams.set('digest', digest);
  return url;
}
