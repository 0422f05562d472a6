// A lower and an upper as a day's work on a small server leaves them: what the screenshots of the docs show.
// Called by scripts/screenshots.mjs as root (whiteouts are devices). Always the same bytes and times.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  cpSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';

/** Bytes that do not compress and are always the same. @param {string} seed @param {number} length */
const noise = (seed, length) => {
  const pieces = [];
  for (let n = 0; n * 32 < length; n++) {
    pieces.push(createHash('sha256').update(`${seed} ${n}`).digest());
  }
  return Buffer.concat(pieces).subarray(0, length);
};

/** @param {string} root @param {string} path @param {string | Buffer} content @param {number} [mode] */
const put = (root, path, content, mode = 0o644) => {
  const full = join(root, path);
  mkdirSync(dirname(full), { recursive: true });
  writeFileSync(full, content);
  chmodSync(full, mode);
};

/** @param {string} command @param {...string} args */
const run = (command, ...args) => {
  const { status, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}`);
};

const NGINX = `user www-data;
worker_processes auto;
pid /run/nginx.pid;
error_log /var/log/nginx/error.log;

events {
	worker_connections 768;
	# multi_accept on;
}

http {
	sendfile on;
	tcp_nopush on;
	types_hash_max_size 2048;

	include /etc/nginx/mime.types;
	default_type application/octet-stream;

	ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3;
	ssl_prefer_server_ciphers on;

	access_log /var/log/nginx/access.log;

	gzip on;
	# gzip_types text/plain text/css application/json;

	include /etc/nginx/conf.d/*.conf;
	include /etc/nginx/sites-enabled/*;
}
`;

const NGINX_NOW = NGINX.replace('connections 768', 'connections 4096')
  .replace('	# multi_accept on;', '	multi_accept on;')
  .replace('TLSv1 TLSv1.1 TLSv1.2 TLSv1.3', 'TLSv1.2 TLSv1.3')
  .replace('	tcp_nopush on;\n', '	tcp_nopush on;\n	server_tokens off;\n')
  .replace('	# gzip_types text/plain', '	gzip_types text/plain');

const SITE = `server {
	listen 443 ssl;
	server_name shop.example;
	root /srv/shop/public;

	location /api/ {
		proxy_pass http://127.0.0.1:8080;
	}
}
`;

const SERVICE = `[Unit]
Description=Shop
After=network-online.target

[Service]
ExecStart=/opt/shop/bin/shop --port 8080
User=shop
Restart=on-failure

[Install]
WantedBy=multi-user.target
`;

/** @param {string} lower */
const fillLower = (lower) => {
  put(lower, 'etc/nginx/nginx.conf', NGINX);
  put(lower, 'etc/nginx/sites-available/default', 'server {\n\tlisten 80;\n\troot /var/www;\n}\n');
  mkdirSync(join(lower, 'etc/nginx/sites-enabled'));
  symlinkSync('../sites-available/default', join(lower, 'etc/nginx/sites-enabled/default'));
  put(lower, 'etc/hosts', '127.0.0.1 localhost\n::1 localhost\n');
  put(lower, 'etc/motd', 'Welcome.\n');
  put(lower, 'etc/shadow', 'root:*:19000:0:99999:7:::\n', 0o640);
  put(lower, 'etc/ssl/openssl.cnf', noise('cnf', 9000).toString('hex').replace(/.{60}/g, '$&\n'));
  put(lower, 'etc/default/locale', 'LANG=C\n');
  put(lower, 'usr/lib/libshop.so.1', noise('lib', 420_000), 0o755);
  put(lower, 'usr/lib/python3/runtime.zip', noise('zip', 910_000));
  put(lower, 'usr/bin/tool', noise('tool', 96_000), 0o755);
  put(lower, 'usr/share/doc/tool/README', 'Tool\n====\n');
  put(lower, 'usr/share/doc/tool/changelog.gz', noise('changes', 30_000));
  put(
    lower,
    'var/lib/dpkg/status',
    'Package: shop\nStatus: install ok installed\nVersion: 1.4.2\n',
  );
  put(lower, 'var/cache/apt/pkgcache.bin', noise('cache', 700_000));
  put(lower, 'var/lib/shop/orders.sqlite', noise('orders', 300_000));
  put(lower, 'home/ada/notes/todo.txt', 'call the printer\n');
  put(lower, 'home/ada/notes/2025.md', '# 2025\n');
};

/** @param {string} lower @param {string} upper */
const fillUpper = (lower, upper) => {
  /** @param {string} path */
  const whiteout = (path) => {
    mkdirSync(dirname(join(upper, path)), { recursive: true });
    run('mknod', join(upper, path), 'c', '0', '0');
  };
  /** @param {string} path */
  const copyUp = (path) => {
    mkdirSync(dirname(join(upper, path)), { recursive: true });
    cpSync(join(lower, path), join(upper, path), { preserveTimestamps: true });
  };
  put(upper, 'etc/nginx/nginx.conf', NGINX_NOW);
  put(upper, 'etc/nginx/sites-available/shop', SITE);
  mkdirSync(join(upper, 'etc/nginx/sites-enabled'), { recursive: true });
  symlinkSync('../sites-available/shop', join(upper, 'etc/nginx/sites-enabled/shop'));
  whiteout('etc/nginx/sites-enabled/default');
  put(upper, 'etc/systemd/system/shop.service', SERVICE);
  put(upper, 'etc/hosts', '127.0.0.1 localhost shop.example\n::1 localhost\n10.0.0.7 db\n');
  put(upper, 'etc/default/locale', 'LANG=de_DE.UTF-8\n');
  copyUp('etc/shadow');
  chmodSync(join(upper, 'etc/shadow'), 0o600);
  whiteout('etc/motd');
  put(upper, 'opt/shop/bin/shop', noise('shop', 2_400_000), 0o755);
  put(upper, 'opt/shop/lib/templates.pak', noise('pak', 640_000));
  put(upper, 'opt/shop/lib/locale/de.mo', noise('de', 88_000));
  put(upper, 'opt/shop/lib/locale/fr.mo', noise('fr', 91_000));
  put(upper, 'opt/shop/lib/locale/ja.mo', noise('ja', 120_000));
  put(upper, 'opt/shop/LICENSE', 'Do as you like.\n');
  put(upper, 'usr/lib/libshop.so.1', noise('lib 2', 433_000), 0o755);
  put(upper, 'usr/lib/python3/runtime.zip', noise('zip', 910_000));
  copyUp('usr/bin/tool');
  chownSync(join(upper, 'usr/bin/tool'), 0, 4);
  chmodSync(join(upper, 'usr/bin/tool'), 0o2755);
  whiteout('usr/share/doc/tool');
  put(
    upper,
    'var/lib/dpkg/status',
    'Package: shop\nStatus: install ok installed\nVersion: 1.5.0\n',
  );
  put(upper, 'var/cache/apt/pkgcache.bin', noise('cache 2', 760_000));
  put(upper, 'var/lib/shop/orders.sqlite', noise('orders 2', 344_064));
  put(upper, 'var/log/shop/shop.log', 'started\nlistening on 8080\n'.repeat(400));
  put(upper, 'var/log/nginx/access.log', '10.0.0.9 - GET / 200\n'.repeat(2000));
  whiteout('home/ada/notes');
  mkdirSync(join(upper, 'home/ada/archive'), { recursive: true });
  for (const [name, value] of [
    ['trusted.overlay.redirect', '/home/ada/notes'],
    ['trusted.overlay.opaque', 'n'],
  ]) {
    run('setfattr', '-n', String(name), '-v', String(value), join(upper, 'home/ada/archive'));
  }
  put(upper, 'home/ada/archive/2026.md', '# 2026\n\n- shop 1.5\n');
};

/** Times as if somebody had worked there, and the same each time. @param {string} folder @param {number} time */
const setTimes = (folder, time) => {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) setTimes(path, time);
    else if (!entry.isCharacterDevice()) lutimesSync(path, time, time);
  }
  lutimesSync(folder, time, time);
};

/**
 * @param {string} folder gets `base` and `upper`, in place of what is there.
 * @returns {{lower: string, upper: string}}
 */
export const makeSampleStack = (folder) => {
  const [lower, upper] = [join(folder, 'base'), join(folder, 'upper')];
  for (const path of [lower, upper]) {
    rmSync(path, { recursive: true, force: true });
    mkdirSync(path, { recursive: true });
  }
  fillLower(lower);
  setTimes(lower, 1_767_225_600);
  fillUpper(lower, upper);
  setTimes(upper, 1_769_860_800);
  return { lower, upper };
};
