// Noise: what a session writes anyway is told apart from what a program has set up.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isEmpty } from '../../../src/wine/registry/delta.js';
import { parseDelta, writeDelta } from '../../../src/wine/registry/delta-text.js';
import type { HiveName } from '../../../src/wine/registry/hive.js';
import { isNoise, withoutNoise } from '../../../src/wine/registry/noise.js';

const DISPLAY = 'System\\CurrentControlSet\\Control\\Class\\{4D36E968-E325-11CE-BFC1-08002BE10318}';
const DEVICES =
  'System\\ControlSet001\\Control\\DeviceClasses\\{1CA05180-A699-450A-9A0C-DE4FBE3DDD89}';

for (const [hive, path, value] of [
  ['system', `${DISPLAY}\\0000`, 'DriverDateData'],
  ['system', DISPLAY, 'Class'],
  ['system', DISPLAY, ''],
  ['system', DISPLAY.replace('4D36E968', '4D36E96E'), ''],
  ['system', 'Software\\Microsoft\\Windows NT\\CurrentVersion\\NetworkCards', undefined],
  ['system', 'SYSTEM\\currentcontrolset\\Enum\\HID\\VID_845E&PID_0001\\0&0000&0&0', undefined],
  ['system', 'System\\CurrentControlSet\\Enum\\Root\\Wine\\WINEBUS', undefined],
  ['system', `${DEVICES}\\##?#PCI#VEN_0000#00000000#{1CA0}\\#`, ''],
  ['system', 'System\\CurrentControlSet\\Control\\TimeZoneInformation', 'StandardName'],
  ['user', 'Software\\Wine\\Fonts\\External Fonts', 'Arial (TrueType)'],
  ['userdef', 'Software\\Wine\\Fonts', 'Codepages'],
  ['user', 'Volatile Environment', undefined],
  ['user', 'Software\\Microsoft\\Windows NT\\CurrentVersion\\Windows', 'Device'],
  ['user', 'Software\\Wine\\MenuFiles', 'C:\\x.lnk'],
] as const satisfies readonly (readonly [HiveName, string, string | undefined])[]) {
  test(`noise: ${path} ${value ?? ''}`, () => assert.ok(isNoise(hive, path, value)));
}

for (const [hive, path, value] of [
  ['system', DISPLAY, undefined],
  ['system', DISPLAY, 'UpperFilters'],
  ['system', 'System\\CurrentControlSet\\Enum', undefined],
  ['system', 'System\\CurrentControlSet\\Enum\\ROOT\\NET\\0000', 'Service'],
  ['system', `${DEVICES}\\##?#ROOT#NET#0000`, undefined],
  ['system', 'System\\CurrentControlSet\\Services\\HIDx', undefined],
  ['system', 'Software\\Wine\\Drives', 'd:'],
  ['system', 'Volatile Environment', undefined],
  ['user', 'Volatile Environments', undefined],
  ['user', 'Software\\Wine\\DllOverrides', 'd3d9'],
  ['user', 'Software\\Wine\\Fonts\\Replacements', 'MS Gothic'],
  ['user', 'Software\\Wine\\Fonts', 'LogPixels'],
  ['user', 'Software\\Microsoft\\Windows NT\\CurrentVersion\\Windows', 'Load'],
  ['user', 'Software\\Microsoft\\Windows NT\\CurrentVersion\\Windows\\sub', 'Device'],
  ['user', '', undefined],
] as const satisfies readonly (readonly [HiveName, string, string | undefined])[]) {
  test(`no noise: ${path} ${value ?? ''}`, () =>
    assert.equal(isNoise(hive, path, value), undefined));
}

test('noise leaves a delta, and is told with its reason', () => {
  const delta = parseDelta(
    Buffer.from(
      `VARVE REGISTRY DELTA 1

hive user

+[Software\\\\App]
"x"="1"

-[Software\\\\Wine\\\\MenuFiles]

[Software\\\\Microsoft\\\\Windows NT\\\\CurrentVersion\\\\Windows] 5
"Device"=-
"Load"="app"

[Volatile Environment]
"a"="1"
"b"="2"
`,
    ),
  );
  const result = withoutNoise(delta);
  assert.deepEqual(
    result.noise.map(({ path, value, why }) => [path, value, why]),
    [
      [
        'Software\\Wine\\MenuFiles',
        undefined,
        'what Wine has written into the menus of this machine',
      ],
      [
        'Software\\Microsoft\\Windows NT\\CurrentVersion\\Windows',
        'Device',
        'the printers of this machine',
      ],
      ['Volatile Environment', 'a', 'settings of one session'],
      ['Volatile Environment', 'b', 'settings of one session'],
    ],
  );
  assert.equal(
    writeDelta(result.delta).toString('latin1'),
    `VARVE REGISTRY DELTA 1

hive user

+[Software\\\\App]
"x"="1"

[Software\\\\Microsoft\\\\Windows NT\\\\CurrentVersion\\\\Windows] 5
"Load"="app"
`,
  );
  assert.ok(!isEmpty(result.delta));
  assert.deepEqual(withoutNoise(result.delta), { delta: result.delta, noise: [] });
});
