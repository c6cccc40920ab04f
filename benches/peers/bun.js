// Echo and broadcast on Bun (uWebSockets inside): Bun.serve with its native publish; with TLS where
// the environment names a certificate and its key.

const { RINGWIRE_TLS_CERT: cert, RINGWIRE_TLS_KEY: key } = process.env;
const tls = cert ? { cert: Bun.file(cert), key: Bun.file(key) } : undefined;
const [hostname, port] = (process.argv[2] ?? "127.0.0.1:7073").split(":");

const server = Bun.serve({
  hostname,
  port: Number(port),
  tls,
  fetch(request, server) {
    const { pathname } = new URL(request.url);
    const topic = pathname.startsWith("/broadcast") ? pathname : null;
    if (server.upgrade(request, { data: { topic } })) return undefined;
    return new Response("WebSocket only\n", { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    idleTimeout: 960,
    maxPayloadLength: 16 << 20,
    backpressureLimit: 16 << 20,
    // ServerWebSocket.publish leaves the sender out; this includes it.
    publishToSelf: true,
    open(socket) {
      if (socket.data.topic) socket.subscribe(socket.data.topic);
    },
    message(socket, message) {
      if (socket.data.topic) socket.publish(socket.data.topic, message);
      else socket.send(message);
    },
  },
});

console.log(`listening on ${tls ? "wss" : "ws"}://${server.hostname}:${server.port}/`);
