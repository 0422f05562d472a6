// Manifests and indexes: what they may contain, and which image of several is meant.
// Bytes of a stranger become data here, checked field by field; registry.ts fetches them.
// Follows: OCI image specification 1.1 (manifest.md, image-index.md, descriptor.md), Docker image manifest v2 schema 2.

import { checkDigest, shown } from './digest.js';
import { RegistryError } from './errors.js';

export interface Platform {
  os: string;
  architecture: string;
  variant?: string;
}

export interface Descriptor {
  mediaType: string;
  /** `sha256:HEX` or `sha512:HEX`. */
  digest: string;
  /** Bytes. */
  size: number;
  annotations?: Record<string, string>;
  urls?: string[];
  platform?: Platform;
  artifactType?: string;
}

/** An image or an artifact. */
export interface Manifest {
  schemaVersion: 2;
  mediaType: string;
  artifactType?: string;
  config: Descriptor;
  layers: Descriptor[];
  subject?: Descriptor;
  annotations?: Record<string, string>;
}

/** Several images of one name. */
export interface Index {
  schemaVersion: 2;
  mediaType: string;
  artifactType?: string;
  manifests: Descriptor[];
  subject?: Descriptor;
  annotations?: Record<string, string>;
}

export const MEDIA_TYPES = {
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  ociEmpty: 'application/vnd.oci.empty.v1+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerList: 'application/vnd.docker.distribution.manifest.list.v2+json',
} as const;

/** What is asked for when nobody says otherwise. */
export const ACCEPTED: readonly string[] = [
  MEDIA_TYPES.ociManifest,
  MEDIA_TYPES.ociIndex,
  MEDIA_TYPES.dockerManifest,
  MEDIA_TYPES.dockerList,
];

/** Limits of what is accepted from a registry. */
export const MANIFEST_BYTES = 4 * 1024 * 1024;
const LAYERS = 4096;
const INDEX_ENTRIES = 1024;

export function isIndex(document: Manifest | Index): document is Index {
  return 'manifests' in document;
}

/**
 * @param bytes of a manifest or index
 * @param contentType what the registry calls it; undefined where nobody said
 * @param what the name for messages
 * @throws RegistryError `wrong` for other forms, `limit` for too many entries, `refused` for layers that are to come from elsewhere
 */
export function parseManifest(
  bytes: Uint8Array,
  contentType: string | undefined,
  what: string,
): Manifest | Index {
  if (bytes.length > MANIFEST_BYTES) {
    throw new RegistryError(
      'limit',
      `${what}: the manifest is larger than ${MANIFEST_BYTES} bytes`,
    );
  }
  const fields = asObject(parseJson(bytes, what), what);
  const mediaType = mediaTypeOf(fields, contentType, what);
  if (fields['schemaVersion'] !== 2) {
    throw wrong(what, `schemaVersion ${shown(fields['schemaVersion'])} is not supported, only 2`);
  }
  const index = mediaType === MEDIA_TYPES.ociIndex || mediaType === MEDIA_TYPES.dockerList;
  // A document that could be read as either would mean one thing here and another elsewhere.
  if (index ? 'layers' in fields || 'config' in fields : 'manifests' in fields) {
    throw wrong(what, 'it is a manifest and an index at once');
  }
  const common = {
    schemaVersion: 2 as const,
    mediaType,
    ...optional('artifactType', optionalText(fields['artifactType'], `${what}, artifactType`)),
    ...optional(
      'subject',
      fields['subject'] === undefined
        ? undefined
        : descriptor(fields['subject'], `${what}, subject`),
    ),
    ...optional('annotations', annotations(fields['annotations'], what)),
  };
  if (index) {
    return { ...common, manifests: descriptors(fields['manifests'], INDEX_ENTRIES, what) };
  }
  const layers = descriptors(fields['layers'], LAYERS, `${what}, layers`);
  const config = descriptor(fields['config'], `${what}, config`);
  for (const entry of [config, ...layers]) {
    if (entry.urls !== undefined && entry.urls.length > 0) {
      throw new RegistryError(
        'refused',
        `${what}: layer ${entry.digest} is to be fetched from ${shown(entry.urls[0])}; Varve takes layers only from the registry itself`,
      );
    }
  }
  return { ...common, config, layers };
}

/** @throws RegistryError `wrong` */
export function parseJson(bytes: Uint8Array, what: string): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new RegistryError('wrong', `${what}: it is no JSON`, { cause });
  }
}

/** @throws RegistryError `refused` for a text that is no OS/ARCH[/VARIANT] */
export function parsePlatform(text: string): Platform {
  const [os, architecture, variant, ...more] = text.split('/');
  if (!os || !architecture || variant === '' || more.length > 0) {
    throw new RegistryError(
      'refused',
      `'${text}' is no platform; write linux/amd64 or linux/arm/v7`,
    );
  }
  return { os, architecture, ...(variant === undefined ? {} : { variant }) };
}

/** Names of Node for which Go, whose names manifests use, has others. */
const ARCHITECTURES: Record<string, string> = {
  x64: 'amd64',
  ia32: '386',
  mipsel: 'mipsle',
  ppc64: 'ppc64le',
};

/** This machine. */
export function hostPlatform(): Platform {
  return { os: 'linux', architecture: ARCHITECTURES[process.arch] ?? process.arch };
}

