// Keys and certificates for openssl and sbsign: what was given, whether it fits, and where a passphrase comes from.
// Called by sign.ts and uki.ts. A private key is only ever read by openssl and sbsign.
// Follows: openssl-passphrase-options(1ssl), RFC 7512 (pkcs11: URIs, by the engine pkcs11).

import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { MountError, reasonOf } from '../../stack/errors.js';
import { runTool, type ToolOptions, type ToolResult } from '../run-tool.js';

export interface KeyRequest {
  /** PEM file, or a `pkcs11:` URI. */
  readonly key: string;
  /** PEM file; its first certificate counts. */
  readonly cert: string;
  /** Where the passphrase of the key is, as openssl says it: `pass:`, `env:`, `file:`, `fd:` and a value, or `stdin`. */
  readonly passin?: string;
}

export interface SigningKey extends KeyRequest {
  readonly certificate: X509Certificate;
  readonly isToken: boolean;
  /** undefined: it has none. */
  readonly passphrase: string | undefined;
  /** Problems that do not stop anything. */
  readonly remarks: readonly string[];
}

/** The variable that hands a passphrase to openssl: other users see arguments, not this. */
const PASSPHRASE = 'VARVE_PASSPHRASE';
const TOKEN = 'pkcs11:';

/** @throws MountError for what cannot be read or used, and for a key that is not that of the certificate. */
export async function openKey(request: KeyRequest): Promise<SigningKey> {
  const { key, cert, passin } = request;
  const certificate = readCertificate(cert);
  const isToken = key.startsWith(TOKEN);
  const passphrase = passin === undefined ? undefined : passphraseOf(passin);
  const opened = {
    ...request,
    certificate,
    isToken,
    passphrase,
    remarks: datesOf(certificate, cert),
  };
  if (isToken) return opened;
  const text = readPem(key, 'key');
  if (!/-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----/.test(text))
    throw new MountError('option', `${key}: is no private key in PEM form`);
  if (/ENCRYPTED/.test(text) && passphrase === undefined)
    throw new MountError('option', `${key}: has a passphrase: say where it is by --passin`);
  let own: Buffer;
  try {
    const shown = await withKey(
      'openssl',
      ['pkey', '-in', key, '-pubout', ...passArguments(opened)],
      opened,
    );
    own = shown.stdout;
  } catch (error) {
    const hint =
      passphrase === undefined ? 'it is damaged' : 'it is damaged, or the passphrase is another';
    throw new MountError('option', `${key}: cannot be opened: ${hint}`, { cause: error });
  }
  const wanted = certificate.publicKey.export({ type: 'spki', format: 'pem' });
  if (own.toString().trim() !== wanted.toString().trim())
    throw new MountError('option', `${key}: is not the key of the certificate ${cert}`);
  return opened;
}

/** @throws MountError of kind `option`. */
export function readCertificate(path: string): X509Certificate {
  const text = readPem(path, 'certificate');
  try {
    return new X509Certificate(text);
  } catch (error) {
    const message = `${path}: is no certificate in PEM form`;
    throw new MountError('option', message, { cause: error });
  }
}

/** SHA-256 of a certificate, as people compare it. */
export const fingerprint = (certificate: X509Certificate): string =>
  certificate.fingerprint256.replaceAll(':', '').toLowerCase();

/** Every certificate of a PEM text. @throws what node:crypto throws for a damaged one. */
export function certificatesIn(pem: Uint8Array): X509Certificate[] {
  const text = Buffer.from(pem).toString('latin1');
  const found = text.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  return found.map((one) => new X509Certificate(one));
}

/** How openssl is told of the passphrase. */
export const passArguments = ({ passphrase }: SigningKey): string[] =>
  passphrase === undefined ? [] : ['-passin', `env:${PASSPHRASE}`];

/** Runs a program that may ask for the passphrase in its environment. */
export function withKey(
  name: string,
  args: readonly string[],
  { passphrase }: SigningKey,
  options: ToolOptions = {},
): Promise<ToolResult> {
  const env = passphrase === undefined ? process.env : { ...process.env, [PASSPHRASE]: passphrase };
  return runTool(name, args, { ...options, env });
}

function datesOf(certificate: X509Certificate, path: string): string[] {
  const now = Date.now();
  if (Date.parse(certificate.validTo) < now)
    return [`${path}: the certificate has expired (${certificate.validTo}): make a new one`];
  if (Date.parse(certificate.validFrom) > now)
    return [`${path}: the certificate is not valid before ${certificate.validFrom}`];
  return [];
}

function passphraseOf(source: string): string {
  const [, kind = '', value = ''] = /^(pass|env|file|fd):(.*)$/s.exec(source) ?? [];
  const firstLine = (from: string | number): string => {
    try {
      return readFileSync(from, 'utf8').replace(/\r?\n.*$/s, '');
    } catch (error) {
      throw new MountError('option', `--passin ${source}: ${reasonOf(error)}`);
    }
  };
  if (source === 'stdin') return firstLine(0);
  switch (kind) {
    case 'pass':
      return value;
    case 'env': {
      const found = process.env[value];
      if (found !== undefined) return found;
      throw new MountError('option', `--passin ${source}: there is no such variable`);
    }
    case 'file':
      return firstLine(value);
    case 'fd':
      if (/^\d+$/.test(value)) return firstLine(Number(value));
  }
  // Not the value: it may be the passphrase.
  throw new MountError(
    'option',
    '--passin: must be pass:TEXT, env:VARIABLE, file:PATH, fd:NUMBER or stdin',
  );
}

function readPem(path: string, what: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch (error) {
    throw new MountError('option', `${path}: the ${what} cannot be read: ${reasonOf(error)}`);
  }
}
