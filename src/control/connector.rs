//! Connections of the control thread to other servers, for requests of HTTP/1.1.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use axum::body::Body;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio_rustls::TlsConnector;

use super::standing::Standing;
use crate::config::{FilePath, HttpUrl};
use crate::tls::{CertificatesError, client};

/// Connects to the servers that settings name.
pub(super) struct Connector {
    standing: Arc<Standing>,
    /// What is begun with by TLS, and the number of the settings that it was made for.
    tls: RefCell<Option<(u32, Arc<ClientConfig>)>>,
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub(super) enum ConnectError {
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    #[error("cannot speak HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("whom to believe is not known: {0}")]
    Authorities(#[from] CertificatesError),
}

impl Connector {
    pub(super) fn new(standing: Arc<Standing>) -> Self {
        Self { standing, tls: RefCell::default() }
    }

    /// A connection to the server of a URL, which ends with what sends requests by it.
    pub(super) async fn connect(&self, url: &HttpUrl) -> Result<SendRequest<Body>, ConnectError> {
        let (host, _) = url.address();
        let stream = TcpStream::connect(url.address()).await?;
        // A request is one small write, and is waited for.
        stream.set_nodelay(true)?;
        if !url.is_secure() {
            return begin(stream).await;
        }
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        begin(TlsConnector::from(self.tls()?).connect(name, stream).await?).await
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, CertificatesError> {
        let settings = self.standing.shared.in_force.current();
        if let Some((number, config)) = &*self.tls.borrow()
            && *number == settings.number
        {
            return Ok(config.clone());
        }
        let file = settings.config.backend.authorities.as_ref().map(FilePath::path);
        let config = client::for_requests(file)?;
        *self.tls.borrow_mut() = Some((settings.number, config.clone()));
        Ok(config)
    }
}

async fn begin<S>(stream: S) -> Result<SendRequest<Body>, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    spawn_local(connection);
    Ok(sender)
}
