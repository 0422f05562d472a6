// Requests to registries: address, credentials, what a status means, and how often something is tried.
// Between registry.ts, which knows the operations, and transport.ts, which knows HTTP.
// Follows: OCI distribution specification 1.1 (errors, authentication as Docker's registries do it).

import { Auth, retryAfterOf } from './auth.js';
import { shown } from './digest.js';
import type { Endpoint } from './endpoint.js';
import { RegistryError } from './errors.js';
import type { Clock } from './limits.js';
import type { Answer, Body, HttpRequest, Transport } from './transport.js';

export interface Call {
  method: HttpRequest['method'];
  /** Below the repository (`manifests/latest`), or a place that the registry named. */
  to: string | URL;
  /** What is done with the repository: `pull` or `pull,push`. */
  actions: 'pull' | 'pull,push';
  /** Another repository that is read at the same time. */
  from?: string;
  headers?: Record<string, string>;
  body?: Body;
  signal?: AbortSignal;
  /** For messages: `manifest latest of host/name`. */
  what: string;
  /** Statuses that are answers too, besides 2xx. */
  allow?: readonly number[];
}

export interface ClientOptions {
  transport: Transport;
  authFile?: string;
  env: NodeJS.ProcessEnv;
  clock: Clock;
  /** How often something is tried again that may pass. */
  retries: number;
  /** Milliseconds before the first of these, about; doubled each time. */
  pause: number;
  /** Registries, not their mirrors, are spoken to without TLS. */
  plainHttp: boolean;
  /** As registries.conf orders them. */
  helpers: readonly string[];
  log(line: string): void;
}

const LONGEST_PAUSE = 20_000;
/** A registry that wants more than this many seconds of peace is given up. */
const MOST_RETRY_AFTER = 120;
const ERROR_BYTES = 65_536;

export class Client {
  private readonly options: ClientOptions;
  private readonly auth: Auth;
  /** Hosts that are allowed to go without TLS, and what they speak. */
  private readonly schemes = new Map<string, Promise<'http' | 'https'>>();
  /** Origin -> the clock's time before which it wants no requests. */
  private readonly notBefore = new Map<string, number>();

  constructor(options: ClientOptions) {
    this.options = options;
    const { authFile, env, helpers, transport } = options;
    this.auth = new Auth({ authFile, env, helpers, send: (request) => transport.send(request) });
  }

  /**
   * One request, with credentials where they are asked for. The answer must be read or discarded.
   *
   * @throws RegistryError of the status
   */
  async once(endpoint: Endpoint, call: Call): Promise<Answer> {
    // As URLs write it: in lower case, without the port that goes without saying.
    const { origin } = new URL(`${await this.schemeOf(endpoint)}://${endpoint.host}`);
    const url =
      call.to instanceof URL ? call.to : new URL(`${origin}/v2/${endpoint.repository}/${call.to}`);
    await this.wait(url.origin, call.signal);
    // A place on another host has its permission in its address, and must not see ours.
    const trusted = url.origin === origin;
    const audience = {
      origin,
      registry: endpoint.registry,
      repository: endpoint.repository,
      scopes: scopesOf(endpoint, call),
    };
    let authorization = trusted ? this.auth.header(audience) : undefined;
    for (let round = 0; ; round++) {
      const answer = await this.options.transport.send({
        method: call.method,
        url,
        headers: {
          'user-agent': 'varve',
          ...call.headers,
          ...(authorization === undefined ? {} : { authorization }),
        },
        body: call.body,
        signal: call.signal,
        insecure: endpoint.insecure && trusted,
      });
      if (answer.status < 300 || call.allow?.includes(answer.status)) return answer;
      // The challenge of a host behind a redirect is none of the registry's.
      if (answer.status !== 401 || round >= 2 || !trusted || answer.url.origin !== origin) {
        throw await this.failure(answer, call, authorization);
      }
      const challenges = answer.header('www-authenticate');
      const next = await this.auth
        .answer(audience, challenges, authorization)
        .catch(async (error) => {
          await answer.discard();
          throw error;
        });
      if (next === undefined) throw await this.failure(answer, call, authorization);
      await answer.discard();
      authorization = next;
    }
  }

