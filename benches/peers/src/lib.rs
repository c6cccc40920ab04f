//! What all peers on tokio share: one thread, one listener, a task for each connection, and the
//! line on standard output by which `scripts/compare` learns the address.

use std::error::Error;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};

/// Whatever ended a connection.
pub type Ended = Result<(), Box<dyn Error>>;

/// Serves `handle` on the address that the first argument names, until the process is ended.
///
/// One current-thread runtime: the fastest setting of tokio on one core.
pub fn serve<F: Future<Output = Ended> + 'static>(handle: impl Fn(TcpStream) -> F) -> Ended {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async {
        let listener = TcpListener::bind(address()?).await?;
        announce(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let connection = handle(stream);
            tokio::task::spawn_local(async move {
                // A peer that goes away is not worth a line.
                let _ = connection.await;
            });
        }
    })
}

/// The address that the first argument names.
pub fn address() -> Result<SocketAddr, Box<dyn Error>> {
    let text = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7073".to_owned());
    Ok(text.parse()?)
}

/// Says where the server listens.
pub fn announce(address: SocketAddr) {
    println!("listening on ws://{address}/");
}
