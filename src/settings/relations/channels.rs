//! Settings of channels that are each allowed but not together.

use super::Settings;
use crate::config::{ChannelOptions, Config, HttpUrl, Service};

/// The first relation that does not hold.
pub(super) fn check(settings: &Settings, config: &Config) -> Option<String> {
    duplicate_namespace(settings, config)
        .or_else(|| personal_namespace(settings, config))
        .or_else(|| pings_without_end(settings, config))
        .or_else(|| nobody_may_connect(settings, config))
        .or_else(|| nothing_to_call(settings, config))
        .or_else(|| nobody_may_call(config))
        .or_else(|| calls_behind_proxy(config))
        .or_else(|| nobody_to_ask(settings, config))
        .or_else(|| hooks_without_url(settings, config))
        .or_else(|| mounted_without_channels(settings, config))
}

/// Nobody could tell which of them holds.
fn duplicate_namespace(settings: &Settings, config: &Config) -> Option<String> {
    let mut rest = config.realtime.namespaces.as_slice();
    while let Some((namespace, others)) = rest.split_first() {
        let name = namespace.name.text();
        if others.iter().any(|other| other.name.text() == name) {
            let place = settings.origin("namespace").place("namespace");
            return Some(format!(
                "namespace {name} is there twice ({place}): allowed is each name once"
            ));
        }
        rest = others;
    }
    None
}

/// Personal channels have the options of a namespace that there is.
fn personal_namespace(settings: &Settings, config: &Config) -> Option<String> {
    let realtime = &config.realtime;
    let name = realtime.personal_namespace.as_ref()?.text();
    let described = settings.describe("user-personal-channel-namespace");
    if !realtime.has_personal_channels {
        return Some(format!(
            "{described} and users have no channels of their own: allowed is \
             --user-personal-channel true with it"
        ));
    }
    realtime.namespace(name).is_none().then(|| {
        format!("{described} is no namespace: allowed is one that --namespace names, or off")
    })
}

/// An answer would be late when the next ping is due already.
fn pings_without_end(settings: &Settings, config: &Config) -> Option<String> {
    let realtime = &config.realtime;
    (realtime.pong_timeout >= realtime.ping_interval).then(|| {
        format!(
            "{} with {}: allowed is less than the time between pings",
            settings.describe("client-pong-timeout"),
            settings.describe("client-ping-interval"),
        )
    })
}

/// A mount for channels that there are none of.
fn mounted_without_channels(settings: &Settings, config: &Config) -> Option<String> {
    let mount = config.mounts.iter().find(|mount| mount.service == Service::Realtime)?;
    (!config.realtime.is_on).then(|| {
        format!(
            "mount {} ({}) is for channels and there are none: allowed is --realtime true with it",
            mount.path,
            settings.origin("mount").place("mount"),
        )
    })
}

/// Keys without anything that they are for.
fn nothing_to_call(settings: &Settings, config: &Config) -> Option<String> {
    let realtime = &config.realtime;
    (realtime.api_key.is_some() && !realtime.is_on).then(|| {
        let described = settings.describe("api-key");
        format!("{described} and there are no channels: allowed is --realtime true with it")
    })
}

/// A listener where every call would be refused.
fn nobody_may_call(config: &Config) -> Option<String> {
    let listener = config.api.first().filter(|_| config.realtime.api_key.is_none())?;
    Some(format!(
        "api {} and nobody has a key: allowed is --api with --api-key FILE",
        listener.address
    ))
}

/// Applications call directly.
fn calls_behind_proxy(config: &Config) -> Option<String> {
    let listener = config.api.iter().find(|listener| listener.proxy)?;
    Some(format!("api {} with proxy: allowed is proxy for listen alone", listener.address))
}

/// Channels that a hook decides about, which there is not: nobody could do anything.
fn nobody_to_ask(settings: &Settings, config: &Config) -> Option<String> {
    let hooks = &config.hooks;
    let asked_of = |options: &ChannelOptions| {
        let of = |option, url, is_set: bool, known: &Option<HttpUrl>| {
            (is_set && known.is_none()).then_some((option, url))
        };
        let (is_set, known) = (options.subscribe_proxy_enabled, &hooks.subscribe);
        let subscribe = of("subscribe_proxy_enabled", "hook-subscribe-url", is_set, known);
        let (is_set, known) = (options.publish_proxy_enabled, &hooks.publish);
        let publish = of("publish_proxy_enabled", "hook-publish-url", is_set, known);
        let (is_set, known) = (options.sub_refresh_proxy_enabled, &hooks.sub_refresh);
        let refresh = of("sub_refresh_proxy_enabled", "hook-sub-refresh-url", is_set, known);
        let (is_set, known) = (options.state_proxy_enabled, &hooks.state);
        let state = of("state_proxy_enabled", "hook-state-url", is_set, known);
        subscribe.or(publish).or(refresh).or(state)
    };
    let unnamed = asked_of(&config.realtime.channels).map(|it| ("channels", it, String::new()));
    let named = || {
        let mut namespaces = config.realtime.namespaces.iter();
        namespaces.find_map(|namespace| {
            let of = format!(" of namespace {}", namespace.name.text());
            asked_of(&namespace.options).map(|it| ("namespace", it, of))
        })
    };
    let (key, (option, url), of) = unnamed.or_else(named)?;
    let place = settings.origin(key).place(key);
    Some(format!("{option}{of} ({place}) and nobody to ask: allowed is --{url} with it"))
}

/// Who sets one of these expects that somebody is asked.
fn hooks_without_url(settings: &Settings, config: &Config) -> Option<String> {
    let hooks = &config.hooks;
    let urls = [
        ("hook-connect-url", &hooks.connect),
        ("hook-refresh-url", &hooks.refresh),
        ("hook-subscribe-url", &hooks.subscribe),
        ("hook-publish-url", &hooks.publish),
        ("hook-sub-refresh-url", &hooks.sub_refresh),
        ("hook-rpc-url", &hooks.rpc),
        ("hook-state-url", &hooks.state),
    ];
    if let Some((key, _)) = urls.iter().find(|(_, url)| url.is_some()) {
        return (!config.realtime.is_on).then(|| {
            let described = settings.describe(key);
            format!("{described} and there are no channels: allowed is --realtime true with it")
        });
    }
    let details = [
        ("hook-forward-header", !hooks.fields.is_empty()),
        ("hook-emulated-header", !hooks.emulated_fields.is_empty()),
        ("hook-include-meta", hooks.includes_meta),
    ];
    let (key, _) = details.into_iter().find(|&(_, is_set)| is_set)?;
    let described = settings.describe(key);
    Some(format!(
        "{described} and nobody to be told: allowed is a URL with it, such as --hook-connect-url"
    ))
}

/// Everybody would be refused.
fn nobody_may_connect(settings: &Settings, config: &Config) -> Option<String> {
    let realtime = &config.realtime;
    let may_some = realtime.is_insecure || realtime.may_be_anonymous;
    let may_some = may_some || config.hooks.connect.is_some();
    (realtime.is_on && !may_some && !config.asks_who_somebody_is()).then(|| {
        format!(
            "{} and nobody can show who they are: allowed is realtime with a key for tokens \
             (--jwt-key), with a hook (--hook-connect-url), with --client-allow-anonymous true, or \
             for development with --client-insecure true",
            settings.describe("realtime"),
        )
    })
}
