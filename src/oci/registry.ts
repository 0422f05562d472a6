// The registry client: manifests and blobs of any OCI registry, read and pushed.
// What the rooms above use; how each request is made stands in client.ts, blobs.ts and push.ts.
// Follows: OCI distribution specification 1.1; registries.conf decides which hosts are asked for a reference.

import { beginDownload, readOn, readRange } from './blobs.js';
import { type Call, Client } from './client.js';
import { checkDigest, digestOf, verifyDigest } from './digest.js';
import type { Endpoint } from './endpoint.js';
import { RegistryError } from './errors.js';
import { tlsOf } from './host-tls.js';
import { type Clock, Limits, systemClock } from './limits.js';
import {
  ACCEPTED,
  type Descriptor,
  hostPlatform,
  type Index,
  isIndex,
  MANIFEST_BYTES,
  type Manifest,
  MEDIA_TYPES,
  type Platform,
  parseManifest,
  selectPlatform,
} from './manifest.js';
import { Mirrors, retriesOf } from './mirrors.js';
import { Places } from './places.js';
import { checkPolicy } from './policy.js';
import { mountFrom, upload } from './push.js';
import { formatReference, type Reference, withDigest, withTag } from './reference.js';
import { listReferrers, referrersTag } from './referrers.js';
import { loadRegistriesConf, type RegistriesConf } from './registries-conf.js';
import { candidatesOf } from './short-name.js';
import { bodyOf, Transport } from './transport.js';

export interface RegistryOptions {
  /** Registries are spoken to without TLS. */
  plainHttp?: boolean;
  /** The only file of credentials; without it those of containers-auth.json(5) and docker. */
  authFile?: string;
  /** The only policy.json; without it the user's, else the system's, else every image is accepted. */
  policyFile?: string;
  env?: NodeJS.ProcessEnv;
  /** Connections and bytes a second; the same object for all registries of a process. */
  limits?: Limits;
  /** A line for people whenever something is tried again. */
  log?: (line: string) => void;
  /** Ends everything that is under way. */
  signal?: AbortSignal;
  /** How often a request is tried again that may pass, 5 by default. */
  retries?: number;
  /** Milliseconds before the first of these, 300 by default; doubled each time. */
  pause?: number;
  /** Milliseconds without a byte after which a request counts as broken, 30,000 by default. */
  timeout?: number;
  clock?: Clock;
  /** Told when a registry has ignored which part of a blob was asked for: its digest, and the bytes in front that came for nothing. */
  onPassed?: (digest: string, bytes: number) => void;
}

/** A manifest or an index, its bytes verified against the digest of the descriptor. */
export interface FetchedManifest {
  descriptor: Descriptor;
  bytes: Buffer;
  manifest: Manifest | Index;
}

/** The manifest of one image. */
export interface FetchedImage extends FetchedManifest {
  manifest: Manifest;
  /** The index that it was chosen from, where there was one. */
  index?: FetchedManifest;
  /** The policy demands a signature, and there is one: nothing may be used that the manifest does not vouch for. */
  signed: boolean;
}

/** What processes share that do not say otherwise. */
const sharedLimits = new Limits();

export class Registry {
  private readonly options: RegistryOptions;
  private readonly conf: RegistriesConf;
  private readonly transport: Transport;
  private readonly client: Client;
  private readonly places: Places;
  private readonly mirrors: Mirrors;

  constructor(options: RegistryOptions = {}) {
    this.options = options;
    const env = options.env ?? process.env;
    this.conf = loadRegistriesConf(env);
    const clock = options.clock ?? systemClock;
    const log = options.log ?? (() => {});
    this.places = new Places(clock);
    this.transport = new Transport({
      limits: options.limits ?? sharedLimits,
      timeout: options.timeout ?? 30_000,
      env,
      tls: (host) => tlsOf(host, env),
    });
    this.client = new Client({
      transport: this.transport,
      authFile: options.authFile,
      env,
      helpers: this.conf.helpers,
      plainHttp: options.plainHttp === true,
      clock,
      retries: options.retries ?? 5,
      pause: options.pause ?? 300,
      log,
    });
    this.mirrors = new Mirrors({ conf: this.conf, client: this.client, clock, log });
    if (options.signal?.aborted) this.close();
    else options.signal?.addEventListener('abort', () => this.close(), { once: true });
  }

