import fc from 'fast-check';
import * as assert from 'uvu/assert';
import {
  slotFlags,
  slotOffset,
  slotSpan,
  slotWord,
  withSlotFlags,
} from '../../../common/format/slot-word.ts';
import { BLOCK_BYTES_MAX } from '../../../common/limits.ts';
import { NameFlag } from '../../../common/wire/messages.ts';
import { describe } from '../../kit/suite.ts';

describe('slot word', (test) => {
  test('holds every offset of the largest block and every state, in a u32', () => {
    fc.assert(
      fc.property(fc.nat(BLOCK_BYTES_MAX / 8 - 1), fc.nat(15), fc.nat(15), (eighths, flags, others) => {
        const word = slotWord(eighths * 8, flags);
        assert.is(Uint32Array.of(word)[0], word);
        assert.is(slotOffset(word), eighths * 8);
        assert.is(slotFlags(word), flags);
        assert.is(withSlotFlags(word, others), slotWord(eighths * 8, others));
      }),
    );
  });

  test('its bits are those of the format', () => {
    assert.is(slotWord(4096, NameFlag.DELETED) >>> 0, (512 | (1 << 27)) >>> 0);
    assert.is(slotWord(0, NameFlag.LOST), 1 << 30);
  });

  test('a span ends where the next slot starts, the last one at the end of the block', () => {
    const words = Uint32Array.of(slotWord(4096), slotWord(4200, NameFlag.HIDDEN), slotWord(4200), 0, 0);
    assert.is(slotSpan(words, 3, 0, 5000), 104);
    assert.is(slotSpan(words, 3, 1, 5000), 0);
    assert.is(slotSpan(words, 3, 2, 5000), 800);
  });
});
