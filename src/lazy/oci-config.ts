// The OCI configuration of an image: from one, and to one.
// Written by push/, read by pull/ from every image whatever its form.
// Follows: OCI image specification 1.1, config.md. Nothing that differs from push to push stands in it.

import type { Platform } from '../oci/manifest.js';
import type { RunConfig } from './image-record.js';

export const platformText = ({ os, architecture, variant }: Platform): string =>
  variant === undefined ? `${os}/${architecture}` : `${os}/${architecture}/${variant}`;

/** @param layers ids from the bottom. @returns the configuration as bytes: the same for the same. */
export function encodeConfig(
  config: RunConfig,
  platform: Platform,
  layers: readonly string[],
): Uint8Array {
  const { env, entrypoint, cmd, user, workdir, labels } = config;
  const run = {
    User: user,
    Env: env,
    Entrypoint: entrypoint,
    Cmd: cmd,
    WorkingDir: workdir,
    Labels: labels,
  };
  const { os, architecture, variant } = platform;
  const rootfs = { type: 'layers', diff_ids: layers };
  // What is undefined is left out.
  return Buffer.from(JSON.stringify({ architecture, variant, os, config: run, rootfs }));
}

/** What a configuration says, as far as it is used. */
export interface ImageConfig {
  readonly run: RunConfig;
  readonly platform: Platform | undefined;
  /** `rootfs.diff_ids` */
  readonly diffIds: readonly string[];
}

/** Reads a stranger's configuration. @throws Error that names the field. */
export function decodeConfig(bytes: Uint8Array): ImageConfig {
  let fields: Fields;
  try {
    fields = record(JSON.parse(Buffer.from(bytes).toString('utf8')), 'it');
  } catch (error) {
    if (error instanceof SyntaxError) throw new Error('it is no JSON');
    throw error;
  }
  const config = fields['config'] == null ? {} : record(fields['config'], 'config');
  const rootfs = fields['rootfs'] == null ? {} : record(fields['rootfs'], 'rootfs');
  const os = text(fields, 'os');
  const architecture = text(fields, 'architecture');
  const variant = text(fields, 'variant');
  const run = {
    env: texts(config, 'Env'),
    entrypoint: texts(config, 'Entrypoint'),
    cmd: texts(config, 'Cmd'),
    user: text(config, 'User'),
    workdir: text(config, 'WorkingDir'),
    labels: labels(config),
  };
  return {
    run: withoutUndefined(run) as RunConfig,
    platform:
      os === undefined || architecture === undefined
        ? undefined
        : { os, architecture, ...(variant !== undefined ? { variant } : {}) },
    diffIds: texts(rootfs, 'diff_ids') ?? [],
  };
}

type Fields = Record<string, unknown>;

function record(value: unknown, what: string): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields;
  throw new Error(`${what} is no object`);
}

/** Absent, null and empty are the same. */
function text(fields: Fields, name: string): string | undefined {
  const value = fields[name];
  if (value === undefined || value === null || value === '') return undefined;
  if (typeof value === 'string' && !value.includes('\0')) return value;
  throw new Error(`${name} is no text`);
}

function texts(fields: Fields, name: string): string[] | undefined {
  const value = fields[name];
  if (value === undefined || value === null) return undefined;
  const isText = (one: unknown) => typeof one === 'string' && !one.includes('\0');
  if (Array.isArray(value) && value.every(isText)) return value as string[];
  throw new Error(`${name} is no list of texts`);
}

function labels(fields: Fields): Record<string, string> | undefined {
  if (fields['Labels'] == null) return undefined;
  const found = record(fields['Labels'], 'Labels');
  if (Object.values(found).every((value) => typeof value === 'string')) {
    return found as Record<string, string>;
  }
  throw new Error('Labels are no texts');
}

const withoutUndefined = (fields: object): object =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
