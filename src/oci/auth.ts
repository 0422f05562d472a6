// Who we are for a registry: answers the challenges of 401 with Basic or with a token of its token service.
// Used by client.ts; credentials.ts knows the passwords.
// Follows: RFC 9110 (11.6.1), RFC 7617, distribution's token authentication (also with OAuth 2 refresh tokens).

import { type Credentials, findCredentials } from './credentials.js';
import { shown } from './digest.js';
import { RegistryError } from './errors.js';
import { parseJson } from './manifest.js';
import { type Answer, bodyOf, type HttpRequest } from './transport.js';

/** Sends a request; no attempts of its own. */
type Send = (request: HttpRequest) => Promise<Answer>;

export interface AuthOptions {
  authFile?: string;
  env: NodeJS.ProcessEnv;
  helpers: readonly string[];
  send: Send;
}

/** Whom a request is for. */
export interface Audience {
  /** Scheme, host and port: `https://host:port`. */
  origin: string;
  /** As references name it: the key of credentials. */
  registry: string;
  repository: string;
  /** `repository:NAME:pull,push`, one or more. */
  scopes: readonly string[];
}

interface Token {
  header: string;
  /** Milliseconds since 1970 after which it is not used any more. */
  until: number;
}

export interface Challenge {
  /** In lower case. */
  scheme: string;
  parameters: Record<string, string>;
}

const ANSWER_BYTES = 1024 * 1024;
/** What a token service that says nothing means, in seconds. */
const DEFAULT_LIFE = 60;
const CLIENT = 'varve';

export class Auth {
  private readonly options: AuthOptions;
  /** By audience: what to send without being asked. */
  private readonly tokens = new Map<string, Token>();
  private readonly underWay = new Map<string, Promise<string | undefined>>();

  constructor(options: AuthOptions) {
    this.options = options;
  }

  /** The value of Authorization for a request, when one is known. */
  header(audience: Audience): string | undefined {
    const token = this.tokens.get(keyOf(audience));
    return token !== undefined && token.until > Date.now() ? token.header : undefined;
  }

  /**
   * After a 401.
   *
   * @param challenges the values of WWW-Authenticate
   * @param refused what was sent, and was not enough
   * @returns what to send instead; undefined when there is nothing else
   * @throws RegistryError `auth`, `refused`, `network`, `busy`
   */
  async answer(
    audience: Audience,
    challenges: string | undefined,
    refused: string | undefined,
  ): Promise<string | undefined> {
    const key = keyOf(audience);
    const known = this.header(audience);
    // Somebody else has got a new one in the meantime.
    if (known !== undefined && known !== refused) return known;
    this.tokens.delete(key);
    let promise = this.underWay.get(key);
    if (promise === undefined) {
      // For all who wait for it, so none of their signals ends it.
      promise = this.ask(audience, challenges).finally(() => this.underWay.delete(key));
      this.underWay.set(key, promise);
    }
    const found = await promise;
    return found === refused ? undefined : found;
  }

  private async ask(audience: Audience, text: string | undefined): Promise<string | undefined> {
    const challenges = parseChallenges(text ?? '');
    const bearer = challenges.find(({ scheme }) => scheme === 'bearer');
    const basic = challenges.find(({ scheme }) => scheme === 'basic');
    if (bearer === undefined && basic === undefined) return undefined;
    const credentials = await findCredentials({ ...this.options, ...audience });
    const token =
      bearer !== undefined
        ? await this.bearer(audience, bearer, credentials)
        : basicToken(credentials);
    if (token === undefined) return undefined;
    this.tokens.set(keyOf(audience), token);
    return token.header;
  }

  private async bearer(
    audience: Audience,
    challenge: Challenge,
    credentials: Credentials | undefined,
  ): Promise<Token> {
    if (credentials?.registryToken !== undefined)
      return lasting(`Bearer ${credentials.registryToken}`);
    const realm = realmOf(audience, challenge);
    const scopes = joinScopes(audience.scopes, challenge.parameters['scope']);
    const service = challenge.parameters['service'];
    const request =
      credentials?.identityToken === undefined
        ? passwordRequest(realm, service, scopes, credentials)
        : refreshRequest(realm, service, scopes, credentials.identityToken);
    const answer = await this.options.send(request);
    const what = `the token service ${realm.host} of ${audience.registry}`;
    if (answer.status !== 200) {
      await answer.discard();
      if (answer.status === 429 || answer.status >= 500) {
        throw new RegistryError('busy', `${what} answers with ${answer.status}`, {
          status: answer.status,
          ...retryAfterOf(answer),
        });
      }
      const who = credentials === undefined ? 'an anonymous client' : 'the credentials it was sent';
      throw new RegistryError('auth', `${what} refuses ${who} (${answer.status})`, {
        status: answer.status,
      });
    }
    return readToken(parseJson(await answer.bytes(ANSWER_BYTES, what), what), what);
  }
}

