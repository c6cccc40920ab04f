//! Requests of the control thread to other servers, by connections that are kept for the next.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use hyper::Request;
use hyper::client::conn::http1::SendRequest;
use hyper::http::response::Parts;
use thiserror::Error;
use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_local;

use super::connector::{ConnectError, Connector};
use super::standing::Standing;
use crate::config::HttpUrl;

/// Sends requests.
pub(super) struct Requester {
    connector: Connector,
    /// Connections that wait for a request, and the number of the settings they were made by.
    idle: RefCell<(u32, Vec<Idle>)>,
}

/// A connection, and to where it is: whether by TLS, and to whom.
struct Idle {
    server: (bool, Box<str>),
    sender: SendRequest<Body>,
}

/// What a request is for.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    /// The number of the settings that it is sent by.
    pub(super) number: u32,
    /// How many connections may be kept.
    pub(super) kept_most: usize,
    /// Whether it may be sent twice, as nothing comes of it but an answer.
    pub(super) may_repeat: bool,
    /// Bytes of the body of an answer.
    pub(super) body_bytes_most: usize,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub(super) enum RequestError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("no answer: {0}")]
    Http(#[from] hyper::Error),
    #[error("the request cannot be passed on: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("the answer breaks off, or has more than {0} bytes")]
    Body(usize),
}

impl Requester {
    pub(super) fn new(standing: Arc<Standing>) -> Self {
        Self { connector: Connector::new(standing), idle: RefCell::default() }
    }

    /// Sends a request, made anew for each time that it has to be sent, and waits for all of the
    /// answer.
    pub(super) async fn send(
        &self,
        url: &HttpUrl,
        make: impl Fn() -> Result<Request<Body>, hyper::http::Error>,
        terms: Terms,
    ) -> Result<(Parts, Bytes), RequestError> {
        let server = (url.is_secure(), Box::from(url.authority()));
        while let Some(mut sender) = self.take_idle(&server, terms.number) {
            // The server may have closed it, which shows only now.
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(make()?).await {
                Ok(response) => return self.received(response, server, sender, terms).await,
                Err(mut error) => {
                    // It has not been sent, or may be sent again (RFC 9110 section 9.2.2).
                    if error.take_message().is_none() && !terms.may_repeat {
                        return Err(error.into_error().into());
                    }
                    break;
                }
            }
        }
        let mut sender = self.connector.connect(url).await?;
        let response = sender.send_request(make()?).await?;
        self.received(response, server, sender, terms).await
    }

    async fn received(
        &self,
        response: hyper::Response<hyper::body::Incoming>,
        server: (bool, Box<str>),
        sender: SendRequest<Body>,
        terms: Terms,
    ) -> Result<(Parts, Bytes), RequestError> {
        let (head, body) = response.into_parts();
        let body = to_bytes(Body::new(body), terms.body_bytes_most).await;
        let body = body.map_err(|_| RequestError::Body(terms.body_bytes_most))?;
        let (of, idle) = &mut *self.idle.borrow_mut();
        if *of == terms.number && idle.len() < terms.kept_most {
            idle.push(Idle { server, sender });
        }
        Ok((head, body))
    }

    fn take_idle(&self, server: &(bool, Box<str>), number: u32) -> Option<SendRequest<Body>> {
        let (of, idle) = &mut *self.idle.borrow_mut();
        if *of != number {
            // Another server may be meant now, or another authority believed.
            (*of, *idle) = (number, Vec::new());
        }
        idle.retain(|it| !it.sender.is_closed());
        let place = idle.iter().rposition(|it| it.server == *server)?;
        Some(idle.swap_remove(place).sender)
    }
}

/// Does what comes, so much of it at a time as `most` says whenever there is more, for as long as
/// the server runs; the rest waits for what came before.
pub(super) async fn do_in_turn<T, F>(
    mut queue: mpsc::Receiver<T>,
    most: impl Fn() -> usize,
    begin: impl Fn(T) -> F,
) where
    F: Future<Output = ()> + 'static,
{
    let (under_way, has_ended) = (Rc::new(Cell::new(0)), Rc::new(Notify::new()));
    loop {
        if under_way.get() >= most() {
            has_ended.notified().await;
            continue;
        }
        let Some(next) = queue.recv().await else { return };
        under_way.set(under_way.get() + 1);
        let (under_way, has_ended, task) = (under_way.clone(), has_ended.clone(), begin(next));
        spawn_local(async move {
            task.await;
            under_way.set(under_way.get() - 1);
            has_ended.notify_one();
        });
    }
}
