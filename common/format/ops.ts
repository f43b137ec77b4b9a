/** The operations of a block: one operation, the log of them, and what they add up to. */
export * from './alias-table.ts';
export * from './delete-times.ts';
export * from './op.ts';
export * from './ops-file.ts';
export * from './ops-merge.ts';
export * from './ops-state.ts';
export * from './purgeable.ts';
