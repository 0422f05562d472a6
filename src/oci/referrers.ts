// Manifests that name another one as their `subject`, as a registry lists them, and the tag that clients keep where it does not.
// Used by registry.ts, which asks mirrors and registry in turn.
// Follows: OCI distribution specification 1.1, "Listing referrers" and "Referrers tag schema".

import type { Client } from './client.js';
import type { Endpoint } from './endpoint.js';
import {
  type Descriptor,
  isIndex,
  MANIFEST_BYTES,
  MEDIA_TYPES,
  parseManifest,
} from './manifest.js';

/** Pages of a list that are read at most. */
const MOST_PAGES = 16;

/**
 * @param path below the repository: `referrers/sha256:HEX`, with a query where only one type is wanted
 * @returns undefined when the registry keeps no such list
 */
export async function listReferrers(
  client: Client,
  endpoint: Endpoint,
  path: string,
  what: string,
): Promise<Descriptor[] | undefined> {
  const list: Descriptor[] = [];
  let to: string | URL = path;
  for (let page = 0; page < MOST_PAGES; page++) {
    const answer = await client.once(endpoint, {
      method: 'GET',
      to,
      actions: 'pull',
      headers: { accept: MEDIA_TYPES.ociIndex },
      what,
      allow: [400, 404, 405],
    });
    const contentType = answer.header('content-type')?.split(';')[0];
    if (answer.status !== 200 || contentType !== MEDIA_TYPES.ociIndex) {
      await answer.discard();
      return page === 0 ? undefined : list;
    }
    const bytes = await answer.bytes(MANIFEST_BYTES, what);
    const index = parseManifest(bytes, contentType, what);
    if (isIndex(index)) list.push(...index.manifests);
    const next = /<([^>]+)>\s*;\s*rel="?next"?/.exec(answer.header('link') ?? '')?.[1];
    if (next === undefined) break;
    to = new URL(next, answer.url);
  }
  return list;
}

/** The tag under which clients keep the list of a manifest's referrers. @param digest of the manifest */
export function referrersTag(digest: string): string {
  return digest.replace(':', '-').slice(0, 128);
}
