//! Values that are each allowed but not together, all in one place.

use super::Settings;
use super::error::SettingError;
use crate::config::{
    Admin, BUILT_IN_PATHS, BroadcastAccess, Config, ListenAddress, MountPath, Root, Service,
};
use crate::limits;

mod channels;

/// Checks every relation between settings.
///
/// # Errors
/// The first relation that does not hold, as a text that names both settings.
pub(super) fn check(settings: &Settings, config: &Config) -> Result<(), SettingError> {
    let broken = duplicate_listener(config)
        .or_else(|| admin_among_listeners(settings, config))
        .or_else(|| takeover_among_listeners(settings, config))
        .or_else(|| duplicate_mount(settings, config))
        .or_else(|| receive_memory(settings, config))
        .or_else(|| backlog_below_one_buffer(settings, config))
        .or_else(|| memory_below_receive_buffers(settings, config))
        .or_else(|| nothing_to_require(settings, config))
        .or_else(|| broadcast_without_access(settings, config))
        .or_else(|| batches_without_sleep(settings, config))
        .or_else(|| proxy_without_trust(config))
        .or_else(|| tls_without_certificate(settings, config))
        .or_else(|| redirects_to_nowhere(config))
        .or_else(|| client_certificates(settings, config))
        .or_else(|| cookie_for_all_pages(settings, config))
        .or_else(|| identity_without_key(settings, config))
        .or_else(|| users_without_certificates(settings, config))
        .or_else(|| backend_without_url(settings, config))
        .or_else(|| keys_of_everybody(settings, config))
        .or_else(|| labels_of_metrics(settings, config))
        .or_else(|| channels::check(settings, config));
    match broken {
        Some(text) => Err(SettingError::Contradiction(text)),
        None => Ok(()),
    }
}

/// Two listeners on one TCP address would both succeed, as shards share a port by `SO_REUSEPORT`.
fn duplicate_listener(config: &Config) -> Option<String> {
    let addresses: Vec<_> = config.listeners().map(|listener| &listener.address).collect();
    let mut rest = addresses.as_slice();
    while let Some((address, others)) = rest.split_first() {
        if others.contains(address) && !is_chosen_by_kernel(address) {
            return Some(format!("listen names {address} twice: allowed is each address once"));
        }
        rest = others;
    }
    None
}

/// Whoever is sent to https finds it there, and has come without.
fn redirects_to_nowhere(config: &Config) -> Option<String> {
    let redirect = config.redirect_http.first()?;
    if let Some(secured) = config.redirect_http.iter().find(|listener| listener.tls) {
        return Some(format!(
            "redirect-http {} with tls: allowed is tls for listen alone",
            secured.address
        ));
    }
    (!config.listen.iter().any(|listener| listener.tls)).then(|| {
        format!(
            "redirect-http {} has nowhere to send anybody to: allowed is redirect-http with a \
             listen that has the option tls, such as 0.0.0.0:443,tls",
            redirect.address
        )
    })
}

/// A listener that speaks TLS shows a certificate, and each of those has its key.
fn tls_without_certificate(settings: &Settings, config: &Config) -> Option<String> {
    let (certificates, keys) = (config.tls.certificates.len(), config.tls.keys.len());
    if certificates != keys {
        return Some(format!(
            "{} with {}: allowed is one --tls-key for each --tls-cert, in the same order",
            settings.describe("tls-cert"),
            settings.describe("tls-key"),
        ));
    }
    let secured = config.serving_listeners().find(|listener| listener.tls);
    let lacking = secured.filter(|_| certificates == 0)?;
    Some(format!(
        "listen {} has the option tls and there is no certificate: name one with --tls-cert and \
         its key with --tls-key",
        lacking.address,
    ))
}

