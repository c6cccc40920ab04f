//! `tokio-tungstenite` as the well-behaved client.

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::HANG;

/// A connected client.
pub type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Connects to a URL.
pub async fn connect(url: &str) -> Client {
    let connected = timeout(HANG, connect_async(url)).await;
    connected.expect("an answer in time").expect("the upgrade").0
}

/// The next message.
pub async fn next(client: &mut Client) -> Message {
    let message = timeout(HANG, client.next()).await.expect("a message in time");
    message.expect("a message, not the end").expect("no fault of the server")
}

/// Sends a message and waits until the socket has taken it.
pub async fn send(client: &mut Client, message: Message) {
    timeout(HANG, client.send(message)).await.expect("sent in time").expect("the server reads");
}

/// Closes with 1000 and expects the same code back and then the end.
pub async fn close(mut client: Client) {
    use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
    let frame = CloseFrame { code: CloseCode::Normal, reason: "done".into() };
    client.close(Some(frame)).await.expect("the close frame is sent");
    loop {
        match timeout(HANG, client.next()).await.expect("an answer in time") {
            Some(Ok(Message::Close(answer))) => {
                assert_eq!(answer.expect("a code").code, CloseCode::Normal);
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => panic!("not a clean end: {error}"),
            None => return,
        }
    }
}
