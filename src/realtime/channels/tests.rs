//! Names of channels, and every way to be allowed something and to be refused.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::Namespace;

const NOBODY: Asker<'_> = Asker { user: "", is_insecure: false, is_subscribed: false };
const USER: Asker<'_> = Asker { user: "42", ..NOBODY };
const SUBSCRIBER: Asker<'_> = Asker { is_subscribed: true, ..USER };
const INSECURE: Asker<'_> = Asker { is_insecure: true, ..NOBODY };
const DENIED: Result<(), Denied> = Err(Denied::PermissionDenied);

fn channels(change: impl FnOnce(&mut Realtime)) -> Channels {
    let mut settings = Realtime::default();
    for (name, history_size) in [("chat", 1), ("b.2-c_d", 2)] {
        let options = ChannelOptions { history_size, ..ChannelOptions::default() };
        settings.namespaces.push(Namespace { name: name.parse().expect("a name"), options });
    }
    change(&mut settings);
    Channels::new(&settings)
}

fn with_history() -> ChannelOptions {
    let history_ttl = Duration::from_secs(60);
    ChannelOptions { history_size: 10, history_ttl, ..ChannelOptions::default() }
}

#[test]
fn the_namespace_is_before_the_first_colon() {
    let channels = channels(|_| ());
    let size = |channel: &str| channels.options(channel).map(|options| options.history_size);
    for (channel, expected) in [
        ("a", Ok(0)),
        ("chat", Ok(0)),
        ("chat:", Ok(1)),
        ("chat:a:b", Ok(1)),
        ("$chat:a", Ok(1)),
        ("$a", Ok(0)),
        ("b.2-c_d:#42", Ok(2)),
        ("Chat:a", Err(Denied::UnknownChannel)),
        (":a", Err(Denied::UnknownChannel)),
        ("$$chat:a", Err(Denied::UnknownChannel)),
        ("a#chat:a", Err(Denied::UnknownChannel)),
        ("caf\u{e9}:a", Err(Denied::UnknownChannel)),
        ("caf\u{e9}", Err(Denied::BadRequest)),
        ("chat:caf\u{e9}", Err(Denied::BadRequest)),
        ("a\nb", Err(Denied::BadRequest)),
        ("a\u{7f}", Err(Denied::BadRequest)),
        ("a b/&~", Ok(0)),
        ("chat:*", Err(Denied::BadRequest)),
        ("", Err(Denied::BadRequest)),
        (&"a".repeat(255), Ok(0)),
        (&"a".repeat(256), Err(Denied::BadRequest)),
    ] {
        assert_eq!(size(channel), expected, "{channel}");
    }
}

#[test]
fn errors_have_the_codes_of_the_protocol() {
    let all = [
        (Denied::UnknownChannel, 102),
        (Denied::PermissionDenied, 103),
        (Denied::BadRequest, 107),
        (Denied::NotAvailable, 108),
    ];
    assert!(all.into_iter().all(|(denied, code)| ErrorCode::from(denied).code() == code));
}

#[test]
fn users_are_listed_behind_the_last_hash() {
    let users = |channel| user_limited(channel).map(|users| users.collect::<Vec<_>>());
    for (channel, expected) in [
        ("dialog#42,43", Some(vec!["42", "43"])),
        ("a#b#c", Some(vec!["c"])),
        ("#42", Some(vec!["42"])),
        ("a#", Some(vec![])),
        ("a#,,b", Some(vec!["b"])),
        ("a,b", None),
    ] {
        assert_eq!(users(channel), expected, "{channel}");
    }
}

#[test]
fn personal_channels_are_of_one_user() {
    let of = |channels: &Channels, user: &str| channels.personal_channel(user);
    assert_eq!(of(&channels(|_| ()), "42"), None);
    let unnamed = channels(|settings| settings.has_personal_channels = true);
    assert_eq!(of(&unnamed, "42").as_deref(), Some("#42"));
    for user in ["", "a,b", "a#b", "caf\u{e9}", &"a".repeat(255)] {
        assert_eq!(of(&unnamed, user), None, "{user}");
    }
    let named = channels(|settings| {
        settings.has_personal_channels = true;
        settings.personal_namespace = Some("chat".parse().expect("a name"));
    });
    assert_eq!(of(&named, "42").as_deref(), Some("chat:#42"));
}