  /**
   * Does something that may be done again, until it succeeds or fails for good.
   *
   * @param progressed tells that there was progress since it was last asked: then the attempts begin anew
   */
  async retrying<T>(
    work: () => Promise<T>,
    options: { signal?: AbortSignal; retries?: number; progressed?: () => boolean } = {},
  ): Promise<T> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await work();
      } catch (error) {
        if (options.progressed?.()) attempt = 0;
        await this.pauseAfter(error, attempt, options);
      }
    }
  }

  /**
   * Waits before something is tried again.
   *
   * @param attempt 0 after the first failure
   * @throws the error when it will not pass, or there were attempts enough; the signal's reason
   */
  async pauseAfter(
    error: unknown,
    attempt: number,
    options: { signal?: AbortSignal; retries?: number } = {},
  ): Promise<void> {
    if (!(error instanceof RegistryError) || !error.passing) throw error;
    const after = error.retryAfter ?? 0;
    if (attempt >= (options.retries ?? this.options.retries) || after > MOST_RETRY_AFTER)
      throw error;
    const { closed } = this.options.transport;
    if (closed.aborted) throw error;
    const pause = Math.max(after * 1000, this.pause(attempt));
    this.options.log(`${error.message}; trying again in ${(pause / 1000).toFixed(1)} s`);
    await this.options.clock.sleep(pause, eitherOf(closed, options.signal));
  }

  private schemeOf(endpoint: Endpoint): 'http' | 'https' | Promise<'http' | 'https'> {
    if (this.options.plainHttp && !endpoint.mirror) return 'http';
    if (!endpoint.insecure) return 'https';
    let scheme = this.schemes.get(endpoint.host);
    if (scheme === undefined) {
      scheme = this.probe(endpoint.host);
      this.schemes.set(endpoint.host, scheme);
    }
    return scheme;
  }

  /** TLS of any certificate where there is one, else none. */
  private async probe(host: string): Promise<'http' | 'https'> {
    const url = new URL(`https://${host}/v2/`);
    try {
      const answer = await this.options.transport.send({
        method: 'GET',
        url,
        headers: {},
        insecure: true,
      });
      await answer.discard();
      return 'https';
    } catch (error) {
      if (!(error instanceof RegistryError)) throw error;
      return 'http';
    }
  }

  /** Between half of the time and all of it, so that many clients do not come back at once. */
  private pause(attempt: number): number {
    const most = Math.min(LONGEST_PAUSE, this.options.pause * 2 ** attempt);
    return most * (0.5 + Math.random() / 2);
  }

  private async wait(origin: string, signal: AbortSignal | undefined): Promise<void> {
    const until = this.notBefore.get(origin);
    if (until === undefined) return;
    const left = until - this.options.clock.now();
    if (left > 0)
      await this.options.clock.sleep(left, eitherOf(this.options.transport.closed, signal));
    else this.notBefore.delete(origin);
  }

  private async failure(
    answer: Answer,
    call: Call,
    authorization: string | undefined,
  ): Promise<RegistryError> {
    const { status } = answer;
    const later = retryAfterOf(answer);
    const { retryAfter } = later;
    if (retryAfter !== undefined && retryAfter <= MOST_RETRY_AFTER) {
      this.notBefore.set(answer.url.origin, this.options.clock.now() + retryAfter * 1000);
    }
    const told = await messageOf(answer, call.method);
    const because = told === '' ? '' : `: ${told}`;
    const details = { status, ...later };
    if (status === 401 || status === 403) {
      const who =
        authorization === undefined ? 'to an anonymous client' : 'to the credentials in use';
      return new RegistryError(
        'auth',
        `${call.what}: denied ${who} (${status})${because}`,
        details,
      );
    }
    if (status === 404) {
      return new RegistryError('absent', `${call.what}: there is none (404)${because}`, details);
    }
    if (status === 416)
      return new RegistryError('range', `${call.what}: no such part${because}`, details);
    if (status === 408 || status === 429 || status >= 500) {
      const state = status === 429 ? 'too many requests' : 'the registry cannot answer now';
      return new RegistryError('busy', `${call.what}: ${state} (${status})${because}`, details);
    }
    return new RegistryError('refused', `${call.what}: refused (${status})${because}`, details);
  }
}

function scopesOf(endpoint: Endpoint, call: Call): string[] {
  const scopes = [`repository:${endpoint.repository}:${call.actions}`];
  if (call.from !== undefined) scopes.push(`repository:${call.from}:pull`);
  return scopes;
}

/** The first message of the registry's list of errors. */
async function messageOf(answer: Answer, method: string): Promise<string> {
  if (method === 'HEAD') {
    await answer.discard();
    return '';
  }
  try {
    const bytes = await answer.bytes(ERROR_BYTES, '');
    const { errors } = JSON.parse(bytes.toString('utf8'));
    const { code, message } = errors[0];
    return shown(message || code || '');
  } catch {
    return '';
  }
}

/** What ends a pause. */
function eitherOf(closed: AbortSignal, signal: AbortSignal | undefined): AbortSignal {
  return signal === undefined ? closed : AbortSignal.any([closed, signal]);
}
