// What the interpreter of Vega's expressions wants of a package that is inside vega.min.js.
export const { ascending, isString, DisallowedObjectProperties } = globalThis.vega;
