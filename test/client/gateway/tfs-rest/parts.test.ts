import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import * as assert from 'uvu/assert';
import { beautified, fileTime } from '../../../../client/gateway/tfs-rest/answers.ts';
import { AS_STATUS, errorPage } from '../../../../client/gateway/tfs-rest/error-page.ts';
import { fileCrcOf } from '../../../../client/gateway/tfs-rest/file-crc.ts';
import { Query } from '../../../../client/gateway/tfs-rest/query.ts';
import { defaultConfig, parseConfig } from '../../../../common/config.ts';
import { isTfsError, TfsError } from '../../../../common/errors.ts';
import { describe } from '../../../kit/suite.ts';

const refused = (of: () => unknown): string => {
  try {
    of();
  } catch (error) {
    if (isTfsError(error, 'BAD_REQUEST')) return error.message;
    throw error;
  }
  throw new Error('nothing was refused');
};

describe('what the REST interface of TFS is made of', (test) => {
  test('the checksum of TFS follows from that of zlib and the size', () => {
    const direct = (bytes: Uint8Array) => ~crc32(bytes, 0xffff_ffff) >>> 0;
    const check = (bytes: Uint8Array) => {
      assert.is(fileCrcOf(crc32(bytes), bytes.length), direct(bytes), `of ${bytes.length} bytes`);
    };
    // Begun with 0 and not inverted, the first zeros leave no trace: known without any code.
    assert.is(fileCrcOf(crc32(Buffer.alloc(1000)), 1000), 0);
    assert.is(fileCrcOf(crc32(Buffer.from([1])), 1), 0x7707_3096, 'the entry of the table for 1');
    check(Buffer.alloc(0));
    check(Buffer.alloc(5_000_003, 0xa7));
    fc.assert(fc.property(fc.uint8Array({ maxLength: 3000 }), check));
  });

  test('JSON as yajl beautifies it, with whole numbers beyond a double', () => {
    assert.is(
      beautified({ NAME: 'a"b', FILE_ID: 9223190836479524436n, SIZE: 0 }),
      '{\n    "NAME": "a\\"b",\n    "FILE_ID": 9223190836479524436,\n    "SIZE": 0\n}\n',
    );
  });

  test('time is that of Greenwich with eight hours added to the hour alone', () => {
    assert.is(fileTime(Date.UTC(2012, 2, 9, 5, 40, 32, 999)), 'Fri, 09 Mar 2012 13:40:32 UTC+0800');
    assert.is(fileTime(Date.UTC(2012, 2, 9, 0, 0, 0)), 'Fri, 09 Mar 2012 08:00:00 UTC+0800');
    assert.is(fileTime(Date.UTC(2012, 2, 9, 23, 59, 59)), 'Fri, 09 Mar 2012 31:59:59 UTC+0800');
  });

  test('a parameter is read as nginx does: a plus is a plus, what nobody knows is passed over', () => {
    const query = Query.of('suffix=_a+b%2ejpg&&other=1&x&size=5&hide=0');
    assert.is(query.text('suffix'), '_a+b.jpg');
    assert.is(query.text('x'), '');
    assert.is(query.text('absent'), '');
    assert.is(query.count('size', 1), 5);
    assert.is(query.count('absent', 1), undefined);
    assert.is(query.oneOf('hide', [1, 0]), 0);
    assert.is(query.oneOf('absent', [1, 0]), 1);
    assert.is(query.optional('absent', [1, 0]), undefined);
  });

  test('a bad parameter is refused by name', () => {
    assert.match(
      refused(() => Query.of('size=1&size=1')),
      '"size" is given twice',
    );
    assert.match(
      refused(() => Query.of('%73ize=1&size=1')),
      '"size" is given twice',
    );
    assert.match(
      refused(() => Query.of('size=%zz')),
      'percent-encoding',
    );
    for (const text of ['', '0', '-1', '+1', '1.5', '1e3', ' 1', '0x10', '9'.repeat(16), 'NaN'])
      assert.match(
        refused(() => Query.of(`size=${text}`).count('size', 1)),
        'size must be a number from 1',
      );
    for (const text of ['', '3', '02', '2 ', 'true'])
      assert.match(
        refused(() => Query.of(`type=${text}`).optional('type', [0, 2])),
        'type must be 0 or 2',
      );
  });

  test('an error page has its title, its server, its reason, and nothing that a client could write into it', () => {
    const at = { requestId: 'r-1', closing: false, server: 'gateway-0' };
    const page = errorPage(new TfsError('BAD_REQUEST', '<script>"&'), at);
    const text = page.body.toString();
    assert.is(page.status, 400);
    assert.match(text, '<title>400 Bad Request</title>');
    assert.match(text, /<td>Server:<\/td>[^<]+<td>gateway-0<\/td>/);
    assert.match(text, '<p>&lt;script&gt;&quot;&amp;</p>');
    assert.is(page.headers['X-Request-Id'], 'r-1');
    assert.is(page.headers['Content-Type'], 'text/html; charset=utf-8');
    assert.is(Number(page.headers['Content-Length']), page.body.length);
    for (const [error, status, title] of [
      [new TfsError('NOT_FOUND', ''), 404, '404 Not Found'],
      [new TfsError('GONE', ''), 404, '404 Not Found'],
      [new TfsError('UNAUTHORIZED', ''), 400, '400 Bad Request'],
      [new TfsError('UNAUTHORIZED', '', { details: { [AS_STATUS]: 500 } }), 500, '500 Internal Server Error'],
      [new TfsError('INTERNAL', 'a secret'), 500, '500 Internal Server Error'],
      [new TfsError('TOO_LARGE', ''), 413, '413 Request Entity Too Large'],
      [new TfsError('OVERLOADED', ''), 503, '503 Service Temporarily Unavailable'],
    ] as const) {
      const other = errorPage(error, at);
      assert.is(other.status, status);
      assert.match(other.body.toString(), `<title>${title}</title>`);
      assert.not.match(other.body.toString(), 'a secret');
      assert.is(other.headers['WWW-Authenticate'], undefined);
      assert.is(other.headers['Retry-After'], status === 503 ? '1' : undefined);
    }
  });

  test('the configuration takes IPv4 addresses with ports, and nothing that clients would pass over', () => {
    const parse = (tfsRest: object) =>
      parseConfig({ ...defaultConfig({ uuid: '0a'.repeat(16) }), tfsRest }, '/home').tfsRest;
    assert.equal(parse({}), { enabled: true, list: [], requestsPerRefresh: 1000 });
    assert.equal(parse({ list: ['10.0.0.5:7500', '1.2.3.4:80'] }).list.length, 2);
    for (const server of [
      'localhost:7500',
      '10.0.0.5',
      '10.0.0:80',
      '10.0.0.256:80',
      '10.0.0.5:0',
      '[::1]:80',
    ])
      assert.throws(
        () => parse({ list: ['10.0.0.5:80', server] }),
        /tfsRest\.list\[1\]: must be an IPv4/,
        server,
      );
    assert.throws(() => parse({ lists: [] }), /unknown key "tfsRest.lists"/);
    assert.throws(() => parse({ requestsPerRefresh: 0 }), /tfsRest.requestsPerRefresh/);
  });
});
