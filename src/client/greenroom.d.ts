/** The browser client of Greenroom. */

/** Bytes of the state or of an event. Give one to `send` or `call` to send bytes with a type and a name. */
export class Bytes {
  constructor(bytes: Uint8Array, mime?: string, name?: string);
  bytes: Uint8Array;
  mime: string;
  name: string;
  /** For `src` and `href`: made on first use, revoked when the value in the state is replaced. */
  readonly url: string;
  /** Let go of the URL; for bytes of events, which nobody replaces. */
  revoke(): void;
}

/** What names an uploaded file in a payload: `gr.call("import_csv", await gr.upload(file))`. */
export class FileRef {
  constructor(id: string, name?: string, mime?: string, size?: number);
  id: string;
  name: string;
  mime: string;
  size: number;
}

export interface UploadOptions {
  /** What the file is called; its own name by default. */
  name?: string;
  /** Called with bytes that have left, and all of them. */
  progress?: (sent: number, size: number) => void;
  /** Aborts: what was sent is dropped at the server. */
  signal?: AbortSignal;
}

/** How far an upload is; the `detail` of `gr-upload` events. */
export interface Upload {
  name: string;
  type: string;
  /** Bytes. */
  size: number;
  sent: number;
  done: boolean;
  /** Why it ended before it was whole. */
  error: Error | null;
  /** The file input, or the form, whose event sends it; null for `gr.upload`. */
  element: Element | null;
}

/** What a call fails with. */
export class GreenroomError extends Error {
  constructor(code: string, message: string, retryAfter?: number | null);
  /**
   * The word of the wire: bad_payload, not_found, busy, rate_limited, too_large, unauthorized,
   * timeout, cancelled, cycle, handler_error, closed; and the client's own: `lost` (it may or may
   * not have run), `offline` (it was not sent, and will not be).
   */
  code: string;
  /** Seconds, when the server says. */
  retryAfter: number | null;
}

export type Status = "connecting" | "live" | "offline" | "closed";
/** `"a.b"` (`\.` for a literal dot) or a list of keys; `""` is the whole state. */
export type Path = string | readonly (string | number)[];
export type Off = () => void;

export interface Frame {
  type: string;
  data?: any;
  label?: string;
  id?: number;
  seq?: number;
}

/** Where time comes from. */
export interface Clock {
  /** Seconds on a clock that never goes back. */
  now(): number;
  /** Seconds since 1970. */
  wall(): number;
  setTimeout(fn: () => void, milliseconds: number): any;
  clearTimeout(timer: any): void;
}

export interface Options {
  /** Of the server's socket; http and https are understood. Default: `ws` beside greenroom.js. */
  url?: string | URL;
  /** Which view this is; `main` by default. */
  label?: string;
  /** Keeps the token, so that a reload finds its session. Default: sessionStorage; null: nothing. */
  store?: Pick<Storage, "getItem" | "setItem" | "removeItem"> | null;
  /** Bytes travel as binary messages (true, the default) or as base64. */
  binary?: boolean;
  /** Origins, besides the page's own, that the server may import modules from. */
  imports?: string[];
  /** For tests: */
  WebSocket?: new (url: string) => WebSocket;
  clock?: Clock;
  random?: () => number;
  window?: Window | null;
}

export interface SendOptions {
  /** Given to the handler as `context`. */
  context?: Record<string, any>;
}

export interface CallOptions extends SendOptions {
  /** Seconds to wait for the answer. Then the call is cancelled: what waits never runs, what runs is told. */
  timeout?: number;
  /** Cancels: what waits never runs, what runs is told. */
  signal?: AbortSignal;
}

export interface Events {
  /** Hear of a public signal; resolves when the server has agreed. Counted: as often, unsubscribe. */
  subscribe(name: string): Promise<void>;
  unsubscribe(name: string): Promise<void>;
  /** What to do with a signal's data. Signals that nobody handles wait, bounded, for a late one. */
  registerHandler(name: string, fn: (data: any) => void): Off;
  /** Trigger a signal that clients may trigger; resolves when it is in every queue. */
  trigger(name: string, data?: any): Promise<any>;
  /** Ask a public query. */
  request(name: string, data?: any, options?: CallOptions): Promise<any>;
}

export class Greenroom {
  /** The state as the server last told it. Read-only. */
  readonly state: Record<string, any>;
  readonly status: Status;
  readonly label: string;
  /** The session's id; null before the first welcome. */
  readonly session: string | null;
  /** Resolves with this client when the first state is there; rejects when it never will be. */
  readonly ready: Promise<Greenroom>;
  readonly events: Events;
  /** See `Options`. */
  imports: string[];

  /** The value at a path; undefined when there is none. */
  get(path: Path): any;
  /** Called once per applied patch that touches the path. */
  subscribe(path: Path, fn: (value: any, previous: any) => void): Off;

  /** Run a handler, exactly once; nobody waits. A refusal goes to `on("gr:error")`, else to the console. */
  send(type: string, data?: any, options?: SendOptions): void;
  /** Run a handler and wait for its result, or a `GreenroomError`. */
  call(type: string, data?: any, options?: CallOptions): Promise<any>;
  /**
   * Hear of events. Those nobody handles wait, bounded, for a late handler. A handler of a built-in
   * event (`gr:notify`, `gr:confirm`, ...) takes the place of the built-in action; what a handler of
   * `gr:confirm` returns is the answer. Local ones: `gr:gap` and `gr:renewed` (events may be
   * missing, the state is not), `gr:error` (the data is a GreenroomError; in the place
   * of the label stands the type of what was refused).
   */
  on(type: string, fn: (data: any, type: string, label: string) => any): Off;
  /** What `session.call(module, function, ...)` may reach. Adds to what was exposed before. */
  expose(module: string, functions: Record<string, (...args: any[]) => any>): void;

  /** Send a file beside the stream; the handler gets a `gr.File`. Fails like `call`. */
  upload(file: Blob, options?: UploadOptions): Promise<FileRef>;
  /** Hear how uploads get on, those of file inputs, too. */
  onUpload(fn: (upload: Upload) => void): Off;

  onStatus(fn: (status: Status) => void): Off;
  /** Every frame, both ways; tokens are not shown. */
  onFrame(fn: (direction: "in" | "out", frame: Frame) => void): Off;

  /** Bring the `data-gr-*` attributes below `root` (the document) to life. */
  bind(root?: ParentNode): Off;
  /** Tell of a failure the way `send` does: to `on("gr:error")`, else to the console. */
  refused(error: Error, type: string): void;
  /** Where a path that the server names leads: it is relative to its socket. */
  address(path: string): string;
  /** Bytes that a frame of ours may have; 0: any. */
  readonly maxFrameIn: number;
  /** Tell how far an upload is. */
  uploading(upload: Upload): void;
  /** Answer a question of the server (`gr:confirm`). */
  answer(call: number, value: any): void;
  /** Do what the server could ask for (`gr:notify`, ...), or what the page has put in its place. */
  perform(type: string, data: any): void;
  /** Call what the page exposed, now or as soon as it does. */
  invoke(module: string, name: string, args: any[]): void;
  /** Leave for good. The session lives on for its time; its token stays in the store. */
  close(): void;
}

/** Connect to a session. Returns at once; `gr.ready` resolves when the state is there. */
export function connect(options?: Options): Greenroom;
