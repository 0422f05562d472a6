// A registry in the test's own process that behaves as badly as a test wants.
// Blobs and manifests are put in by hand or pushed; `on` sees each request first and may answer it in its own way.

import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Cleanup } from '../support/temp.js';

export interface FakeRequest {
  method: string;
  /** Path and query. */
  url: string;
  headers: IncomingMessage['headers'];
}

/** @returns true when the request was answered (or is never to be) */
export type Behaviour = (
  request: IncomingMessage,
  response: ServerResponse,
) => boolean | undefined | Promise<boolean | undefined>;

export class FakeRegistry {
  /** `127.0.0.1:PORT`. */
  host = '';
  /** Digest -> bytes, of all repositories. */
  readonly blobs = new Map<string, Buffer>();
  /** `repository:tag` and `repository@digest` -> manifest. */
  readonly manifests = new Map<string, { mediaType: string; bytes: Buffer }>();
  /** All requests, in their order. */
  readonly requests: FakeRequest[] = [];
  /** Connections that were made so far. */
  connections = 0;
  /** Asked before anything else. */
  on: Behaviour | undefined;
  /** Parts of blobs are given when they are asked for. */
  ranges = true;
  /** The referrers API is there. */
  referrers = false;
  private readonly uploads = new Map<string, Buffer[]>();
  private readonly server: Server;
  private next = 0;

  constructor() {
    this.server = createServer((request, response) => {
      this.handle(request, response).catch((error) => {
        response.destroy();
        if ((error as NodeJS.ErrnoException).code !== 'ECONNRESET') throw error;
      });
    });
  }

  async start(): Promise<void> {
    this.server.on('connection', () => this.connections++);
    await new Promise<void>((resolve, reject) => {
      this.server.once('error', reject);
      this.server.listen(0, '127.0.0.1', resolve);
    });
    const address = this.server.address();
    this.host = `127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`;
  }

  /** Breaks all connections that are open now. */
  dropConnections(): void {
    this.server.closeAllConnections();
  }

