// Debian's docker-registry on a loopback port of its own, with its data in a temporary folder.
// For tests with `requires({ packages: ['docker-registry'] })`; it ends with the test, however that ends.

import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { type Cleanup, makeTempDir, removeTempDir } from '../support/temp.js';

export interface RealRegistry {
  /** `127.0.0.1:PORT`. */
  readonly host: string;
  /** What the registry stores. */
  readonly folder: string;
  /** Ends the process; its data stays until the test ends. */
  stop(): Promise<void>;
  /** Starts it again, on the same port and with the same data. */
  start(): Promise<void>;
}

/** @param settings YAML lines for the configuration, without indentation: `auth:`, `http:` is taken */
export async function startRealRegistry(t: Cleanup, settings = ''): Promise<RealRegistry> {
  const folder = makeTempDir();
  let host = '';
  const config = join(folder, 'config.yml');
  const takePort = async (): Promise<void> => {
    host = `127.0.0.1:${await freePort()}`;
    const lines = [
      'version: 0.1',
      'log: {level: error, accesslog: {disabled: true}}',
      `storage: {filesystem: {rootdirectory: ${folder}/data}, delete: {enabled: true}}`,
      `http: {addr: "${host}", secret: test}`,
      settings,
      '',
    ];
    writeFileSync(config, lines.join('\n'));
  };
  let child: ChildProcess | undefined;
  const stop = async (): Promise<void> => {
    const old = child;
    child = undefined;
    if (old === undefined || old.exitCode !== null) return;
    const gone = new Promise((resolve) => old.once('exit', resolve));
    old.kill('SIGKILL');
    await gone;
  };
  const start = async (): Promise<void> => {
    // In no environment of a developer: REGISTRY_ variables would change the configuration.
    const env = { PATH: process.env['PATH'] };
    const started = spawn('docker-registry', ['serve', config], {
      env,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    child = started;
    let errors = '';
    started.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors = (errors + text).slice(-4000);
    });
    const failed = new Promise<never>((_, reject) => {
      started.once('error', reject);
      started.once('close', (code) => {
        if (child === started) reject(new Error(`docker-registry ended (${code}): ${errors}`));
      });
    });
    failed.catch(() => {});
    await Promise.race([
      answers(host, () => child === started && started.exitCode === null),
      failed,
    ]);
  };
  t.after(async () => {
    await stop();
    removeTempDir(folder);
  });
  for (let tries = 1; ; tries++) {
    await takePort();
    try {
      await start();
      break;
    } catch (error) {
      // Somebody has taken the port meanwhile, as one of a connection perhaps.
      if (tries === 5 || !/address already in use/.test(String(error))) throw error;
    }
  }
  return { host, folder: join(folder, 'data'), start, stop };
}

/** A port that was free a moment ago: docker-registry cannot tell which one it got for port 0. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address ? address.port : 0));
    });
  });
}

/** Waits until somebody accepts connections there, as long as that may come. */
async function answers(host: string, mayCome: () => boolean): Promise<void> {
  const [address, port] = host.split(':');
  while (mayCome()) {
    const up = await new Promise<boolean>((resolve) => {
      const socket = connect(Number(port), address);
      // Where nobody listens a connection may by chance be one with itself: it began at the port that it asks for.
      socket.once('connect', () => {
        resolve(socket.localPort !== Number(port));
        socket.destroy();
      });
      socket.once('error', () => resolve(false));
    });
    if (up) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  // Why is told by the end of the process.
  await new Promise(() => {});
}
