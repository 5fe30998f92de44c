import { connect } from "./greenroom.js";

const gr = connect();
gr.bind(document);

// What Writer's page did by itself, and this one does because it says so.
gr.on("mail:importStylesheet", ({ path }) => {
  document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href: path }));
});
gr.on("mail:importScript", ({ path }) => {
  document.head.append(Object.assign(document.createElement("script"), { src: path }));
});
gr.on("mail:routeVarsChange", (vars) => {
  location.hash = `${location.hash.slice(1).split("?")[0]}?${new URLSearchParams(vars)}`;
});
