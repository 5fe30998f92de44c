import { connect } from "./greenroom.js";
import { expressionInterpreter } from "./vendor/vega-interpreter.js";

const { Arrow, Plotly, vega, vegaLite } = globalThis;
const gr = connect({ store: sessionStorage });
gr.bind(document);

const $ = (id) => document.getElementById(id);

gr.subscribe("numbers", (value) => {
  $("numbers").textContent = JSON.stringify(value);
});
for (const name of ["pandas", "polars", "table"]) {
  gr.subscribe(name, (value) => showTable($(name), Arrow.tableFromIPC(value.bytes)));
}
gr.subscribe("plotly", ({ data, layout }) => Plotly.newPlot("plotly", data, { ...layout, width: 360, height: 240 }));
gr.subscribe("altair", (spec) => {
  // Without eval, which the page's policy forbids: Vega parses to a tree and interprets it.
  const runtime = vega.parse(vegaLite.compile(spec).spec, null, { ast: true });
  return new vega.View(runtime, { expr: expressionInterpreter, container: "#altair" }).runAsync();
});

function showTable(place, table) {
  const { fields } = table.schema;
  const head = place.createTHead();
  head.replaceChildren();
  const names = head.insertRow();
  for (const { name } of fields) names.append(Object.assign(document.createElement("th"), { textContent: name }));
  const body = place.tBodies[0] ?? place.createTBody();
  body.replaceChildren();
  for (const record of table) {
    const row = body.insertRow();
    for (const { name, type } of fields) {
      const cell = row.insertCell();
      cell.textContent = text(record[name], type);
      cell.classList.toggle("none", record[name] === null);
    }
  }
}

function text(value, type) {
  if (value === null) return "none";
  return Arrow.DataType.isTimestamp(type) ? new Date(Number(value)).toISOString().slice(0, 10) : String(value);
}
