// One HTTP request and its answer: connections, TLS, proxies, redirects, limits, stalls.
// Under client.ts, which knows about registries, credentials and attempts; above it is undici.
// Follows: RFC 9110 (15.4 redirects); the distribution specification asks nothing of HTTP beyond it.

import { AssertionError } from 'node:assert';
import { setMaxListeners } from 'node:events';
import { Readable } from 'node:stream';
import type { SecureContext } from 'node:tls';
import type { Dispatcher } from 'undici';
import { shown } from './digest.js';
import { RegistryError } from './errors.js';
import type { Limits } from './limits.js';
import { proxyFor } from './proxy.js';

export interface TransportOptions {
  limits: Limits;
  /** Milliseconds without a byte after which a request counts as broken. */
  timeout: number;
  env: NodeJS.ProcessEnv;
  /** Whom connections to a host (with its port) trust. */
  tls(host: string): SecureContext;
}

/** What is sent. `open` may be called again when the request is repeated. */
export interface Body {
  /** Bytes. */
  length: number;
  open(): AsyncIterable<Uint8Array>;
}

/** A body that is in memory; `bytes` are borrowed until the request is answered. */
export function bodyOf(bytes: Uint8Array): Body {
  return {
    length: bytes.length,
    async *open() {
      yield bytes;
    },
  };
}

export interface HttpRequest {
  method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  url: URL;
  /** Lower-case names; `authorization` stays behind when another host takes over. */
  headers: Record<string, string>;
  body?: Body;
  signal?: AbortSignal;
  /** The certificate of this host (none that it redirects to) is not checked. */
  insecure?: boolean;
}

const REDIRECTS = new Set([301, 302, 303, 307, 308]);
const MOST_REDIRECTS = 5;
/**
 * What is sent lies in buffers for long when the line is slow, and a registry hashes a blob before it answers. So
 * many timeouts may pass.
 */
const PATIENCE = 10;
const READING = new Set(['GET', 'HEAD']);
/** Bytes a second below which a connection is given up after the timeout. */
const SLOWEST = 256;

/** An answer holds a connection until its body was read or discarded: one of the three must be called. */
export class Answer {
  readonly status: number;
  /** Where the answer came from, after redirects. */
  readonly url: URL;
  private readonly headers: Dispatcher.ResponseData['headers'];
  private readonly body: Readable;
  private readonly limits: Limits;
  private readonly timeout: number;
  private readonly signal: AbortSignal;
  private readonly done: () => void;

  constructor(
    data: Dispatcher.ResponseData,
    url: URL,
    { limits, timeout }: TransportOptions,
    signal: AbortSignal,
    done: () => void,
  ) {
    this.status = data.statusCode;
    this.headers = data.headers;
    this.body = data.body;
    this.url = url;
    this.limits = limits;
    this.timeout = timeout;
    this.signal = signal;
    this.done = done;
    // An answer that nobody reads may still break: that is nobody's error.
    this.body.on('error', () => {});
  }

  /** @param name in lower case */
  header(name: string): string | undefined {
    const value = this.headers[name];
    return Array.isArray(value) ? value.join(', ') : value;
  }

  /** A header that is a whole number, as content-length is. */
  number(name: string): number | undefined {
    const text = this.header(name);
    return text !== undefined && /^[0-9]{1,15}$/.test(text) ? Number(text) : undefined;
  }

  /**
   * The body as it comes, within the limit of bandwidth. To leave early is to close the connection.
   *
   * @throws RegistryError `network` when it breaks off or stalls
   */
  async *pieces(): AsyncGenerator<Uint8Array, void, void> {
    let waited = 0;
    let got = 0;
    let asked = performance.now();
    try {
      for await (const piece of this.body) {
        const { length } = piece as Uint8Array;
        waited += performance.now() - asked;
        got += length;
        // A byte now and then is no answer either. Only waiting for the network counts.
        if (waited > this.timeout) {
          if (got < (waited / 1000) * SLOWEST) throw tooSlow(this.url);
          waited = 0;
          got = 0;
        }
        await this.limits.moved(length, 'down', this.signal);
        yield piece as Uint8Array;
        asked = performance.now();
      }
    } catch (error) {
      this.signal.throwIfAborted();
      throw asNetworkError(error, this.url);
    } finally {
      this.close();
    }
  }

