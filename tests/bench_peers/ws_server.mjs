// A server on the `ws` package: /echo echoes, any other path broadcasts to all who are on it.
import { createRequire } from "node:module";

const { WebSocketServer } = createRequire(process.argv[2] + "/")("ws");
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false });
const topics = new Map();

server.on("connection", (socket, request) => {
  const path = request.url;
  if (path === "/echo") {
    socket.on("message", (data, binary) => socket.send(data, { binary }));
    return;
  }
  if (!topics.has(path)) topics.set(path, new Set());
  const topic = topics.get(path);
  topic.add(socket);
  socket.on("close", () => topic.delete(socket));
  socket.on("message", (data, binary) => {
    for (const other of topic) other.send(data, { binary });
  });
});
server.on("listening", () => console.log(`ws://127.0.0.1:${server.address().port}`));