#[test]
fn who_may_subscribe() {
    let none = ChannelOptions::default();
    let listed = ChannelOptions { allow_user_limited_channels: true, ..none.clone() };
    let users = ChannelOptions { allow_subscribe_for_client: true, ..listed.clone() };
    let all = ChannelOptions { allow_subscribe_for_anonymous: true, ..users.clone() };
    let nameless_alone = ChannelOptions { allow_subscribe_for_anonymous: true, ..none.clone() };
    for (options, channel, asker, has_token, expected) in [
        (&none, "a", USER, false, DENIED),
        (&none, "a", USER, true, Ok(())),
        (&none, "$a", USER, true, Ok(())),
        (&none, "a#43", USER, true, Ok(())),
        (&none, "a", INSECURE, false, Ok(())),
        (&none, "a#43", INSECURE, false, Ok(())),
        (&none, "$a", INSECURE, false, DENIED),
        (&none, "a#42", USER, false, DENIED),
        (&listed, "a#42", USER, false, Ok(())),
        (&listed, "a#42,43", USER, false, Ok(())),
        (&listed, "a#4,2", USER, false, DENIED),
        (&listed, "a#", NOBODY, false, DENIED),
        (&listed, "a", USER, false, DENIED),
        (&users, "a", USER, false, Ok(())),
        (&users, "a", NOBODY, false, DENIED),
        (&users, "a#43", USER, false, DENIED),
        (&users, "$a", USER, false, DENIED),
        (&users, "$a#42", USER, false, DENIED),
        (&all, "a", NOBODY, false, Ok(())),
        (&all, "#", NOBODY, false, DENIED),
        (&nameless_alone, "a", NOBODY, false, DENIED),
    ] {
        let seen = may_subscribe(options, channel, &asker, has_token);
        assert_eq!(seen, expected, "{channel} {asker:?} {has_token} {options:?}");
    }
}

#[test]
fn what_may_be_published_by_whom() {
    let none = ChannelOptions::default();
    let users = ChannelOptions { allow_publish_for_client: true, ..none.clone() };
    let members = ChannelOptions { allow_publish_for_subscriber: true, ..none.clone() };
    let all = ChannelOptions { allow_publish_for_anonymous: true, ..users.clone() };
    let of_json = ChannelOptions { publication_data_format: DataFormat::Json, ..users.clone() };
    let bad = Err(Denied::BadRequest);
    for (options, asker, data, expected) in [
        (&none, SUBSCRIBER, Data::Json, DENIED),
        (&none, INSECURE, Data::Json, Ok(())),
        (&none, INSECURE, Data::Empty, bad),
        (&users, USER, Data::Other, Ok(())),
        (&users, NOBODY, Data::Json, DENIED),
        (&members, USER, Data::Json, DENIED),
        (&members, SUBSCRIBER, Data::Json, Ok(())),
        (&members, Asker { user: "", ..SUBSCRIBER }, Data::Json, DENIED),
        (&all, NOBODY, Data::Json, Ok(())),
        (&of_json, USER, Data::Json, Ok(())),
        (&of_json, USER, Data::Other, bad),
        (&of_json, NOBODY, Data::Other, bad),
    ] {
        assert_eq!(may_publish(options, &asker, data), expected, "{asker:?} {data:?}");
    }
}

#[test]
fn what_is_not_kept_is_not_available() {
    let unavailable = Err(Denied::NotAvailable);
    let none = ChannelOptions {
        allow_presence_for_client: true,
        allow_history_for_client: true,
        ..ChannelOptions::default()
    };
    assert_eq!(may_see_presence(&none, &INSECURE), unavailable);
    assert_eq!(may_read_history(&none, &INSECURE), unavailable);
    let kept = ChannelOptions { presence: true, ..with_history() };
    for ask in [may_see_presence, may_read_history] {
        assert_eq!(ask(&kept, &SUBSCRIBER), DENIED);
        assert_eq!(ask(&kept, &INSECURE), Ok(()));
    }
    let to_members = ChannelOptions {
        allow_presence_for_subscriber: true,
        allow_history_for_subscriber: true,
        ..kept
    };
    for ask in [may_see_presence, may_read_history] {
        assert_eq!(ask(&to_members, &USER), DENIED);
        assert_eq!(ask(&to_members, &SUBSCRIBER), Ok(()));
    }
}

