import { type CellResult, isGood, seconds } from './cell.ts';

/** A line for each cell, over all its runs; in Markdown. */
export function cellTable(results: readonly CellResult[]): string {
  const byCell = new Map<string, CellResult[]>();
  for (const result of results) byCell.set(result.cell, [...(byCell.get(result.cell) ?? []), result]);
  const rows = [...byCell].map(([cell, runs]) => {
    const longest = (pick: (result: CellResult) => number): string => seconds(Math.max(...runs.map(pick)));
    const sum = (pick: (result: CellResult) => number): number =>
      runs.reduce((total, run) => total + pick(run), 0);
    return [
      cell,
      `${runs.filter(isGood).length} of ${runs.length}`,
      longest(({ putGapMs }) => putGapMs),
      longest(({ getGapMs }) => getGapMs),
      `${sum(({ putsFailed }) => putsFailed)} of ${sum(({ puts, putsFailed }) => puts + putsFailed)}`,
      `${sum(({ getsFailed }) => getsFailed)} of ${sum(({ gets, getsFailed }) => gets + getsFailed)}`,
      longest(({ writableMs }) => writableMs),
      longest(({ settledMs }) => settledMs),
    ];
  });
  return markdown(
    [
      'fault',
      'good runs',
      'longest time without an upload',
      'without a read',
      'failed uploads',
      'failed reads',
      'writable after mending',
      'all replicas whole after',
    ],
    rows,
  );
}

export function markdown(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]!.length)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, i) => cell.padEnd(widths[i]!)).join(' | ')} |`;
  return [line(head), `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`, ...rows.map(line)].join(
    '\n',
  );
}