  /**
   * The reference that a name typed by a person stands for: aliases and registries to search as registries.conf
   * says, docker.io where it says nothing. Asks registries only when there is more than one.
   *
   * @throws RegistryError `refused` for what is no name or could be several, `absent` when nobody has it
   */
  async named(text: string): Promise<Reference> {
    const candidates = candidatesOf(this.conf, text);
    for (const ref of candidates.slice(0, -1)) {
      try {
        await this.resolve(ref);
        return ref;
      } catch (error) {
        // A registry that hides what is absent says that it is denied.
        if (!(error instanceof RegistryError) || !['absent', 'auth'].includes(error.kind))
          throw error;
      }
    }
    return candidates.at(-1)!;
  }

  /**
   * What a reference names now: asked for without the manifest itself where the registry allows it.
   * The digest is the registry's word; `manifest` verifies it.
   */
  async resolve(ref: Reference): Promise<Descriptor> {
    const what = `manifest ${nameOf(ref)}`;
    const found = await this.mirrors.each(ref, what, async (endpoint) => {
      const answer = await this.client.once(endpoint, {
        method: 'HEAD',
        to: `manifests/${ref.digest ?? ref.tag ?? 'latest'}`,
        actions: 'pull',
        headers: { accept: ACCEPTED.join(', ') },
        what,
        allow: [400, 405],
      });
      await answer.discard();
      const digest = answer.header('docker-content-digest') ?? ref.digest;
      const size = answer.number('content-length');
      const mediaType = answer.header('content-type')?.split(';')[0];
      if (answer.status >= 300 || digest === undefined || size === undefined) return undefined;
      if (mediaType === undefined || !ACCEPTED.includes(mediaType)) return undefined;
      if (ref.digest !== undefined && digest !== ref.digest) {
        throw new RegistryError('wrong', `${what}: the registry answers with another digest`);
      }
      return { mediaType, digest: checkDigest(digest, what), size };
    });
    return found ?? (await this.manifest(ref)).descriptor;
  }

  /**
   * The manifest or index that a reference names.
   *
   * @param accept media types, all that are understood by default
   */
  manifest(ref: Reference, accept: readonly string[] = ACCEPTED): Promise<FetchedManifest> {
    const what = `manifest ${nameOf(ref)}`;
    return this.mirrors.each(ref, what, async (endpoint) => {
      const answer = await this.client.once(endpoint, {
        method: 'GET',
        to: `manifests/${ref.digest ?? ref.tag ?? 'latest'}`,
        actions: 'pull',
        headers: { accept: accept.join(', ') },
        what,
      });
      const bytes = await answer.bytes(MANIFEST_BYTES, what);
      const told = answer.header('docker-content-digest');
      const digest = ref.digest ?? (told === undefined ? digestOf(bytes) : checkDigest(told, what));
      verifyDigest(bytes, digest, what);
      const manifest = parseManifest(bytes, answer.header('content-type'), what);
      const descriptor = { mediaType: manifest.mediaType, digest, size: bytes.length };
      return { descriptor, bytes, manifest };
    });
  }

  /**
   * The manifest of one image; of an index the one for a platform. For images that are to be used: policy.json
   * decides whether they may, by the name in the reference.
   *
   * @param platform this machine's by default
   * @throws RegistryError `policy`
   */
  async image(ref: Reference, platform: Platform = hostPlatform()): Promise<FetchedImage> {
    const fetched = await this.manifest(ref);
    const { manifest, descriptor, bytes, index } = await this.chosen(ref, fetched, platform);
    const signed = await this.accept(ref, descriptor, index?.descriptor);
    return { descriptor, bytes, manifest, signed, ...(index === undefined ? {} : { index }) };
  }

  /**
   * Whether policy.json lets an image be used that was not chosen by image().
   *
   * @param index that lists it
   * @returns FetchedImage's `signed`
   * @throws RegistryError `policy`
   */
  accept(ref: Reference, manifest: Descriptor, index?: Descriptor): Promise<boolean> {
    return checkPolicy(this, ref, manifest, {
      env: this.options.env ?? process.env,
      policyFile: this.options.policyFile,
      index,
    });
  }

  /**
   * A whole blob, asked for when it is first read. Its size and digest are verified before the last piece is given;
   * what broke off is continued. Read it or leave the loop: a started one holds a connection.
   */
  async blob(
    ref: Reference,
    descriptor: Descriptor,
    signal?: AbortSignal,
  ): Promise<AsyncIterable<Uint8Array>> {
    return this.download(ref, descriptor, signal);
  }

