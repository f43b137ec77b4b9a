/** Changes that fit between two epochs before their ranges could meet. */
const PER_EPOCH = 4096;
const U32 = 0x1_0000_0000;

/**
 * The version of the cluster map, a u32: it grows with each change that a client has to see, and with the epoch, so
 * that it goes on growing when the NameServer starts again or another one leads, without being stored. It wraps after
 * a million epochs: a client asks for the map when the version is another one than its own.
 */
export class MapVersion {
  readonly #epoch: () => number;
  #changes = 0;
  #atEpoch = 0;

  constructor(epoch: () => number) {
    this.#epoch = epoch;
    this.#atEpoch = epoch();
  }

  get value(): number {
    const epoch = this.#epoch();
    if (epoch !== this.#atEpoch) {
      this.#changes = Math.max(0, this.#changes - (epoch - this.#atEpoch) * PER_EPOCH + 1);
      this.#atEpoch = epoch;
    }
    return (epoch * PER_EPOCH + this.#changes) % U32;
  }

  bump(): void {
    if (this.value >= 0) this.#changes++;
  }
}
