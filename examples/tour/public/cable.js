// A cable to pull: `connect({ WebSocket: Cable })` makes the client's connections through it.
//
// While it is out, a new connection fails as it would without a network, and the network is not
// asked. What the client does then is what it always does; it does not know about this file.

let plugged = true;
let line = null;

export const Cable = new Proxy(WebSocket, {
  construct: (wire, args) => (line = plugged ? new wire(...args) : new NoLine()),
});

class NoLine {
  constructor() {
    setTimeout(() => this.onclose?.({ code: 1006 }));
  }
  send() {}
  close() {}
}

export function pullTheCable() {
  plugged = false;
  line.close(); // and every new line fails, until it is put back
}

export function putItBack() {
  plugged = true;
  // The client would try again by itself. Told that the network
  // is back, as a browser tells it, it does so at once.
  dispatchEvent(new Event("online"));
}
