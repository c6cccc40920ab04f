//! A minimal echo on `tokio-uring`: a task and an owned buffer for each connection, frames rewritten
//! in place, one write for whatever a read brought. It trusts its client: no fragments, no checks.

use std::rc::Rc;

use mimalloc::MiMalloc;
use ringwire_peers::{Ended, address, announce};
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::{TcpListener, TcpStream};
use tungstenite::handshake::derive_accept_key;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> Ended {
    tokio_uring::start(async {
        let listener = TcpListener::bind(address()?)?;
        announce(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio_uring::spawn(async move {
                // A peer that goes away is not worth a line.
                let _ = echo(Rc::new(stream)).await;
            });
        }
    })
}

async fn echo(stream: Rc<TcpStream>) -> Ended {
    let (mut buffer, mut filled) = (vec![0; BUFFER_BYTES], 0);
    loop {
        (buffer, filled) = read(&stream, buffer, filled).await?;
        if let Some(response) = answer(&buffer[..filled]) {
            stream.write_all(response).await.0?;
            filled = 0;
            break;
        }
    }
    loop {
        (buffer, filled) = read(&stream, buffer, filled).await?;
        let mut rewritten = rewrite(&mut buffer[..filled]);
        if rewritten.end > 0 {
            let (result, slice) = stream.write_all(buffer.slice(..rewritten.end)).await;
            result?;
            buffer = slice.into_inner();
        }
        if rewritten.is_closed {
            return Ok(());
        }
        buffer.copy_within(rewritten.consumed..filled, 0);
        filled -= rewritten.consumed;
        // Room for the rest of a frame that is larger than the buffer.
        rewritten.wanted = rewritten.wanted.max(BUFFER_BYTES);
        if buffer.len() != rewritten.wanted && filled <= rewritten.wanted {
            buffer.resize(rewritten.wanted, 0);
        }
    }
}

async fn read(
    stream: &TcpStream,
    buffer: Vec<u8>,
    filled: usize,
) -> Result<(Vec<u8>, usize), Box<dyn std::error::Error>> {
    let (result, slice) = stream.read(buffer.slice(filled..)).await;
    match result? {
        0 => Err("the end".into()),
        bytes => Ok((slice.into_inner(), filled + bytes)),
    }
}

/// The 101 response, once the request is complete.
fn answer(request: &[u8]) -> Option<Vec<u8>> {
    let request = std::str::from_utf8(request).ok()?;
    let (head, _) = request.split_once("\r\n\r\n")?;
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut keys = fields.filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
    let accept = derive_accept_key(keys.next()?.1.trim().as_bytes());
    let start = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade";
    Some(format!("{start}\r\nSec-WebSocket-Accept: {accept}\r\n\r\n").into_bytes())
}

struct Rewritten {
    /// The server's frames lie before this.
    end: usize,
    /// The client's frames lay before this.
    consumed: usize,
    /// Bytes of the frame that goes on.
    wanted: usize,
    /// Whether the last frame is a close frame, whose echo is the answer to it.
    is_closed: bool,
}

/// Turns the client's frames into the server's.
fn rewrite(buffer: &mut [u8]) -> Rewritten {
    let mut done = Rewritten { end: 0, consumed: 0, wanted: 0, is_closed: false };
    while let Some((header_bytes, payload_bytes)) = lengths(&buffer[done.consumed..]) {
        let payload = done.consumed + header_bytes;
        if payload + payload_bytes > buffer.len() {
            done.wanted = header_bytes + payload_bytes;
            break;
        }
        let mut key = [0; 4];
        key.copy_from_slice(&buffer[payload - 4..payload]);
        for (index, byte) in buffer[payload..payload + payload_bytes].iter_mut().enumerate() {
            *byte ^= key[index % 4];
        }
        done.is_closed = buffer[done.consumed] & 0x0f == 8;
        buffer[done.consumed + 1] &= 0x7f;
        buffer.copy_within(done.consumed..payload - 4, done.end);
        done.end += header_bytes - 4;
        buffer.copy_within(payload..payload + payload_bytes, done.end);
        done.end += payload_bytes;
        done.consumed = payload + payload_bytes;
    }
    done
}

/// Bytes of the header, with the mask, and of the payload.
fn lengths(frame: &[u8]) -> Option<(usize, usize)> {
    Some(match *frame.get(1)? & 0x7f {
        126 => (8, usize::from(u16::from_be_bytes(*frame.get(2..)?.first_chunk()?))),
        127 => (14, u64::from_be_bytes(*frame.get(2..)?.first_chunk()?) as usize),
        short => (6, usize::from(short)),
    })
    .filter(|(header_bytes, _)| frame.len() >= *header_bytes)
}

const BUFFER_BYTES: usize = 64 << 10;