/// What is revoked was issued by somebody, and a session that goes on must not be that of a client
/// who was not asked who it is, or has been turned away since.
fn client_certificates(settings: &Settings, config: &Config) -> Option<String> {
    let tls = &config.tls;
    if tls.client_authorities.is_none() && !tls.revoked.is_empty() {
        return Some(format!(
            "{} revokes certificates of clients, and none are asked for: name who issues them with \
             --tls-client-ca",
            settings.describe("tls-crl"),
        ));
    }
    (tls.client_authorities.is_some() && tls.ticket_keys.is_some()).then(|| {
        format!(
            "{} with {}: allowed is one of them, as a ticket would let in a client whose \
             certificate has been revoked",
            settings.describe("tls-ticket-keys"),
            settings.describe("tls-client-ca"),
        )
    })
}

/// One address cannot be both.
fn admin_among_listeners(settings: &Settings, config: &Config) -> Option<String> {
    let Admin::At(address) = &config.admin else { return None };
    (config.listeners().any(|listener| listener.address == *address)
        && !is_chosen_by_kernel(address))
    .then(|| {
        format!(
            "{} is an address of listen as well: allowed is another one, or off",
            settings.describe("admin"),
        )
    })
}

/// Nor the path by which servers find each other.
fn takeover_among_listeners(settings: &Settings, config: &Config) -> Option<String> {
    let path = config.takeover.as_ref()?.path();
    let is_path =
        |address: &ListenAddress| matches!(address, ListenAddress::Unix(it) if it == path);
    let is_admin = matches!(&config.admin, Admin::At(address) if is_path(address));
    let is_taken = is_admin || config.listeners().any(|listener| is_path(&listener.address));
    is_taken.then(|| {
        let takeover = settings.describe("takeover");
        format!("{takeover} is a path of listen or admin as well: allowed is another one, or off")
    })
}

fn is_chosen_by_kernel(address: &ListenAddress) -> bool {
    matches!(address, ListenAddress::Tcp(tcp) if tcp.port() == 0)
}

/// A mount within `/rooms/{topic}` is a more precise one; two for the same requests are a mistake.
fn duplicate_mount(settings: &Settings, config: &Config) -> Option<String> {
    let place = settings.origin("mount").place("mount");
    let mut rest = config.mounts.as_slice();
    while let Some((mount, others)) = rest.split_first() {
        let path = &mount.path;
        let built_in = BUILT_IN_PATHS.iter().find(|built_in| {
            built_in.parse().is_ok_and(|built_in: MountPath| built_in.overlaps(path))
        });
        if let Some(built_in) = built_in {
            return Some(format!(
                "mount {path} ({place}) is taken by the route {built_in} of the server itself: \
                 allowed is any path but {}",
                BUILT_IN_PATHS.join(", "),
            ));
        }
        if let Some(other) = others.iter().find(|other| other.path == *path) {
            let services = (mount.service.name(), other.service.name());
            return Some(format!(
                "mount {path} is there twice ({place}), with {} and with {}: allowed is each path \
                 once",
                services.0, services.1,
            ));
        }
        rest = others;
    }
    None
}

fn receive_memory(settings: &Settings, config: &Config) -> Option<String> {
    let bytes = u64::from(config.engine.receive_buffers)
        .saturating_mul(u64::from(config.engine.receive_buffer_bytes));
    (bytes > limits::RECEIVE_MEMORY_BYTES_MOST).then(|| {
        format!(
            "{} times {} is {bytes} bytes for each shard: allowed are {} bytes together",
            settings.describe("receive-buffers"),
            settings.describe("receive-buffer-size"),
            limits::RECEIVE_MEMORY_BYTES_MOST,
        )
    })
}

fn backlog_below_one_buffer(settings: &Settings, config: &Config) -> Option<String> {
    let backlog = u64::try_from(config.limits.backlog_bytes).unwrap_or(u64::MAX);
    (backlog < u64::from(config.engine.receive_buffer_bytes)).then(|| {
        format!(
            "{} is less than {}: allowed is at least as much, as the answer to one full receive \
             buffer must fit the backlog",
            settings.describe("max-backlog"),
            settings.describe("receive-buffer-size"),
        )
    })
}