  async stop(): Promise<void> {
    if (!this.server.listening) return;
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  /** @returns the digest */
  addBlob(bytes: Uint8Array): string {
    const digest = sha256(bytes);
    this.blobs.set(digest, Buffer.from(bytes));
    return digest;
  }

  /** Adds a document under a tag and its digest. */
  addManifest(repository: string, tag: string, mediaType: string, document: unknown): string {
    const bytes = Buffer.isBuffer(document) ? document : Buffer.from(JSON.stringify(document));
    return this.store(repository, tag, mediaType, bytes);
  }

  /** Bytes of uploads that have not ended. */
  uploading(): number {
    return [...this.uploads.values()].flat().reduce((sum, piece) => sum + piece.length, 0);
  }

  /** How often requests were made that fit. */
  count(method: string, path: RegExp): number {
    return this.requests.filter((request) => request.method === method && path.test(request.url))
      .length;
  }

  private store(repository: string, tag: string, mediaType: string, bytes: Buffer): string {
    const digest = sha256(bytes);
    this.manifests.set(`${repository}@${digest}`, { mediaType, bytes });
    if (!tag.includes(':')) this.manifests.set(`${repository}:${tag}`, { mediaType, bytes });
    return digest;
  }

  private async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url = '', headers } = request;
    this.requests.push({ method, url, headers });
    if (await this.on?.(request, response)) return;
    const { pathname, searchParams } = new URL(url, 'http://fake');
    const [, repository = '', kind, rest = ''] =
      /^\/v2\/(.+)\/(manifests|blobs|referrers)\/(.*)$/.exec(pathname) ?? [];
    if (pathname === '/v2/') return void response.end('{}');
    if (kind === 'manifests') return this.manifest(request, response, repository, rest);
    if (kind === 'referrers') return this.referrersOf(response, repository, rest);
    if (kind === 'blobs' && rest.startsWith('uploads/')) {
      return this.upload(request, response, repository, rest.slice(8), searchParams);
    }
    if (kind === 'blobs') return this.blob(request, response, rest);
    return absent(response);
  }

  private async manifest(
    request: IncomingMessage,
    response: ServerResponse,
    repository: string,
    name: string,
  ): Promise<void> {
    if (request.method === 'PUT') {
      const bytes = await bodyOf(request);
      const digest = this.store(repository, name, request.headers['content-type'] ?? '', bytes);
      const { subject } = JSON.parse(bytes.toString());
      if (this.referrers && subject) response.setHeader('oci-subject', subject.digest);
      response.writeHead(201, { 'docker-content-digest': digest }).end();
      return;
    }
    const found = this.manifests.get(`${repository}${name.includes(':') ? '@' : ':'}${name}`);
    if (found === undefined) {
      absent(response);
      return;
    }
    response.writeHead(200, {
      'content-type': found.mediaType,
      'content-length': found.bytes.length,
      'docker-content-digest': sha256(found.bytes),
    });
    response.end(request.method === 'HEAD' ? undefined : found.bytes);
  }

  private referrersOf(response: ServerResponse, repository: string, subject: string): void {
    if (!this.referrers) {
      absent(response);
      return;
    }
    const manifests = [...this.manifests].flatMap(([key, { mediaType, bytes }]) => {
      const document = JSON.parse(bytes.toString());
      if (!key.startsWith(`${repository}@`) || document.subject?.digest !== subject) return [];
      const { artifactType } = document;
      return [{ mediaType, digest: sha256(bytes), size: bytes.length, artifactType }];
    });
    const mediaType = 'application/vnd.oci.image.index.v1+json';
    response.setHeader('content-type', mediaType);
    response.end(JSON.stringify({ schemaVersion: 2, mediaType, manifests }));
  }

  private blob(request: IncomingMessage, response: ServerResponse, digest: string): void {
    const bytes = this.blobs.get(digest);
    if (bytes === undefined) {
      absent(response);
      return;
    }
    const range = /^bytes=([0-9]+)-([0-9]*)$/.exec(request.headers.range ?? '');
    let part = bytes;
    if (range !== null && this.ranges) {
      const from = Number(range[1]);
      const to = range[2] ? Math.min(Number(range[2]), bytes.length - 1) : bytes.length - 1;
      if (from > to) {
        response.writeHead(416).end();
        return;
      }
      part = bytes.subarray(from, to + 1);
      response.statusCode = 206;
      response.setHeader('content-range', `bytes ${from}-${to}/${bytes.length}`);
    }
    response.setHeader('content-length', part.length);
    response.end(request.method === 'HEAD' ? undefined : part);
  }

  private async upload(
    request: IncomingMessage,
    response: ServerResponse,
    repository: string,
    id: string,
    query: URLSearchParams,
  ): Promise<void> {
    const place = (name: string): string => `/v2/${repository}/blobs/uploads/${name}`;
    if (request.method === 'POST') {
      const mounted = query.get('mount');
      if (mounted !== null && this.blobs.has(mounted)) return void response.writeHead(201).end();
      const name = `upload-${this.next++}`;
      this.uploads.set(name, []);
      response.writeHead(202, { location: place(name) }).end();
      return;
    }
    const pieces = this.uploads.get(id);
    if (pieces === undefined) {
      absent(response);
      return;
    }
    if (request.method === 'DELETE') {
      this.uploads.delete(id);
      return void response.writeHead(204).end();
    }
    // What came before the connection broke is kept, as real registries do.
    if (request.method !== 'GET') {
      for await (const piece of request) pieces.push(piece as Buffer);
    }
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    const headers = { location: place(id), range: `0-${Math.max(0, length - 1)}` };
    if (request.method !== 'PUT') {
      response.writeHead(request.method === 'GET' ? 204 : 202, headers).end();
      return;
    }
    const bytes = Buffer.concat(pieces);
    const digest = query.get('digest') ?? '';
    if (sha256(bytes) !== digest) {
      response.writeHead(400).end('{"errors":[{"code":"DIGEST_INVALID"}]}');
      return;
    }
    this.blobs.set(digest, bytes);
    this.uploads.delete(id);
    response.writeHead(201, { 'docker-content-digest': digest }).end();
  }
}

export async function startFakeRegistry(t: Cleanup): Promise<FakeRegistry> {
  const registry = new FakeRegistry();
  await registry.start();
  t.after(() => registry.stop());
  return registry;
}

export function sha256(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of request) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
}

function absent(response: ServerResponse): void {
  response.writeHead(404, { 'content-type': 'application/json' });
  response.end('{"errors":[{"code":"NOT_FOUND","message":"not here"}]}');
}
