// A cable to pull. Import this before the first connection is made.
//
// Every WebSocket of this page is made here, so that there is something to cut. While the cable is
// out, a new connection fails as it would without a network, and the network is not asked.

const Wire = globalThis.WebSocket;
let plugged = true;
let line = null;

class NoLine extends EventTarget {
  readyState = Wire.CONNECTING;
  bufferedAmount = 0;
  constructor() {
    super();
    setTimeout(() => this.close());
  }
  send() {}
  close() {
    if (this.readyState === Wire.CLOSED) return;
    this.readyState = Wire.CLOSED;
    const event = new CloseEvent("close", { code: 1006 });
    this.onclose?.(event);
    this.dispatchEvent(event);
  }
}

globalThis.WebSocket = new Proxy(Wire, {
  construct: (wire, args) => (line = plugged ? Reflect.construct(wire, args) : new NoLine()),
});

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
