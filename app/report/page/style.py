"""How the page looks: on a screen, on a phone, on paper."""

STYLE = """\
:root { color-scheme: light; --ink: #1d2733; --soft: #5a6673; --line: #dde3ea; --back: #f4f6f8; --blue: #0072b2; }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 3.4rem; }
body { margin: 0; font: 16px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; color: var(--ink);
    background: var(--back); }
header, main, footer { max-width: 1200px; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 1.8rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 0 0 .9rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .6rem; overflow-wrap: anywhere; }
h2 + h3 { margin-top: 0; }
header p { margin: .1rem 0; }
p { margin: .4rem 0 .8rem; overflow-wrap: anywhere; }
.soft, footer, figcaption { color: var(--soft); font-size: .88rem; }
.state { display: inline-block; vertical-align: .25em; margin-left: .5rem; padding: .1rem .7rem;
    border-radius: 1rem; font-size: .85rem; font-weight: 600; letter-spacing: .01em; color: #fff;
    background: #5a6673; }
.state.done { background: #00704e; }
.state.running { background: #0062a0; }
.state.failed, .state.unfinished { background: #b03a00; }
nav { position: sticky; top: 0; z-index: 1; display: flex; gap: .15rem; overflow-x: auto; margin: 1.1rem 0 1.2rem;
    padding: .45rem max(1rem, calc((100vw - 1200px) / 2 + 1rem)); background: #fffffff2;
    border: solid var(--line); border-width: 1px 0; }
nav a { padding: .15rem .6rem; border-radius: .4rem; white-space: nowrap; font-size: .9rem; color: var(--ink);
    text-decoration: none; }
nav a:hover, nav a:focus-visible { background: #e4edf5; }
section { margin: 0 0 1.2rem; padding: 1.2rem 1.3rem; background: #fff; border: 1px solid var(--line);
    border-radius: .7rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--soft); white-space: nowrap;
    border-bottom: 2px solid var(--line); }
th, td { padding: .38rem .75rem .38rem 0; vertical-align: top; }
td { border-bottom: 1px solid #edf0f3; }
tr:last-child td { border-bottom: 0; }
th:last-child, td:last-child { padding-right: 0; }
td.short { white-space: nowrap; }
td.long { min-width: 16rem; }
table.pairs { width: auto; }
table.pairs th { padding-right: 2rem; border-bottom: 1px solid #edf0f3; }
table.pairs tr:last-child th { border-bottom: 0; }
th.n, td.n { text-align: right; white-space: nowrap; }
dl.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.2rem, 1fr)); gap: .7rem;
    margin: .9rem 0; }
dl.tiles div { display: flex; flex-direction: column; padding: .6rem .85rem; background: #fff;
    border: 1px solid var(--line); border-radius: .6rem; }
section dl.tiles div { background: var(--back); border-color: transparent; }
dd { margin: 0; font-size: 1.3rem; font-weight: 600; line-height: 1.25; overflow-wrap: anywhere;
    font-variant-numeric: tabular-nums; }
dt { font-size: .82rem; color: var(--soft); }
p + .pictures, .scroll + .pictures, .tiles + .pictures, ul + .pictures,
.pictures + .scroll, .scroll + .scroll, .scroll + p, .scroll + details { margin-top: 1.3rem; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr));
    gap: 1.2rem 1.6rem; align-items: start; }
figure { margin: 0; min-width: 0; max-width: 640px; }
figure.large, figure.whole { grid-column: 1 / -1; }
figure.large { max-width: 900px; }
figure.whole { max-width: none; }
figure img { display: block; width: 100%; height: auto; }
figure.large img { min-width: 560px; }
figure.whole img { min-width: 760px; }
figcaption { margin-top: .3rem; overflow-wrap: anywhere; }
@media (min-width: 1000px) {
  figure.half:only-child { display: grid; grid-template-columns: 640px 1fr; gap: 1.6rem; max-width: none; }
  figure.half:only-child figcaption { align-self: center; }
}
.warning { padding: .5rem .8rem; background: #fff3e6; border-left: 4px solid #d55e00; border-radius: .2rem; }
ul.log { list-style: none; margin: 0; padding: 0;
    font: .82rem/1.5 ui-monospace, "DejaVu Sans Mono", Consolas, monospace; }
ul.log li { padding: .35rem .7rem; margin-bottom: .35rem; white-space: pre-wrap; overflow-wrap: anywhere;
    background: var(--back); border-left: 4px solid #e69f00; }
ul.log li.error { border-color: #b03a00; }
ul.log b { margin-right: .5em; }
details { margin: .5rem 0; }
summary { cursor: pointer; color: var(--blue); }
pre { margin: .6rem 0 0; padding: .8rem 1rem; max-height: 34rem; overflow: auto;
    font: .82rem/1.5 ui-monospace, "DejaVu Sans Mono", Consolas, monospace; background: var(--back);
    border-radius: .4rem; }
footer { padding-bottom: 2.5rem; }
@media (max-width: 640px) {
  header, main, footer { padding-left: .7rem; padding-right: .7rem; }
  section { padding: 1rem .9rem; }
  h1 { font-size: 1.5rem; }
  dl.tiles { grid-template-columns: repeat(2, 1fr); }
}
@media print {
  body { background: #fff; font-size: 11pt; }
  nav { display: none; }
  section { border: 0; padding: 0; margin-bottom: 1.4rem; }
  h2, h3 { break-after: avoid; }
  figure, tr, dl.tiles div { break-inside: avoid; }
  figure img { min-width: 0 !important; }
  .pictures { grid-template-columns: repeat(2, 1fr); }
  .pictures:has(> figure:only-child) { display: block; }
  .scroll { overflow: visible; }
  table { font-size: .74rem; }
  th, th.n, td.n { white-space: normal; padding-right: .4rem; }
  pre { max-height: none; white-space: pre-wrap; }
  * { print-color-adjust: exact; }
}
"""
