import { connect } from "./greenroom.js";
import { expressionInterpreter } from "./vendor/vega-interpreter.js";

const { Arrow, Plotly, vega, vegaLite } = globalThis;
const gr = connect({ store: sessionStorage });
gr.bind(document);

const show = (id, value) => { document.getElementById(id).textContent = JSON.stringify(value); };
const rows = (data) => Arrow.tableFromIPC(data.bytes).toArray().map((row) => row.toJSON());
const plain = (key, value) => (typeof value === "bigint" ? Number(value) : value);

gr.subscribe("numbers", (value) => show("numbers", value));
for (const name of ["pandas", "polars", "table"]) {
  gr.subscribe(name, (value) => {
    document.getElementById(name).textContent = JSON.stringify(rows(value), plain);
  });
}
gr.subscribe("plotly", ({ data, layout }) => Plotly.newPlot("plotly", data, { ...layout, width: 400, height: 250 }));
gr.subscribe("altair", (spec) => {
  // Without eval, which the page's policy forbids: Vega parses to a tree and interprets it.
  const runtime = vega.parse(vegaLite.compile(spec).spec, null, { ast: true });
  return new vega.View(runtime, { expr: expressionInterpreter, container: "#altair" }).runAsync();
});
