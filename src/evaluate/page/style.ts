/** What only the page of an evaluation has. */
export const evaluationStyle = `
.c0 { --colour: var(--before); } .c1 { --colour: var(--series-1); } .c2 { --colour: var(--series-2); }
.c3 { --colour: var(--series-3); } .c4 { --colour: var(--series-4); }
.cautions { margin: 0 0 18px; padding: 12px 16px 12px 32px; background: var(--tint); border-radius: 8px; font-size: 14.5px; color: var(--soft); }
.cautions .warning { color: var(--loss); font-weight: 600; }
.verdict { font-size: 22px; font-weight: 650; margin: 0 0 6px; line-height: 1.3; }
.verdict.gain { color: var(--gain); } .verdict.loss { color: var(--loss); }
.data .system { overflow-wrap: break-word; }
.system i { display: inline-block; width: 11px; height: 11px; border-radius: 50%; margin-right: 7px; background: var(--colour); }
h3.part { margin: 26px 0 6px; }
h4 { font-size: 13.5px; margin: 0 0 6px; font-weight: 600; }
.data td { vertical-align: middle; padding-top: 4px; padding-bottom: 4px; line-height: 1.35; }
.data th { overflow-wrap: break-word; }
.data td:first-child { min-width: 4.6em; }
.data small { display: block; font-size: 12.5px; color: var(--soft); font-weight: 400; }
.data td.whole { white-space: nowrap; overflow-wrap: normal; }
.data .chart { width: 27%; padding-left: 26px; padding-right: 14px; }
.data .text { text-align: left; vertical-align: top; }
.data .text:first-child { min-width: 150px; }
.data tr.above td { padding-top: 16px; font-weight: 650; text-align: left; }
.data tbody tr:first-child.above td { padding-top: 6px; }
.verdict + p { margin-bottom: 18px; }
.few { max-width: 640px; }
@media (min-width: 761px) { .few td:not(.text):not(:first-child) { white-space: nowrap; } }
.minor table { font-size: 13px; }
.published, .published small { color: var(--soft); font-style: italic; }
.published small { font-style: normal; }
.track, .axis { display: block; width: 100%; overflow: visible; }
.track { height: 24px; }
.axis { height: 16px; font-size: 12px; font-weight: 400; }
.axis text { fill: var(--soft); }
.track .level { stroke: var(--line); stroke-width: 1; }
.track .reach { stroke: var(--colour); stroke-width: 9; stroke-opacity: 0.3; }
.track circle { fill: var(--colour); }
.no-picture { display: grid; place-items: center; aspect-ratio: 1; border: 1px dashed var(--line); border-radius: 6px; color: var(--soft); font-size: 13.5px; }
code { font-size: 0.92em; }
@media (max-width: 1000px) {
  .data:not(.few), .data:not(.few) tbody, .data:not(.few) thead, .data:not(.few) thead tr { display: block; }
  .data:not(.few) thead:not(:has(.chart)) { display: none; }
  .data:not(.few) thead th:not(.chart) { display: none; }
  .data:not(.few) thead th.chart { display: block; }
  .data:not(.few) tr { display: flex; flex-wrap: wrap; gap: 3px 18px; padding: 8px 0 10px; border-bottom: 1px solid var(--line); }
  .data:not(.few) tr.above { padding: 16px 0 6px; }
  .data:not(.few) td, .data:not(.few) th { border: none; padding: 0; text-align: left; width: auto; }
  .data:not(.few) td:first-child, .data:not(.few) .chart, .data:not(.few) td.text { flex: 0 0 100%; }
  .data:not(.few) td:first-child { font-weight: 600; }
  .data:not(.few) .chart { padding: 0 14px; }
  .data:not(.few) small { display: inline; }
  .data:not(.few) [data-label]::before { content: attr(data-label); display: inline; margin-right: 6px; font-size: 12.5px; font-weight: 400; color: var(--soft); }
}
@media (max-width: 760px) {
  .verdict { font-size: 19px; }
  .few [data-label]::before { content: none; }
  .few td, .few th { padding-left: 8px; }
}
`