#[test]
fn wishes_are_heard_where_options_allow_them() {
    let wishes = Wishes { positioned: true, recoverable: true, join_leave: true };
    let of = |options: &ChannelOptions| features(options, Overrides::default(), &USER, wishes);
    let none = ChannelOptions { join_leave: true, ..with_history() };
    let announced = Features { is_announced: true, ..Features::default() };
    assert_eq!(of(&none), announced);
    let positions = ChannelOptions { allow_positioning: true, ..none.clone() };
    assert_eq!(of(&positions), Features { is_positioned: true, ..announced });
    let recovery = ChannelOptions { allow_recovery: true, ..none.clone() };
    let safe = Features { is_positioned: true, is_recoverable: true, ..announced };
    assert_eq!(of(&recovery), safe);
    let readers = ChannelOptions {
        allow_history_for_subscriber: true,
        allow_presence_for_subscriber: true,
        ..none.clone()
    };
    assert_eq!(of(&readers), Features { hears_of_others: true, ..safe });
    let silent = ChannelOptions { join_leave: false, history_size: 0, ..readers };
    assert_eq!(of(&silent), Features::default());
    let forced = ChannelOptions {
        force_recovery: true,
        force_push_join_leave: true,
        presence: true,
        ..none
    };
    let unasked = |overrides| features(&forced, overrides, &NOBODY, Wishes::default());
    let all = Features { hears_of_others: true, has_presence: true, ..safe };
    assert_eq!(unasked(Overrides::default()), all);
    let denying = Overrides {
        presence: Some(false),
        join_leave: Some(false),
        force_push_join_leave: Some(false),
        force_recovery: Some(false),
        force_positioning: Some(true),
    };
    assert_eq!(unasked(denying), Features { is_positioned: true, ..Features::default() });
}

proptest! {
    #[test]
    fn names_are_judged_as_a_naive_reader_would(channel in "[$#:,ac\u{e9}ht\n ]{0,9}|chat:.{0,9}") {
        let channels = channels(|_| ());
        let name = if let Some(rest) = channel.strip_prefix('$') { rest } else { &channel };
        let is_ascii = channel.chars().all(|c| c.is_ascii() && !c.is_ascii_control());
        let expected = match name.find(':') {
            _ if channel.is_empty() || channel.contains('*') => Err(Denied::BadRequest),
            Some(end) if !["chat", "b.2-c_d"].contains(&&name[..end]) => {
                Err(Denied::UnknownChannel)
            }
            _ if !is_ascii => Err(Denied::BadRequest),
            Some(_) => Ok(1),
            None => Ok(0),
        };
        prop_assert_eq!(channels.options(&channel).map(|options| options.history_size), expected);
    }
}

#[test]
fn a_pattern_is_within_one_namespace() {
    let channels = channels(|_| ());
    let size = |pattern: &str| channels.options_of_pattern(pattern).map(|it| it.history_size);
    for (pattern, expected) in [
        ("*", Ok(0)),
        ("a/**", Ok(0)),
        ("chat:*", Ok(1)),
        ("$chat:*#*", Ok(1)),
        ("chat:a", Err(Denied::BadRequest)),
        ("chat:a***", Err(Denied::BadRequest)),
        ("*:a", Err(Denied::UnknownChannel)),
        ("ch*:a", Err(Denied::UnknownChannel)),
        ("chat:*\u{e9}", Err(Denied::BadRequest)),
    ] {
        assert_eq!(size(pattern), expected, "{pattern}");
    }
    for (channel, expected) in [("a", ""), ("chat:a:b", "chat:"), ("$chat:*", "$chat:")] {
        assert_eq!(domain(channel), expected);
    }
}

#[test]
fn patterns_need_a_permission_of_their_own() {
    let none = ChannelOptions { allow_subscribe_for_client: true, ..ChannelOptions::default() };
    let users = ChannelOptions { allow_wildcard_subscribe: true, ..ChannelOptions::default() };
    let all = ChannelOptions { allow_subscribe_for_anonymous: true, ..users.clone() };
    let may = |options: &ChannelOptions, pattern: &str, asker: &Asker<'_>, has_token| {
        may_subscribe_to_pattern(options, pattern, asker, has_token)
    };
    for (options, asker, expected) in [
        (&none, USER, DENIED),
        (&none, INSECURE, Ok(())),
        (&users, USER, Ok(())),
        (&users, NOBODY, DENIED),
        (&all, NOBODY, Ok(())),
    ] {
        assert_eq!(may(options, "chat:*", &asker, false), expected);
        assert_eq!(may(options, "chat:*", &asker, true), Ok(()));
        // These would be the channels of others.
        for pattern in ["$chat:*", "chat:*#*", "#**"] {
            assert_eq!(may(options, pattern, &asker, false), DENIED, "{pattern}");
            assert_eq!(may(options, pattern, &asker, true), Ok(()), "{pattern}");
        }
    }
}