/**
 * The entry of an index that fits a platform: its own variant first, then one without a variant, then
 * the newest older one (arm/v6 on v7), then, where no variant was asked for, the first of the architecture.
 *
 * @throws RegistryError `absent` when none fits; names those that are there
 */
export function selectPlatform(index: Index, wanted: Platform, what: string): Descriptor {
  const fits = index.manifests.filter(
    ({ platform }) => platform?.os === wanted.os && platform.architecture === wanted.architecture,
  );
  const variant = wanted.variant ?? defaultVariant(wanted.architecture);
  const found =
    fits.find(({ platform }) => platform?.variant === variant) ??
    fits.find(({ platform }) => platform?.variant === undefined) ??
    newest(fits.filter(({ platform }) => level(platform?.variant) < level(variant))) ??
    (wanted.variant === undefined ? fits[0] : undefined);
  if (found === undefined) {
    const there = index.manifests
      .map(({ platform }) => platform)
      .filter((platform) => platform !== undefined && platform.os !== 'unknown')
      .map((platform) => shown(platformText(platform!)));
    throw new RegistryError(
      'absent',
      `${what}: no image for ${platformText(wanted)}; there ${there.length === 1 ? 'is' : 'are'} ${there.slice(0, 20).join(', ') || 'none with a platform'}`,
    );
  }
  return found;
}

export function platformText({ os, architecture, variant }: Platform): string {
  return [os, architecture, variant].filter((part) => part !== undefined).join('/');
}

function defaultVariant(architecture: string): string | undefined {
  if (architecture === 'arm64') return 'v8';
  return architecture === 'arm' ? 'v7' : undefined;
}

/** v6 -> 6; variants of other forms have no order. */
function level(variant: string | undefined): number {
  const number = /^v([0-9]{1,2})$/.exec(variant ?? '')?.[1];
  return number === undefined ? Number.NaN : Number(number);
}

function newest(entries: Descriptor[]): Descriptor | undefined {
  return entries.toSorted((a, b) => level(b.platform?.variant) - level(a.platform?.variant))[0];
}

function mediaTypeOf(
  fields: Record<string, unknown>,
  contentType: string | undefined,
  what: string,
): string {
  const inside = optionalText(fields['mediaType'], `${what}, mediaType`);
  const outside = contentType?.split(';')[0]?.trim();
  const told = outside === undefined || !ACCEPTED.includes(outside) ? undefined : outside;
  if (inside !== undefined && told !== undefined && inside !== told) {
    throw wrong(what, `it calls itself ${shown(inside)}, the registry calls it ${told}`);
  }
  const type = inside ?? told;
  if (type === undefined) {
    // OCI 1.0 allowed a manifest without mediaType; some registries then say application/json.
    return 'manifests' in fields ? MEDIA_TYPES.ociIndex : MEDIA_TYPES.ociManifest;
  }
  if (!ACCEPTED.includes(type)) {
    throw wrong(what, `${shown(type)} is not supported, only OCI and Docker schema 2`);
  }
  return type;
}

function descriptors(value: unknown, most: number, what: string): Descriptor[] {
  if (!Array.isArray(value)) throw wrong(what, 'there is no list of descriptors');
  if (value.length > most) {
    throw new RegistryError('limit', `${what}: ${value.length} entries, more than ${most}`);
  }
  return value.map((entry, at) => descriptor(entry, `${what} ${at}`));
}

function descriptor(value: unknown, what: string): Descriptor {
  const fields = asObject(value, what);
  const { mediaType, size } = fields;
  if (typeof mediaType !== 'string' || mediaType === '') throw wrong(what, 'no mediaType');
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) {
    throw wrong(what, `${shown(size)} is no size`);
  }
  return {
    mediaType,
    digest: checkDigest(fields['digest'], what),
    size,
    ...optional('annotations', annotations(fields['annotations'], what)),
    ...optional('urls', texts(fields['urls'], `${what}, urls`)),
    ...optional('platform', platform(fields['platform'], `${what}, platform`)),
    ...optional('artifactType', optionalText(fields['artifactType'], `${what}, artifactType`)),
  };
}

function platform(value: unknown, what: string): Platform | undefined {
  if (value === undefined || value === null) return undefined;
  const { os, architecture, variant } = asObject(value, what);
  return {
    os: optionalText(os, what) ?? '',
    architecture: optionalText(architecture, what) ?? '',
    ...optional('variant', optionalText(variant, what) || undefined),
  };
}

function annotations(value: unknown, what: string): Record<string, string> | undefined {
  if (value === undefined || value === null) return undefined;
  const fields = asObject(value, `${what}, annotations`);
  for (const [key, text] of Object.entries(fields)) {
    if (typeof text !== 'string') throw wrong(what, `annotation ${shown(key)} is no text`);
  }
  return fields as Record<string, string>;
}

function texts(value: unknown, what: string): string[] | undefined {
  if (value === undefined || value === null) return undefined;
  if (!Array.isArray(value) || value.some((text) => typeof text !== 'string')) {
    throw wrong(what, 'no list of texts');
  }
  return value;
}

function optionalText(value: unknown, what: string): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'string') throw wrong(what, 'no text');
  return value;
}

function asObject(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw wrong(what, 'no object');
  }
  return value as Record<string, unknown>;
}

function optional<K extends string, V>(key: K, value: V | undefined): { [P in K]?: V } {
  return value === undefined ? {} : ({ [key]: value } as { [P in K]?: V });
}

function wrong(what: string, why: string): RegistryError {
  return new RegistryError('wrong', `${what}: ${why}`);
}