  /**
   * The whole body.
   *
   * @throws RegistryError `limit` when it is longer than `most` bytes, `network`
   */
  async bytes(most: number, what: string): Promise<Buffer> {
    const pieces: Uint8Array[] = [];
    let length = 0;
    for await (const piece of this.pieces()) {
      length += piece.length;
      if (length > most) {
        throw new RegistryError('limit', `${what}: the answer is longer than ${most} bytes`);
      }
      pieces.push(piece);
    }
    return Buffer.concat(pieces, length);
  }

  /** Nobody wants the body: what is short is read, so that the connection lives on. */
  async discard(): Promise<void> {
    let length = 0;
    try {
      for await (const piece of this.body) {
        length += (piece as Uint8Array).length;
        if (length > 65_536) break;
      }
    } catch {
      // The connection is gone, and with it what was to be discarded.
    } finally {
      this.close();
    }
  }

  private close(): void {
    this.body.destroy();
    this.done();
  }
}

/** The body of a request, within the limit of bandwidth; keeps apart what fails here from what fails on the way. */
class Source {
  failure: unknown;
  private readonly body: Body;
  private readonly limits: Limits;
  private readonly signal: AbortSignal;

  constructor(body: Body, limits: Limits, signal: AbortSignal) {
    this.body = body;
    this.limits = limits;
    this.signal = signal;
  }

  async *pieces(): AsyncGenerator<Uint8Array, void, void> {
    try {
      let left = this.body.length;
      for await (const piece of this.body.open()) {
        left -= piece.length;
        if (left < 0)
          throw new RegistryError('wrong', 'what is to be sent is longer than was said');
        await this.limits.moved(piece.length, 'up', this.signal);
        yield piece;
      }
      if (left > 0) throw new RegistryError('wrong', 'what is to be sent is shorter than was said');
    } catch (error) {
      this.failure = error;
      throw error;
    }
  }
}

/** The parts of undici that are used: all of it takes 65 ms to load, these 30. */
const http = () =>
  Promise.all([
    import('undici/lib/dispatcher/agent.js'),
    // The package's index gives it to every dispatcher as a method.
    import('undici/lib/api/api-request.js'),
  ]);

/** Loads what requests need, for whoever will make some and has nothing else to do. */
export async function loadHttp(): Promise<void> {
  await http();
}

export class Transport {
  private readonly options: TransportOptions;
  private readonly dispatchers = new Map<string, Promise<Dispatcher>>();
  /** Requests under way. */
  private readonly open = new Set<AbortController>();
  private readonly closing = new AbortController();

  constructor(options: TransportOptions) {
    this.options = options;
    // Any number of pauses may end by it.
    setMaxListeners(0, this.closing.signal);
  }

  /** Aborted by close(). */
  get closed(): AbortSignal {
    return this.closing.signal;
  }

  /**
   * Sends a request and follows its redirects.
   *
   * @throws RegistryError `network`, `refused` (redirect from TLS to none, or in a circle); the signal's reason
   */
  async send(request: HttpRequest): Promise<Answer> {
    const { limits } = this.options;
    const controller = new AbortController();
    const { signal } = controller;
    const abort = (): void => controller.abort(request.signal?.reason);
    this.closed.throwIfAborted();
    if (request.signal?.aborted) throw request.signal.reason;
    // One signal may end any number of requests.
    if (request.signal !== undefined) setMaxListeners(0, request.signal);
    request.signal?.addEventListener('abort', abort, { once: true });
    this.open.add(controller);
    const forget = (): void => {
      request.signal?.removeEventListener('abort', abort);
      this.open.delete(controller);
    };
    let release: () => void;
    try {
      release = await limits.connection(signal);
    } catch (error) {
      forget();
      throw error;
    }
    const done = (): void => {
      forget();
      release();
    };
    try {
      return await this.follow(request, signal, done);
    } catch (error) {
      done();
      if (signal.aborted) throw signal.reason;
      throw error;
    }
  }