/// The receive buffers are resident from the start.
fn memory_below_receive_buffers(settings: &Settings, config: &Config) -> Option<String> {
    let limit = config.limits.memory_bytes?;
    let engine = &config.engine;
    let bytes = u64::from(engine.receive_buffers)
        .saturating_mul(u64::from(engine.receive_buffer_bytes))
        .saturating_mul(u64::try_from(engine.shards).unwrap_or(u64::MAX));
    (bytes > limit / 2).then(|| {
        format!(
            "{} with {} of {} takes {bytes} bytes for receiving: allowed is at most half of {}",
            settings.describe("shards"),
            settings.describe("receive-buffers"),
            settings.describe("receive-buffer-size"),
            settings.describe("max-memory"),
        )
    })
}

/// Every upgrade would be refused.
fn nothing_to_require(settings: &Settings, config: &Config) -> Option<String> {
    (config.subprotocol_required && config.subprotocols.is_empty()).then(|| {
        format!(
            "{} without a subprotocol: allowed is at least one --subprotocol with it",
            settings.describe("subprotocol-required"),
        )
    })
}

/// Every upgrade of the root, or of a mount, would be refused.
fn broadcast_without_access(settings: &Settings, config: &Config) -> Option<String> {
    let access = settings.describe("broadcast-access");
    let is_broadcast = |service: &Service| matches!(service, Service::Broadcast { .. });
    match config.mounts.iter().find(|mount| is_broadcast(&mount.service)) {
        _ if config.broadcast_access != BroadcastAccess::None => None,
        _ if config.root == Root::Broadcast => Some(format!(
            "{} would refuse everybody with {access}: allowed is root = \"echo\", or another \
             access",
            settings.describe("root"),
        )),
        Some(mount) => Some(format!(
            "mount {} ({}) would refuse everybody with {access}: allowed is echo, or another \
             access",
            mount.path,
            settings.origin("mount").place("mount"),
        )),
        None => None,
    }
}

/// Each series has one value for each name, and every label makes all of them longer.
fn labels_of_metrics(settings: &Settings, config: &Config) -> Option<String> {
    let labels = &config.metrics.labels;
    let place = settings.origin("label").place("label");
    if labels.len() > limits::LABELS_MOST {
        let (count, most) = (labels.len(), limits::LABELS_MOST);
        return Some(format!("label ({place}) names {count} labels: allowed are {most}"));
    }
    let mut rest = labels.as_slice();
    while let Some((label, others)) = rest.split_first() {
        if others.iter().any(|other| other.name() == label.name()) {
            return Some(format!(
                "label {} is there twice ({place}): allowed is each name once",
                label.name()
            ));
        }
        rest = others;
    }
    None
}

/// A batch is gathered while the shard sleeps.
fn batches_without_sleep(settings: &Settings, config: &Config) -> Option<String> {
    (config.engine.busy_poll && config.engine.batch_wait_us.is_some()).then(|| {
        format!(
            "{} with {}: allowed is one of them, as a shard that spins gathers nothing",
            settings.describe("busy-poll"),
            settings.describe("batch-wait-us"),
        )
    })
}

/// Every connection would be reset.
fn proxy_without_trust(config: &Config) -> Option<String> {
    let trusts = |address: &ListenAddress| {
        let mut trusted = config.peers.trusted_proxies.iter();
        trusted.any(|proxy| match address {
            ListenAddress::Tcp(_) => !proxy.is_unix(),
            ListenAddress::Unix(_) => proxy.is_unix(),
            // What it is shows at the start.
            ListenAddress::Activated(_) => true,
        })
    };
    // Those of the API are refused with proxy anyway.
    let mut listeners = config.listen.iter().chain(&config.redirect_http);
    let listener = listeners.find(|it| it.proxy && !trusts(&it.address))?;
    let needed = match listener.address {
        ListenAddress::Tcp(_) => "the network of its proxies",
        ListenAddress::Unix(_) => "unix",
        ListenAddress::Activated(_) => "the network of its proxies, or unix",
    };
    Some(format!(
        "listen {} with proxy takes connections of trusted proxies alone, and there is none: \
         allowed is proxy with {needed} among --trusted-proxy",
        listener.address,
    ))
}

