/** The common style sheet: system fonts, one column, light and dark from the reader's own setting, fit to print. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --text: #1b2430; --soft: #566171; --line: #dde2e8; --tint: #eef1f5;
  --before: #6b7686; --after: #0f6bd7; --gain: #117a46; --loss: #b3261e;
  --chosen: #c9efd6; --chosen-text: #0b4a29; --rejected: #fad4d1; --rejected-text: #7a1b14;
  --series-1: #0f6bd7; --series-2: #c9650a; --series-3: #117a46; --series-4: #9b3fb5;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12161c; --card: #1a2028; --text: #e4e9ef; --soft: #a3afbd; --line: #2e3743; --tint: #222a34;
    --before: #98a5b5; --after: #5aa5ff; --gain: #58c98b; --loss: #ff8a80;
    --chosen: #17472c; --chosen-text: #b9f3d0; --rejected: #57211d; --rejected-text: #ffcfca;
    --series-1: #5aa5ff; --series-2: #ffa657; --series-3: #58c98b; --series-4: #d48cec;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--text); overflow-wrap: anywhere;
  font: 16px/1.55 system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif;
}
main { max-width: 1160px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 20px; line-height: 1.3; margin: 0 0 12px; }
h3 { font-size: 15px; margin: 0 0 4px; }
p { margin: 0 0 12px; max-width: 96ch; }
.soft { color: var(--soft); }
.small, figcaption, .note { font-size: 13.5px; color: var(--soft); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 22px 24px; margin-top: 20px; }
section > :last-child { margin-bottom: 0; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 6px 0 6px 14px; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; color: var(--soft); font-size: 13px; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tr:last-child td { border-bottom: none; }
tr.total td { font-weight: 650; }
td.number, td.word { white-space: nowrap; }
table.texts th, table.texts td { text-align: left; width: 33%; }
.gain-text { color: var(--gain); font-weight: 600; }
.loss-text { color: var(--loss); font-weight: 600; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 500px), 1fr)); gap: 22px 28px; }
figure { margin: 0; min-width: 0; }
figure svg { display: block; max-width: 100%; height: auto; overflow: visible; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: 13px; color: var(--soft); margin: 0 0 6px; }
.legend i { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 6px; vertical-align: -1px; }
.example { display: grid; grid-template-columns: minmax(0, auto) minmax(0, 1fr); gap: 8px 24px; padding: 18px 0; border-top: 1px solid var(--line); }
.example:first-of-type { border-top: none; padding-top: 4px; }
.example:last-child { padding-bottom: 0; }
.pictures { display: flex; gap: 12px; align-items: flex-start; }
.pictures figure { width: 168px; }
.picture { width: 100%; display: block; border-radius: 6px; background: #000; }
.outline, .outline-under { fill: none; vector-effect: non-scaling-stroke; stroke-linecap: square; }
.outline { stroke: #ffd23f; stroke-width: 1.5; }
.outline-under { stroke: #000; stroke-opacity: 0.55; stroke-width: 3.5; }
.heat rect { fill: #ff5a1f; }
.pictures figcaption { text-align: center; padding-top: 4px; line-height: 1.35; }
.question { font-weight: 600; margin: 0 0 8px; }
.answer { margin: 0 0 8px; padding-left: 12px; border-left: 3px solid var(--line); }
.answer, .long { max-height: 19em; overflow-y: auto; }
.answer.chosen { border-color: var(--gain); }
.answer.rejected { border-color: var(--loss); }
.role { display: block; font-size: 12.5px; color: var(--soft); }
mark { border-radius: 4px; padding: 1px 4px; font-weight: 600; -webkit-box-decoration-break: clone; box-decoration-break: clone; }
mark.chosen { background: var(--chosen); color: var(--chosen-text); }
mark.rejected { background: var(--rejected); color: var(--rejected-text); }
.tag { display: inline-block; font-size: 12.5px; color: var(--soft); border: 1px solid var(--line); border-radius: 12px; padding: 0 10px; margin: 0 6px 4px 0; }
dl { display: grid; grid-template-columns: minmax(90px, max-content) minmax(0, 1fr); gap: 4px 20px; margin: 0 0 16px; font-size: 14.5px; }
dt { color: var(--soft); }
dd { margin: 0; }
details { margin-top: 12px; }
summary { cursor: pointer; color: var(--soft); font-size: 14px; }
.standing p { margin-bottom: 8px; }
.standing .bar { height: 8px; border-radius: 4px; background: var(--tint); overflow: hidden; margin-bottom: 10px; }
.standing .bar i { display: block; height: 100%; background: var(--after); }
.standing.failed .bar i { background: var(--loss); }
.standing.complete .bar i { background: var(--gain); }
.standing .problem, .standing .warning { color: var(--loss); }
.standing .alive { color: var(--soft); font-size: 14px; }
.standing td:not(:nth-child(3)), .standing th:not(:nth-child(3)) { text-align: left; }
.standing td:nth-child(-n+3) { white-space: nowrap; }
.standing .latest { display: flex; flex-wrap: wrap; gap: 4px 28px; color: var(--soft); font-size: 14px; margin: 0; }
.standing .latest b { color: var(--text); font-size: 17px; font-variant-numeric: tabular-nums; }
pre { background: var(--page); border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; font-size: 13px; line-height: 1.45; margin: 10px 0 0; white-space: pre-wrap; }
.narrow { display: none; }
@media (max-width: 760px) {
  main { padding: 24px 12px 48px; }
  h1 { font-size: 24px; }
  section { padding: 18px 16px; }
  .example { grid-template-columns: minmax(0, 1fr); }
  .pictures { flex-wrap: wrap; }
  .pictures figure { width: calc(50% - 6px); max-width: 168px; }
  .wide { display: none; }
  .narrow { display: block; }
  table.texts thead { display: none; }
  table.texts tr { display: block; padding: 10px 0; border-bottom: 1px solid var(--line); }
  table.texts td { display: block; width: auto; border: none; padding: 2px 0; }
  [data-label]::before { content: attr(data-label); display: block; font-size: 12.5px; color: var(--soft); font-weight: 400; }
}
@media print { section, .example { break-inside: avoid; } body { background: #fff; } .answer, .long { max-height: none; } }
`