/** Seconds of Retry-After, which is a number or a date. */
export function retryAfterOf(answer: Answer): { retryAfter?: number } {
  const text = answer.header('retry-after');
  if (text === undefined) return {};
  if (/^[0-9]{1,9}$/.test(text)) return { retryAfter: Number(text) };
  const date = Date.parse(text);
  return Number.isNaN(date)
    ? {}
    : { retryAfter: Math.max(0, Math.ceil((date - Date.now()) / 1000)) };
}

/** Reads one or more values of WWW-Authenticate. */
export function parseChallenges(text: string): Challenge[] {
  const challenges: Challenge[] = [];
  const piece =
    /[\s,]*(?:([A-Za-z0-9!#$%&'*+.^_`|~-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))|([A-Za-z0-9!#$%&'*+.^_`|~-]+)(?=\s|,|$))/y;
  for (let found = piece.exec(text); found !== null; found = piece.exec(text)) {
    const [whole, name, quoted, bare, scheme] = found;
    if (whole === '') break;
    if (scheme !== undefined) challenges.push({ scheme: scheme.toLowerCase(), parameters: {} });
    else {
      const value = quoted === undefined ? (bare ?? '') : quoted.replaceAll(/\\(.)/g, '$1');
      const current = challenges.at(-1);
      if (current !== undefined) current.parameters[name!.toLowerCase()] = value;
    }
  }
  return challenges;
}

function keyOf(audience: Audience): string {
  return `${audience.origin} ${audience.scopes.join(' ')}`;
}

function lasting(header: string): Token {
  return { header, until: Number.POSITIVE_INFINITY };
}

function basicToken(credentials: Credentials | undefined): Token | undefined {
  const header = basicHeader(credentials);
  return header === undefined ? undefined : lasting(header);
}

function basicHeader(credentials: Credentials | undefined): string | undefined {
  if (credentials?.password === undefined) return undefined;
  const text = `${credentials.username ?? ''}:${credentials.password}`;
  return `Basic ${Buffer.from(text, 'utf8').toString('base64')}`;
}

function realmOf(audience: Audience, challenge: Challenge): URL {
  const text = challenge.parameters['realm'] ?? '';
  let realm: URL;
  try {
    realm = new URL(text);
  } catch (cause) {
    throw new RegistryError('wrong', `${audience.registry}: '${shown(text)}' is no token service`, {
      cause,
    });
  }
  if (
    realm.protocol !== 'https:' &&
    !(realm.protocol === 'http:' && audience.origin.startsWith('http:'))
  ) {
    throw new RegistryError(
      'refused',
      `${audience.registry} wants credentials sent to ${shown(realm.origin)}, which is not protected by TLS`,
    );
  }
  realm.username = '';
  realm.password = '';
  return realm;
}

/** Ours and the registry's: some registries know a repository by another name than the one in the path. */
function joinScopes(own: readonly string[], told: string | undefined): string[] {
  const scopes = new Set(own);
  for (const scope of told?.split(' ') ?? []) {
    // Ours may allow more of the same repository.
    const name = scope.slice(0, scope.lastIndexOf(':'));
    if (scope !== '' && !own.some((mine) => mine.startsWith(`${name}:`))) scopes.add(scope);
  }
  return [...scopes];
}

function passwordRequest(
  realm: URL,
  service: string | undefined,
  scopes: readonly string[],
  credentials: Credentials | undefined,
): HttpRequest {
  const url = new URL(realm);
  if (service !== undefined) url.searchParams.set('service', service);
  for (const scope of scopes) url.searchParams.append('scope', scope);
  const header = basicHeader(credentials);
  if (header !== undefined && credentials?.username) {
    url.searchParams.set('account', credentials.username);
  }
  return { method: 'GET', url, headers: header === undefined ? {} : { authorization: header } };
}

function refreshRequest(
  realm: URL,
  service: string | undefined,
  scopes: readonly string[],
  refreshToken: string,
): HttpRequest {
  const form = new URLSearchParams({
    grant_type: 'refresh_token',
    refresh_token: refreshToken,
    client_id: CLIENT,
    scope: scopes.join(' '),
    ...(service === undefined ? {} : { service }),
  });
  return {
    method: 'POST',
    url: realm,
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: bodyOf(Buffer.from(form.toString())),
  };
}

function readToken(document: unknown, what: string): Token {
  const fields = (document ?? {}) as Record<string, unknown>;
  const token = fields['token'] || fields['access_token'];
  if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token)) {
    throw new RegistryError('wrong', `${what} answers without a token`);
  }
  const told = fields['expires_in'];
  const life = typeof told === 'number' && told > 0 ? Math.max(told, DEFAULT_LIFE) : DEFAULT_LIFE;
  // A tenth earlier: the request has its own way to go.
  return { header: `Bearer ${token}`, until: Date.now() + life * 900 };
}