  /** Ends all connections; requests under way are aborted. */
  close(): void {
    const reason = new RegistryError('network', 'the registry client was closed');
    this.closing.abort(reason);
    for (const controller of this.open) controller.abort(reason);
    for (const made of this.dispatchers.values()) {
      made.then((dispatcher) => dispatcher.destroy()).catch(() => {});
    }
    this.dispatchers.clear();
  }

  private async follow(
    request: HttpRequest,
    signal: AbortSignal,
    done: () => void,
  ): Promise<Answer> {
    let { method, url, body } = request;
    let headers = request.headers;
    for (let hops = 0; ; hops++) {
      const insecure = request.insecure === true && url.host === request.url.host;
      const data = await this.dispatch({ method, url, headers, body, insecure }, signal);
      const location = data.headers['location'];
      if (!REDIRECTS.has(data.statusCode) || typeof location !== 'string') {
        return new Answer(data, url, this.options, signal, done);
      }
      await drained(data);
      const next = redirectTarget(url, location);
      if (hops >= MOST_REDIRECTS) {
        throw new RegistryError(
          'refused',
          `${url.host} redirects more than ${MOST_REDIRECTS} times`,
        );
      }
      if (next.host !== url.host || next.protocol !== url.protocol) {
        headers = withoutSecrets(headers);
        // A body may be a secret too (a refresh token), and what is pushed is for this registry.
        if (body !== undefined && data.statusCode !== 303) {
          throw new RegistryError(
            'refused',
            `${url.host} wants what is sent to it to be sent to ${shown(next.host)}`,
          );
        }
      }
      // 303 is an answer to be fetched; 307 and 308 repeat the request as it is.
      if (data.statusCode === 303 && method !== 'HEAD') {
        method = 'GET';
        body = undefined;
      }
      url = next;
    }
  }

  private async dispatch(
    { method, url, headers, body, insecure }: HttpRequest,
    signal: AbortSignal,
  ): Promise<Dispatcher.ResponseData> {
    const sent: Record<string, string> = { 'accept-encoding': 'identity', ...headers };
    const source = body === undefined ? undefined : new Source(body, this.options.limits, signal);
    if (body !== undefined) sent['content-length'] = String(body.length);
    try {
      const dispatcher = await this.dispatcher(url, insecure === true);
      const [, { default: request }] = await http();
      return await request.call(dispatcher, {
        origin: url.origin,
        path: `${url.pathname}${url.search}`,
        method,
        headers: sent,
        body: source === undefined ? null : Readable.from(source.pieces()),
        signal,
        // undici would close the connection after a HEAD.
        reset: false,
        headersTimeout: READING.has(method)
          ? this.options.timeout
          : this.options.timeout * PATIENCE,
        bodyTimeout: this.options.timeout,
      });
    } catch (error) {
      if (source?.failure !== undefined) throw source.failure;
      throw asNetworkError(error, url);
    }
  }

  /** One pool of connections a host: TLS and proxy are the host's. */
  private dispatcher(url: URL, insecure: boolean): Promise<Dispatcher> {
    const key = `${url.origin}${insecure ? ' insecure' : ''}`;
    let made = this.dispatchers.get(key);
    if (made === undefined) {
      made = this.connectTo(url, insecure);
      this.dispatchers.set(key, made);
      // Certificates may be put right while a process goes on.
      made.catch(() => this.dispatchers.delete(key));
    }
    return made;
  }

