// node listener.mjs PORT: prints a line for each TCP connection, and answers none.
import { createServer } from 'node:net';

createServer((socket) => {
  console.log(`connection from ${socket.remoteAddress}`);
  socket.destroy();
}).listen(Number(process.argv[2]), () => console.log('listening'));
