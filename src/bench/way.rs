//! The way to the server: its addresses or those of a proxy, the tunnel through that, TLS, and what
//! each upgrade asks for.

use socket2::SockAddr;

use super::arguments::{Arguments, ProtocolName};
use super::handshake::Offer;
use super::plan::PlanError;
use super::proxy::Proxy;
use super::target::{Endpoint, Target, without_brackets};
use crate::tls::client::Verification;
use crate::tls::{CertificatesError, Client};

/// How connections get to the server.
#[derive(Clone, Debug)]
pub struct Way {
    /// Where to connect to, at least one: a connection tries one after the other.
    pub addresses: Vec<SockAddr>,
    /// What asks a proxy for a tunnel.
    pub tunnel: Option<Vec<u8>>,
    /// Who speaks TLS.
    pub client: Option<Client>,
    /// Whether TLS sessions go on with earlier ones.
    pub resumes: bool,
    /// What each upgrade asks for.
    pub offer: Offer,
}

impl Way {
    /// The way that `arguments` name. Files are read and names looked up.
    ///
    /// # Errors
    /// Options that do not go together, and whatever cannot be read or found.
    pub fn new(arguments: &Arguments) -> Result<Self, PlanError> {
        let target = &arguments.url;
        let (endpoint, tunnel) = match &arguments.proxy {
            Some(proxy) => (&proxy.endpoint, Some(tunnel(proxy, target)?)),
            None => (&target.endpoint, None),
        };
        let mut addresses = endpoint.addresses().map_err(PlanError::Unreachable)?;
        if arguments.source.is_some() {
            // Source addresses are IPv4 ones, and reach no others.
            addresses.retain(SockAddr::is_ipv4);
            if addresses.is_empty() {
                return Err(PlanError::of("source", "only for servers with an IPv4 address"));
            }
        }
        // Clients of channels say it themselves.
        let bearer =
            arguments.token.iter().filter(|_| arguments.protocol == ProtocolName::Websocket);
        let token = bearer.map(|token| format!("Authorization: Bearer {token}"));
        let offer = Offer {
            compression: arguments.compression,
            subprotocols: arguments.subprotocol.clone(),
            fields: arguments.header.iter().cloned().chain(token).collect(),
        };
        let client = client(arguments)?;
        Ok(Self { addresses, tunnel, client, resumes: arguments.resume, offer })
    }

    /// Whether it leads to this machine, at an IPv4 address of 127.0.0.0/8.
    pub fn is_ipv4_loopback(&self) -> bool {
        let first = self.addresses.first().and_then(SockAddr::as_socket_ipv4);
        first.is_some_and(|address| address.ip().is_loopback())
    }
}

fn tunnel(proxy: &Proxy, target: &Target) -> Result<Vec<u8>, PlanError> {
    match &target.endpoint {
        Endpoint::Tcp(host, port) => Ok(proxy.request(host, *port)),
        Endpoint::Unix(_) => Err(PlanError::of("proxy", "not to the socket of this machine")),
    }
}

fn client(arguments: &Arguments) -> Result<Option<Client>, PlanError> {
    let Arguments { url, ca, insecure, server_name, tls_version, .. } = arguments;
    let Endpoint::Tcp(host, _) = &url.endpoint else { return refuse_all(arguments) };
    if !url.is_secure {
        return refuse_all(arguments);
    }
    let trust = match ca {
        Some(file) => Verification::IssuedBy(file),
        None if *insecure => Verification::Anybody,
        None => {
            let reason = "wss:// needs the certificates of whoever has issued the server's \
                          (--ca FILE, in PEM), or --insecure, which takes any";
            return Err(PlanError::of("ca", reason));
        }
    };
    let name = server_name.as_deref().unwrap_or(without_brackets(host));
    let client = Client::new(trust, name, *tls_version).map_err(|error| {
        let option = match error {
            CertificatesError::Name { .. } => "server-name",
            _ => "ca",
        };
        PlanError::of(option, &error.to_string())
    })?;
    Ok(Some(client))
}

/// Refuses options of TLS where there is none.
fn refuse_all(arguments: &Arguments) -> Result<Option<Client>, PlanError> {
    let given = [
        ("ca", arguments.ca.is_some()),
        ("insecure", arguments.insecure),
        ("server-name", arguments.server_name.is_some()),
        ("tls-version", arguments.tls_version.is_some()),
        ("resume", arguments.resume),
    ];
    match given.into_iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => Err(PlanError::of(option, "only for wss://")),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use crate::bench::plan::tests::plan;

    #[test]
    fn tls_needs_to_know_whom_to_trust_and_nothing_else_does() {
        for (line, part) in [
            ("wss://127.0.0.1:1/", "--ca: wss:// needs"),
            ("wss://127.0.0.1:1/ --ca /nowhere.pem", "--ca: /nowhere.pem cannot be read"),
            ("wss://127.0.0.1:1/ --ca /dev/null", "--ca: /dev/null has no certificate"),
            ("wss://127.0.0.1:1/ --ca /dev/null --insecure", "cannot be used with"),
            ("wss://127.0.0.1:1/ --insecure --server-name -", "--server-name: \"-\" is neither"),
            ("ws://127.0.0.1:1/ --insecure", "--insecure: only for wss://"),
            ("ws+unix:/a:/ --resume", "--resume: only for wss://"),
            ("ws+unix:/a:/ --proxy http://127.0.0.1:1", "--proxy: not to the socket"),
        ] {
            let said = plan(line).expect_err(line);
            assert!(said.contains(part), "{line}: {said}");
        }
        let plan = plan("wss://127.0.0.1:1/ --insecure --tls-version 1.2").expect("valid");
        assert!(plan.way.client.is_some() && !plan.way.resumes);
    }

    #[test]
    fn a_proxy_looks_the_server_up() {
        let line = "ws://nowhere.invalid/ --proxy http://127.0.0.1:3128 --token a.b";
        let plan = plan(line).expect("valid");
        assert!(plan.way.is_ipv4_loopback());
        let tunnel = plan.way.tunnel.expect("a tunnel");
        assert!(tunnel.starts_with(b"CONNECT nowhere.invalid:80 HTTP/1.1\r\n"), "{tunnel:?}");
        assert_eq!(plan.way.offer.fields, ["Authorization: Bearer a.b"]);
    }
}