  private async connectTo(url: URL, insecure: boolean): Promise<Dispatcher> {
    const { limits, timeout, env } = this.options;
    // One context for all connections: the certificates of the world take 20 ms to read.
    const secure = url.protocol === 'https:' ? { secureContext: this.options.tls(url.host) } : {};
    const tls = { timeout, ...secure, rejectUnauthorized: !insecure };
    const common = {
      connections: limits.connections,
      keepAliveTimeout: 15_000,
      maxHeaderSize: 32_768,
    };
    const proxy = proxyFor(url, env);
    if (proxy === undefined) {
      const [{ default: Agent }] = await http();
      return new Agent({ ...common, connect: tls });
    }
    // All of it: the tunnel to a host with TLS is made by a method that only the index gives to dispatchers.
    const { ProxyAgent } = await import('undici');
    return new ProxyAgent({ ...common, uri: proxy, requestTls: tls, proxyTunnel: false });
  }
}

function tooSlow(url: URL): RegistryError {
  return new RegistryError('network', `${url.host}: less than ${SLOWEST} bytes a second`);
}

function redirectTarget(from: URL, location: string): URL {
  let next: URL;
  try {
    next = new URL(location, from);
  } catch (cause) {
    throw new RegistryError('wrong', `${from.host} redirects to ${shown(location)}`, { cause });
  }
  if (next.protocol !== 'https:' && !(next.protocol === 'http:' && from.protocol === 'http:')) {
    throw new RegistryError(
      'refused',
      `${from.host} redirects to ${shown(next.origin)}, which is not protected by TLS`,
    );
  }
  // A name and password in a Location would be sent as credentials of the stranger's choice.
  next.username = '';
  next.password = '';
  return next;
}

function withoutSecrets(headers: Record<string, string>): Record<string, string> {
  const { authorization: _, cookie: __, ...rest } = headers;
  return rest;
}

async function drained(data: Dispatcher.ResponseData): Promise<void> {
  data.body.on('error', () => {});
  await data.body.dump({ limit: 65_536 }).catch(() => {});
}

/** What of TLS goes wrong is no passing condition: it is said once, not tried again. */
const CERTIFICATE = /^(?:ERR_TLS_|ERR_SSL_|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|ERR_OSSL)/;

/** What a person makes of the commonest failures; what the system says stands behind, the address of a proxy among it. */
const WORDS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nobody listens there',
  ENOTFOUND: 'there is no host of this name',
  EAI_AGAIN: 'its name cannot be looked up now',
  EHOSTUNREACH: 'no way leads there',
  ENETUNREACH: 'no way leads there',
};

/** Codes of undici for what was asked of it, not for what came of that. */
const MISUSE = /^UND_ERR_(?:INVALID_|NOT_SUPPORTED)/;

/** What the network, its peers and this machine's sockets fail with has a code; mistakes of a program have none, or are of these kinds. */
function isOfNetwork(error: Error): boolean {
  const { code } = error as NodeJS.ErrnoException;
  if (error.name === 'HTTPParserError') return true;
  const isMistake = [TypeError, RangeError, ReferenceError, SyntaxError, AssertionError];
  if (isMistake.some((kind) => error instanceof kind)) return false;
  return typeof code === 'string' && !MISUSE.test(code);
}

function asNetworkError(error: unknown, url: URL): unknown {
  if (error instanceof RegistryError || !(error instanceof Error)) return error;
  if (error.name === 'AbortError' || !isOfNetwork(error)) return error;
  const { code = '', message } = error as NodeJS.ErrnoException;
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER') {
    const how = '--plain-http, or insecure = true in registries.conf, speaks to it without';
    return new RegistryError('refused', `${url.host} does not speak TLS: ${how}`, { cause: error });
  }
  if (CERTIFICATE.test(code)) {
    return new RegistryError('refused', `${url.host}: TLS fails: ${shown(message || code)}`, {
      cause: error,
    });
  }
  const stalled = code === 'UND_ERR_HEADERS_TIMEOUT' || code === 'UND_ERR_BODY_TIMEOUT';
  const told =
    code in WORDS ? `${WORDS[code]} (${shown(message || code)})` : shown(message || code);
  const why = stalled ? 'no answer for too long' : told;
  return new RegistryError('network', `${url.host}: ${why}`, { cause: error });
}
