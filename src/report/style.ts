/** What only the report has: headline, method, the rows with charts. */
export const REPORT_STYLE = `
.headline { display: grid; grid-template-columns: auto minmax(0, 1fr); gap: 12px 36px; align-items: center; margin-bottom: 18px; }
.numbers { display: flex; align-items: center; gap: 16px; font-variant-numeric: tabular-nums; white-space: nowrap; }
.numbers b { display: block; font-size: 44px; line-height: 1.1; letter-spacing: -0.02em; }
.numbers small { display: block; font-size: 13px; color: var(--soft); }
.numbers .was { color: var(--before); }
.numbers .is { color: var(--after); }
.numbers .arrow { font-size: 28px; color: var(--soft); }
.verdict { font-size: 20px; font-weight: 650; margin: 0 0 4px; line-height: 1.3; }
.verdict.gain { color: var(--gain); }
.verdict.loss { color: var(--loss); }
.steps { list-style: none; display: grid; grid-auto-columns: minmax(0, 1fr); grid-auto-flow: column; gap: 14px 34px; margin: 0 0 18px; padding: 0; }
.steps li { position: relative; background: var(--tint); border-radius: 8px; padding: 12px 14px; font-size: 14.5px; line-height: 1.45; }
.steps li:not(:last-child)::after { content: '→'; position: absolute; right: -26px; top: calc(50% - 14px); font-size: 20px; line-height: 28px; color: var(--soft); }
.steps svg { display: block; width: 100%; max-width: 230px; height: 104px; margin: 6px auto 8px; }
.steps p { margin: 0 0 4px; }
.steps p:last-child { margin: 0; }
.formula { display: flex; flex-wrap: wrap; align-items: stretch; gap: 10px 12px; margin: 0 0 12px; }
.formula > span { align-self: center; font-size: 18px; }
.term { border-left: 4px solid var(--line); background: var(--tint); border-radius: 0 8px 8px 0; padding: 8px 12px; }
.term math, .definitions math { font-size: 17px; }
.term small { display: block; font-size: 13px; color: var(--soft); margin-top: 4px; max-width: 34ch; }
.definitions { font-size: 13.5px; color: var(--soft); }
.definitions li { margin-bottom: 3px; }
.definitions { margin: 0; padding-left: 18px; }
.compared { table-layout: fixed; }
.compared td { padding-top: 5px; padding-bottom: 5px; vertical-align: middle; line-height: 1.35; }
.compared small { display: block; font-size: 12.5px; color: var(--soft); font-weight: 400; white-space: nowrap; }
.compared td:first-child small, .compared .moved small { white-space: normal; }
.compared .name { width: 16%; }
.compared .chart { width: 28%; padding-left: 26px; padding-right: 12px; }
.compared .change { width: 11.5%; }
.compared .moved { width: 13%; }
.compared .p { width: 7.5%; }
.compared .n { width: 5%; }
.compared tr.kind td { font-weight: 650; padding-top: 18px; }
.track, .axis { display: block; width: 100%; overflow: visible; }
.track { height: 28px; }
.axis { height: 16px; font-size: 12px; font-weight: 400; }
.axis text { fill: var(--soft); }
.track .level { stroke: var(--line); stroke-width: 1; }
.track .join { stroke: var(--soft); stroke-width: 2; }
.track .reach { stroke-width: 9; stroke-opacity: 0.3; }
.track .before { stroke: var(--before); fill: var(--before); }
.track .after { stroke: var(--after); fill: var(--after); }
.track circle { stroke: none; }
@media (min-width: 761px) { .hidden { grid-template-columns: minmax(0, 1fr); } .hidden .pictures figure { width: 240px; } }
.hidden .picture { max-width: 168px; }
.hidden figcaption { text-align: left; }
.hidden .answer { margin-top: 8px; font-size: 14px; line-height: 1.4; }
.scale { display: flex; align-items: center; gap: 8px; font-size: 12.5px; color: var(--soft); margin: 8px 0 0; }
.scale i { flex: 0 0 110px; height: 10px; border-radius: 3px; border: 1px solid var(--line); background: linear-gradient(to right, #777, #ff5a1f); }
@media (max-width: 1000px) {
  .steps { grid-auto-flow: row; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); }
  .steps li:not(:last-child)::after { content: none; }
  .compared, .compared tbody { display: block; }
  .compared thead, .compared thead tr { display: block; }
  .compared thead th:not(.chart) { display: none; }
  .compared thead th.chart { display: block; }
  .compared tr { display: grid; grid-template-columns: 1.25fr 1fr 1.1fr; gap: 2px 10px; padding: 8px 0 10px; border-bottom: 1px solid var(--line); }
  .compared tr.kind { padding: 16px 0 4px; }
  .compared td, .compared th { border: none; padding: 0; text-align: left; }
  .compared td:first-child, .compared .chart, .compared tr.kind td { grid-column: 1 / -1; width: auto; padding: 0; }
  .compared thead .chart, .compared td.chart { padding: 0 14px; width: auto; }
  .compared td { width: auto !important; }
  .compared [data-label]::before { content: attr(data-label); display: inline; margin-right: 6px; font-size: 12.5px; font-weight: 400; color: var(--soft); }
}
@media (max-width: 760px) {
  .headline { grid-template-columns: minmax(0, 1fr); }
  .numbers { gap: 12px; }
  .numbers b { font-size: 32px; }
  .numbers .arrow { font-size: 22px; }
  .steps { grid-template-columns: minmax(0, 1fr); gap: 30px; }
  .steps li:not(:last-child)::after { content: '↓'; right: 50%; top: auto; bottom: -29px; }
}
`
