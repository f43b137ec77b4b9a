/** Rows of text, the first column to the left, numbers to the right. */
export interface Table {
  readonly title: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly Cell[])[];
  /** What was run beside what, and what the figures leave out. */
  readonly notes?: readonly string[];
}

/** Undefined where there is nothing to say: a peer that is not installed, a ratio to nothing. */
export type Cell = string | number | undefined;

export function formatTable(table: Table): string {
  const rows = table.rows.map((row) => row.map(formatCell));
  const widths = table.columns.map((column, i) =>
    Math.max(column.length, ...rows.map((row) => row[i]?.length ?? 0)),
  );
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i] ?? 0)))
      .join('  ')
      .trimEnd();
  return [
    `## ${table.title}`,
    '',
    line(table.columns),
    widths.map((width) => '-'.repeat(width)).join('  '),
    ...rows.map(line),
    ...(table.notes ?? []).map((note) => `  ${note}`),
    '',
  ].join('\n');
}

function formatCell(cell: Cell): string {
  if (cell === undefined) return '-';
  if (typeof cell === 'string') return cell;
  if (!Number.isFinite(cell)) return '-';
  if (Number.isInteger(cell)) return cell.toLocaleString('en-US');
  const digits = Math.abs(cell) >= 100 ? 0 : Math.abs(cell) >= 10 ? 1 : 2;
  return cell.toLocaleString('en-US', { maximumFractionDigits: digits, minimumFractionDigits: digits });
}

/** `0.73 x`, or nothing where there is nothing to compare with. */
export const ratio = (value: number | undefined, base: number | undefined): string | undefined =>
  value === undefined || base === undefined || base === 0 ? undefined : `${(value / base).toFixed(2)} x`;