/// Every page in the world could connect in the name of whoever visits it.
fn cookie_for_all_pages(settings: &Settings, config: &Config) -> Option<String> {
    (config.identity.jwt_cookie.is_some() && config.allow_origin.is_empty()).then(|| {
        format!(
            "{} without an origin: allowed is at least one --allow-origin with it, as browsers \
             send the cookie whichever page connects",
            settings.describe("jwt-cookie"),
        )
    })
}

/// Whoever sets one of these expects that something is refused, and nothing would be.
fn identity_without_key(settings: &Settings, config: &Config) -> Option<String> {
    let identity = &config.identity;
    let of_tokens = [
        ("jwt-issuer", identity.jwt_issuer.is_some()),
        ("jwt-audience", !identity.jwt_audiences.is_empty()),
        ("jwt-cookie", identity.jwt_cookie.is_some()),
        ("jwt-query", identity.jwt_query),
    ];
    let of_all = [
        ("jwt-keep-open", identity.jwt_keep_open),
        ("revoked", identity.revoked.is_some()),
        ("user-grants", identity.user_grants.is_some()),
        ("connections-per-user", identity.connections_per_user.is_some()),
        ("anonymous-subscribe", !identity.anonymous_subscribe.is_empty()),
        ("anonymous-publish", !identity.anonymous_publish.is_empty()),
    ];
    let idle = |lacks: bool, keys: &[(&'static str, bool)]| {
        keys.iter().find(|&&(_, is_set)| lacks && is_set).map(|&(key, _)| key)
    };
    if let Some(key) = idle(!identity.has_keys(), &of_tokens) {
        return Some(format!(
            "{} without a key, so that nobody is asked for a token: allowed is at least one \
             --jwt-key, or --jwt-jwks, with it",
            settings.describe(key),
        ));
    }
    idle(!config.asks_who_somebody_is(), &of_all).map(|key| {
        format!(
            "{} where nobody is asked who they are: allowed is {ASKING} with it",
            settings.describe(key),
        )
    })
}

/// Nobody could name a user.
fn users_without_certificates(settings: &Settings, config: &Config) -> Option<String> {
    let is_set = config.identity.takes_certificates();
    (is_set && config.tls.client_authorities.is_none()).then(|| {
        format!(
            "{} without certificates of clients: allowed is --tls-client-ca with it",
            settings.describe("tls-client-user"),
        )
    })
}

/// Who sets one of these expects that somebody is asked.
fn backend_without_url(settings: &Settings, config: &Config) -> Option<String> {
    let backend = &config.backend;
    let is_fetching = config.identity.jwt_jwks.is_some();
    let is_idle = |key: &str| match key {
        "auth-forward-header" => !backend.fields.is_empty(),
        _ => backend.authorities.is_some() && !is_fetching && !config.hooks.has_some(),
    };
    let key = ["auth-forward-header", "auth-ca"].into_iter().find(|key| is_idle(key))?;
    backend.url.is_none().then(|| {
        let jwks = if key == "auth-ca" { ", --jwt-jwks or a hook" } else { "" };
        let key = settings.describe(key);
        format!("{key} and nobody to be asked: allowed is --auth-url{jwks} with it")
    })
}

/// What makes it matter who somebody is.
const ASKING: &str =
    "at least one --jwt-key, --jwt-jwks, --tls-client-user, --basic-users or --auth-url";

/// Who has keys to be fetched has them for many servers and many purposes, and signs with them for
/// all.
fn keys_of_everybody(settings: &Settings, config: &Config) -> Option<String> {
    let identity = &config.identity;
    let is_bound = identity.jwt_issuer.is_some() && !identity.jwt_audiences.is_empty();
    (identity.jwt_jwks.is_some() && !is_bound).then(|| {
        format!(
            "{} without an issuer and an audience: allowed is --jwt-issuer and --jwt-audience with \
             it, as others get tokens that the same keys have signed",
            settings.describe("jwt-jwks"),
        )
    })
}
