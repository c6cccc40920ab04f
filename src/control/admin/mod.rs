//! The admin listener: HTTP on the control thread, for whoever runs the server.
//!
//! It is bounded in everything, as it shares its thread with the signals and the watch over memory:
//! so many connections, of which the oldest gives way to a new one; so much time for a request, for
//! a body and for the connection itself; so many bytes of each.

mod answer;
mod calls;
mod closed;
mod connection_id;
mod connections;
mod guard;
mod page;
mod report;
mod routes;
mod top;

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use calls::Calls;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::{AbortHandle, JoinHandle, spawn_local};
use tokio::time::{sleep, timeout};

use super::mail::Dispatch;
use super::standing::Standing;
use crate::config::ListenAddress;

/// The listening socket of the admin listener, and how many connections it may hold.
pub struct AdminSocket {
    descriptor: OwnedFd,
    is_unix: bool,
    connections: usize,
}

impl AdminSocket {
    /// `descriptor` listens on `address`, does not block, and is given up to `connections`
    /// descriptors more.
    pub fn new(descriptor: OwnedFd, address: &ListenAddress, connections: usize) -> Self {
        let is_unix = matches!(address, ListenAddress::Unix(_));
        Self { descriptor, is_unix, connections }
    }

    /// Serves until the task that is returned is aborted, within the runtime of the control thread.
    ///
    /// # Errors
    /// When the socket cannot be watched.
    pub(super) fn serve(
        self,
        standing: Arc<Standing>,
        dispatch: Dispatch,
    ) -> io::Result<AbortHandle> {
        let Self { descriptor, is_unix, connections } = self;
        // No browser speaks to a Unix socket.
        let calls = Calls::new(dispatch, standing.shards());
        let router = routes::router(standing, calls, !is_unix);
        let mut open = Connections { router, tasks: VecDeque::new(), most: connections };
        let task = if is_unix {
            let listener = UnixListener::from_std(descriptor.into())?;
            spawn_local(async move {
                loop {
                    open.take(listener.accept().await).await;
                }
            })
        } else {
            let listener = TcpListener::from_std(descriptor.into())?;
            spawn_local(async move {
                loop {
                    open.take(listener.accept().await).await;
                }
            })
        };
        Ok(task.abort_handle())
    }
}

/// The open connections, oldest first.
struct Connections {
    router: Router,
    tasks: VecDeque<JoinHandle<()>>,
    most: usize,
}

impl Connections {
    /// Serves what was accepted, and ends the oldest connection where there are too many. Whoever
    /// holds all of them without asking for anything locks nobody out.
    async fn take<S, A>(&mut self, accepted: io::Result<(S, A)>)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // A peer that has gone already is no reason to wait, but a lack of descriptors is.
                tracing::debug!(%error, "an admin connection could not be accepted");
                return sleep(PAUSE_AFTER_FAILURE).await;
            }
        };
        self.tasks.retain(|task| !task.is_finished());
        if self.tasks.len() >= self.most
            && let Some(oldest) = self.tasks.pop_front()
        {
            oldest.abort();
            // Its descriptor is free before another is taken.
            let _ = oldest.await;
        }
        self.tasks.push_back(spawn_local(serve(stream, self.router.clone())));
    }
}

/// Serves one connection to its end, which comes by itself when the peer has been quiet, or slow to
/// ask, for [`REQUEST_TIMEOUT`].
async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = sleep(LIFETIME) => {
            connection.as_mut().graceful_shutdown();
            // Who does not read its answer is cut off.
            timeout(REQUEST_TIMEOUT, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "an admin connection failed");
    }
}

/// Without a whole request head for this long, a connection ends.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that goes on asking ends after this long all the same.
const LIFETIME: Duration = Duration::from_secs(300);
/// Bytes of a request head, and of what is read ahead of it.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Fields of a request head.
const HEADERS_MAX: usize = 64;
/// After an accept that failed, for want of descriptors perhaps.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);