  /**
   * Exactly `length` bytes of a blob from `at` on. **Not verified**: only the whole blob has a digest.
   *
   * @throws RegistryError `range` when the registry gives no parts and the whole takes too long
   */
  async range(
    ref: Reference,
    descriptor: Descriptor,
    at: number,
    length: number,
    signal?: AbortSignal,
  ): Promise<Buffer> {
    const what = `blob ${descriptor.digest} of ${repositoryOf(ref)}`;
    checkDigest(descriptor.digest, what);
    if (at < 0 || length < 0 || at + length > descriptor.size) {
      throw new RegistryError('wrong', `${what}: bytes ${at} and ${length} more lie outside of it`);
    }
    if (length === 0) return Buffer.alloc(0);
    const patience = this.options.timeout ?? 30_000;
    return this.mirrors.each(
      ref,
      what,
      (endpoint) =>
        this.places.through(endpoint, descriptor.digest, (to) => {
          const call = { to, what, signal };
          return readRange(this.client, endpoint, descriptor, at, length, patience, call).then(
            (part) => {
              if (part.passed > 0) this.options.onPassed?.(descriptor.digest, part.passed);
              return part;
            },
          );
        }),
      signal,
    );
  }

  async hasBlob(ref: Reference, digest: string): Promise<boolean> {
    return this.hasAt(
      this.mirrors.home(ref),
      digest,
      'pull',
      `blob ${digest} of ${repositoryOf(ref)}`,
    );
  }

  /**
   * Makes a blob of another repository of the same registry one of this repository, without moving it.
   *
   * @param from the other repository's name
   * @returns false when the registry would rather have it pushed
   */
  async mountBlob(ref: Reference, digest: string, from: string): Promise<boolean> {
    const what = `blob ${digest} of ${repositoryOf(ref)}`;
    return mountFrom(this.client, this.mirrors.home(ref), checkDigest(digest, what), from, what);
  }

  /**
   * Pushes a blob unless the repository has it. What broke off is continued.
   *
   * @param size bytes
   * @param open the content from a position on; called again after a failure
   */
  async pushBlob(
    ref: Reference,
    digest: string,
    size: number,
    open: (from: number) => AsyncIterable<Uint8Array>,
    signal?: AbortSignal,
  ): Promise<void> {
    const what = `blob ${digest} of ${repositoryOf(ref)}`;
    const endpoint = this.mirrors.home(ref);
    // With the right to push: who may only read learns nothing of a repository that is not there yet.
    if (await this.hasAt(endpoint, digest, 'pull,push', what, signal)) return;
    await upload(this.client, endpoint, { digest, size, open, signal, what });
  }

  /**
   * Pushes a manifest under the tag of the reference, or under its digest alone. A manifest with a `subject` is
   * added to the list of the subject's referrers, where the registry keeps none by itself.
   *
   * @returns its digest
   */
  async pushManifest(ref: Reference, bytes: Uint8Array, mediaType: string): Promise<string> {
    const what = `manifest ${nameOf(ref)}`;
    const digest = digestOf(bytes, ref.digest);
    if (ref.digest !== undefined) verifyDigest(bytes, ref.digest, what);
    const manifest = parseManifest(bytes, mediaType, what);
    const endpoint = this.mirrors.home(ref);
    const listed = await this.client.retrying(async () => {
      const answer = await this.client.once(endpoint, {
        method: 'PUT',
        to: `manifests/${ref.tag ?? digest}`,
        actions: 'pull,push',
        headers: { 'content-type': mediaType },
        body: bodyOf(bytes),
        what,
      });
      await answer.discard();
      const told = answer.header('docker-content-digest');
      if (told !== undefined && told !== digest) {
        throw new RegistryError('wrong', `${what}: the registry has stored ${told}, not ${digest}`);
      }
      return answer.header('oci-subject') === manifest.subject?.digest;
    });
    if (manifest.subject !== undefined && !listed) {
      await this.addReferrer(ref, manifest.subject.digest, {
        mediaType,
        digest,
        size: bytes.length,
        artifactType:
          manifest.artifactType ?? ('config' in manifest ? manifest.config.mediaType : ''),
        ...(manifest.annotations === undefined ? {} : { annotations: manifest.annotations }),
      });
    }
    return digest;
  }

