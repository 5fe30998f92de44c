export const pi = 3;
export function note(text) {
  globalThis.called.push(["late", text]);
}
