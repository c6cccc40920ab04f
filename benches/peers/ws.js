// Echo and broadcast on Node and the package ws, with the settings its documentation recommends for
// speed: no compression, text not decoded, a broadcast that hands over the received buffer.

const { createServer } = require("node:http");
const { WebSocketServer, WebSocket } = require(process.env.RINGWIRE_WS_PACKAGE ?? "ws");

const [hostname, port] = (process.argv[2] ?? "127.0.0.1:7073").split(":");
const topics = new Map();
const http = createServer();
const server = new WebSocketServer({
  server: http,
  perMessageDeflate: false,
  maxPayload: 16 << 20,
  clientTracking: false,
});

server.on("connection", (socket, request) => {
  socket.on("error", () => {});
  if (!request.url.startsWith("/broadcast")) {
    socket.on("message", (data, binary) => socket.send(data, { binary }));
    return;
  }
  const members = topics.get(request.url) ?? new Set();
  topics.set(request.url, members.add(socket));
  socket.on("close", () => members.delete(socket));
  socket.on("message", (data, binary) => {
    for (const member of members) {
      if (member.readyState === WebSocket.OPEN) member.send(data, { binary });
    }
  });
});

http.listen({ host: hostname, port: Number(port), backlog: 4096 }, () => {
  const { address, port } = http.address();
  console.log(`listening on ws://${address}:${port}/`);
});