  /**
   * The manifests that name a manifest as their `subject`: by the registry's own list, else by the tag that
   * clients keep instead.
   */
  async referrers(ref: Reference, digest: string, artifactType?: string): Promise<Descriptor[]> {
    const what = `referrers of ${digest} in ${repositoryOf(ref)}`;
    checkDigest(digest, what);
    const query = artifactType === undefined ? '' : `?${new URLSearchParams({ artifactType })}`;
    const found = await this.mirrors.each(ref, what, (endpoint) =>
      listReferrers(this.client, endpoint, `referrers/${digest}${query}`, what),
    );
    const list = found ?? (await this.taggedReferrers(ref, digest));
    return list.filter(
      (entry) => artifactType === undefined || entry.artifactType === artifactType,
    );
  }

  /** Ends all requests and connections. */
  close(): void {
    this.transport.close();
  }

  private async chosen(
    ref: Reference,
    fetched: FetchedManifest,
    platform: Platform,
  ): Promise<Omit<FetchedImage, 'signed'>> {
    const { manifest } = fetched;
    if (!isIndex(manifest)) return { ...fetched, manifest };
    const what = `manifest ${nameOf(ref)}`;
    const entry = selectPlatform(manifest, platform, what);
    const inner = await this.manifest(withDigest(ref, entry.digest));
    // An index in an index could go on for ever, and no registry's images need it.
    if (isIndex(inner.manifest)) {
      throw new RegistryError('wrong', `${what}: the entry ${entry.digest} is an index again`);
    }
    return { ...inner, manifest: inner.manifest, index: fetched };
  }

  private hasAt(
    endpoint: Endpoint,
    digest: string,
    actions: Call['actions'],
    what: string,
    signal?: AbortSignal,
  ): Promise<boolean> {
    const to = `blobs/${checkDigest(digest, what)}`;
    const call = { method: 'HEAD', to, actions, what, signal, allow: [404] } as const;
    return this.client.retrying(
      async () => {
        const answer = await this.client.once(endpoint, call);
        await answer.discard();
        return answer.status !== 404;
      },
      { signal },
    );
  }

  private async *download(
    ref: Reference,
    descriptor: Descriptor,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Uint8Array, void, void> {
    const what = `blob ${descriptor.digest} of ${repositoryOf(ref)}`;
    checkDigest(descriptor.digest, what);
    const download = beginDownload(descriptor);
    for (const endpoint of this.mirrors.usable(ref, what)) {
      const retries = retriesOf(endpoint);
      for (let attempt = 0; ; attempt++) {
        const before = download.at;
        try {
          yield* readOn(this.client, endpoint, descriptor, download, { what, signal });
          return;
        } catch (error) {
          if (download.at > before) attempt = 0;
          const given = await this.client
            .pauseAfter(error, attempt, { signal, retries })
            .catch((reason: unknown) => ({ reason }));
          if (given === undefined) continue;
          this.mirrors.leave(endpoint, what, given.reason);
          // Wrong bytes were given away already: another endpoint cannot make them right.
          if (isWrong(given.reason) && download.at > 0) throw given.reason;
          break;
        }
      }
    }
  }

  private async taggedReferrers(ref: Reference, digest: string): Promise<Descriptor[]> {
    try {
      const { manifest } = await this.manifest(withTag(ref, referrersTag(digest)));
      return isIndex(manifest) ? manifest.manifests : [];
    } catch (error) {
      if (error instanceof RegistryError && error.kind === 'absent') return [];
      throw error;
    }
  }

  private async addReferrer(ref: Reference, subject: string, entry: Descriptor): Promise<void> {
    const list = await this.taggedReferrers(ref, subject);
    if (list.some(({ digest }) => digest === entry.digest)) return;
    const index = {
      schemaVersion: 2,
      mediaType: MEDIA_TYPES.ociIndex,
      manifests: [...list, entry],
    };
    const bytes = Buffer.from(JSON.stringify(index));
    await this.pushManifest(withTag(ref, referrersTag(subject)), bytes, MEDIA_TYPES.ociIndex);
  }
}

function nameOf(ref: Reference): string {
  return formatReference(ref);
}

function repositoryOf(ref: Reference): string {
  return `${ref.registry}/${ref.repository}`;
}

function isWrong(error: unknown): boolean {
  return error instanceof RegistryError && error.kind === 'wrong';
}
