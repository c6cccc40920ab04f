//! Echo on `sockudo-ws`; what arrives together is answered with one flush.

use futures_util::{FutureExt, SinkExt, StreamExt};
use mimalloc::MiMalloc;
use ringwire_peers::{Ended, serve};
use sockudo_ws::handshake::server_handshake;
use sockudo_ws::protocol::Message;
use sockudo_ws::{Config, WebSocketStream};
use tokio::net::TcpStream;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> Ended {
    serve(echo)
}

async fn echo(mut stream: TcpStream) -> Ended {
    // The load generator waits for the answer before it sends frames, so nothing is left over.
    server_handshake(&mut stream).await?;
    let mut websocket = WebSocketStream::server(stream, Config::default());
    while let Some(first) = websocket.next().await {
        let mut next = Some(first);
        while let Some(message) = next {
            match message? {
                message @ (Message::Text(_) | Message::Binary(_)) => {
                    websocket.feed(message).await?
                }
                Message::Close(_) => return Ok(()),
                Message::Ping(_) | Message::Pong(_) => {}
            }
            next = websocket.next().now_or_never().flatten();
        }
        websocket.flush().await?;
    }
    Ok(())
}
