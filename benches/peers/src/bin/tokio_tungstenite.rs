//! Echo on `tokio-tungstenite`; what arrives together is answered with one flush.

use futures_util::{FutureExt, SinkExt, StreamExt};
use mimalloc::MiMalloc;
use ringwire_peers::{Ended, serve};
use tokio::net::TcpStream;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> Ended {
    serve(echo)
}

async fn echo(stream: TcpStream) -> Ended {
    let mut websocket = tokio_tungstenite::accept_async(stream).await?;
    while let Some(first) = websocket.next().await {
        let mut next = Some(first);
        while let Some(message) = next {
            let message = message?;
            if message.is_text() || message.is_binary() {
                websocket.feed(message).await?;
            }
            next = websocket.next().now_or_never().flatten();
        }
        websocket.flush().await?;
    }
    Ok(())
}
