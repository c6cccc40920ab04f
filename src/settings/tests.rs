//! What is printed says the same when it is read, in every layer, and what is refused is told
//! precisely.

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

fn from_file(source: &str) -> Result<Settings, SettingError> {
    let mut settings = Settings::default();
    settings.apply_file(Path::new("a.toml"), source)?;
    Ok(settings)
}

fn from_flag(key: &'static str, texts: &[&str]) -> Result<Settings, SettingError> {
    let values = vec![(key, texts.iter().map(|&text| text.to_owned()).collect())];
    Settings::load(Flags { file: None, values }, [])
}

fn from_variable(key: &str, text: &str) -> Result<Settings, SettingError> {
    Settings::load(Flags::default(), [(variable(key).into(), text.into())])
}

/// Keys and values of a table.
type Pairs = Vec<(&'static str, String)>;

fn option(
    name: &'static str,
    value: impl Strategy<Value = String> + 'static,
) -> BoxedStrategy<Pairs> {
    prop::option::of(value).prop_map(move |v| v.map(|v| (name, v)).into_iter().collect()).boxed()
}

fn listener() -> BoxedStrategy<Pairs> {
    let backlog = || option("backlog", (1_u16..).prop_map(|backlog| backlog.to_string()));
    let tcp = any::<std::net::SocketAddr>()
        .prop_filter("is written with an interface", |address| {
            address.is_ipv4() || address.to_string().parse() == Ok(*address)
        });
    let tcp = (tcp.prop_map(|address| address.to_string()), backlog());
    let tcp = tcp.prop_map(|(address, options)| [vec![("address", address)], options].concat());
    let mode = option("mode", "0?[0-7]{3}".prop_map(|mode| mode));
    let unix = ("[^\0\n]{1,20}|[,= a]{1,9}", backlog(), mode).prop_map(|(path, backlog, mode)| {
        [vec![("address", format!("unix:{path}"))], backlog, mode].concat()
    });
    prop_oneof![tcp, unix].boxed()
}

fn mount() -> BoxedStrategy<Pairs> {
    let path = "(/[-a-zA-Z0-9_~!$&'()*+,;=:@]{1,5}){1,3}/?";
    let with = |path, service: &str| vec![("path", path), ("service", service.to_owned())];
    let echo = path.prop_map(move |path| with(path, "echo"));
    let exclude_self = || option("exclude_self", any::<bool>().prop_map(|value| value.to_string()));
    let topic = "[^\\p{Cc}]{1,9}|[,= a]{1,9}";
    let fixed = (path, topic, exclude_self()).prop_map(move |(path, topic, exclude_self)| {
        [with(path, "broadcast"), vec![("topic", topic)], exclude_self].concat()
    });
    let rooms = (path, exclude_self()).prop_map(move |(path, exclude_self)| {
        let path = format!("{}/{{topic}}", path.trim_end_matches('/'));
        [with(path, "broadcast"), exclude_self].concat()
    });
    prop_oneof![echo, fixed, rooms].boxed()
}

/// Options of channels that go together.
fn channel_options() -> BoxedStrategy<Pairs> {
    let history = prop::option::of(1_u32..1_000_000).prop_map(|size| {
        let with_ttl = |size: u32| {
            vec![("history_size", size.to_string()), ("history_ttl", format!("{size}s"))]
        };
        size.map(with_ttl).unwrap_or_default()
    });
    let presence = option("presence", any::<bool>().prop_map(|value| value.to_string()));
    let id_from = option("id_from", "(/([^\\p{Cc}/~]|~[01]){0,5}){1,3}|off|/[,= a]{1,9}");
    let format = option(
        "publication_data_format",
        prop::sample::select(vec!["", "any", "json"]).prop_map(str::to_owned),
    );
    (history, presence, id_from, format).prop_map(|(a, b, c, d)| [a, b, c, d].concat()).boxed()
}

fn namespace() -> BoxedStrategy<Pairs> {
    let name = "[-a-zA-Z0-9_.]{1,9}:?";
    let with = |(name, options)| [vec![("name", name)], options].concat();
    (name, channel_options()).prop_map(with).boxed()
}

fn tables(key: &str, tables: &[Pairs]) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let line = |(name, value): &(&str, String)| format!("{name} = {}\n", quoted(value));
    let table = |pairs: &Pairs| {
        format!("[[{key}]]\n{}", pairs.iter().map(line).collect::<Vec<_>>().concat())
    };
    tables.iter().map(table).collect::<Vec<_>>().concat()
}

/// A text that the setting takes, if any of these is one.
fn text_for(setting: &Setting, choice: Index) -> Option<String> {
    let texts = [
        "1",
        "7",
        "9",
        "64",
        "4096",
        "0x10",
        "65536",
        "off",
        "true",
        "false",
        "90s",
        "1h",
        "250ms",
        "1MiB",
        "64KiB",
        "a.org",
        "*.b.org:1",
        "https://c.org:81",
        "graphql-ws",
        "0",
    ];
    let listed = setting.value.choices.iter().map(String::as_str).chain(texts);
    let is_taken = |text: &&str| {
        let text = Written::Text((*text).to_owned());
        setting.value.write(&mut Config::default(), &[text]).is_ok()
    };
    let taken: Vec<_> = listed.filter(is_taken).collect();
    (!taken.is_empty()).then(|| taken[choice.index(taken.len())].to_owned())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_printed_says_the_same(
        listeners in prop::collection::vec(listener(), 1..4),
        mounts in prop::collection::vec(mount(), 0..4),
        namespaces in prop::collection::vec(namespace(), 0..4),
        channels in channel_options(),
        choices in prop::collection::vec(prop::option::of(any::<Index>()), declarations().len()),
    ) {
        let mut source = String::new();
        for (setting, choice) in declarations().iter().zip(choices) {
            if setting.value.shape == Shape::Entries {
                continue;
            }
            if let Some(text) = choice.and_then(|choice| text_for(setting, choice)) {
                source.push_str(&format!("{} = \"{text}\"\n", setting.file_key()));
            }
        }
        source.push_str(&tables("listen", &listeners));
        source.push_str(&tables("mounts", &mounts));
        source.push_str(&tables("namespaces", &namespaces));
        source.push_str(&tables("channels", &[channels]));
        let settings = from_file(&source).unwrap();
        prop_assert_eq!(settings.config.listen.len(), listeners.len());
        prop_assert_eq!(settings.config.mounts.len(), mounts.len());
        prop_assert_eq!(settings.config.realtime.namespaces.len(), namespaces.len());

        let printed = settings.to_toml();
        let again = from_file(&printed).unwrap();
        prop_assert_eq!(&again.config, &settings.config);
        prop_assert_eq!(again.to_toml(), printed.replace("# default", "# file"));

        // One grammar: the texts say the same as flags, each by itself, and as variables, together.
        for key in ["listen", "mount", "namespace"] {
            let setting = declarations().into_iter().find(|setting| setting.key == key).unwrap();
            let texts = setting.value.read(&mut settings.config.clone());
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let mut variable = if texts.is_empty() {
                Settings::default()
            } else {
                from_variable(key, &texts.join(",")).unwrap()
            };
            let mut flag = from_flag(key, &texts).unwrap();
            for config in [&mut flag.config, &mut variable.config] {
                prop_assert_eq!(setting.value.read(config), texts.clone());
            }
        }
    }

    #[test]
    fn no_text_of_an_entry_panics(text in "(unix:|/a=echo|presence|)[,=a-z0-9/{}: ]{0,20}") {
        for key in ["listen", "mount", "channels", "namespace"] {
            let _ = from_flag(key, &[&text]);
        }
    }
}

#[test]
fn faults_of_entries_name_place_field_and_remedy() {
    let mounts = "[[mounts]]\npath = \"/a\"\nservice = \"echo\"\n[[mounts]]\n";
    for (result, expected) in [
        (
            from_flag("listen", &["127.0.0.1:1,backlgo=5"]),
            "listen = \"127.0.0.1:1,backlgo=5\" (flag --listen): unknown option backlgo: did you \
             mean backlog? The options are backlog, mode, proxy, tls",
        ),
        (
            from_variable("listen", "unix:/a, unix:/b,c,tls"),
            "listen = \"unix:/b,c,tls\" (environment variable RINGWIRE_LISTEN): unknown option c: \
             the options are backlog, mode, proxy, tls",
        ),
        (
            from_flag("listen", &["unix:/a,mode=9"]),
            "listen = \"unix:/a,mode=9\" (flag --listen): mode = \"9\": allowed is three octal \
             digits such as 660, for unix:PATH",
        ),
        (
            from_flag("listen", &["[::1]:1,mode=660"]),
            "listen = \"[::1]:1,mode=660\" (flag --listen): mode with [::1]:1: allowed is mode for \
             unix:PATH alone",
        ),
        (
            from_flag("listen", &["[::1]:1,backlog=1,backlog=2"]),
            "listen = \"[::1]:1,backlog=1,backlog=2\" (flag --listen): backlog is there twice: \
             allowed is each option once",
        ),
        (
            from_flag("mount", &["/a=brodcast"]),
            "mount = \"/a=brodcast\" (flag --mount): service = \"brodcast\" (did you mean \
             broadcast?): allowed is echo, broadcast, realtime or close",
        ),
        (
            from_flag("mount", &["/a"]),
            "mount = \"/a\" (flag --mount): allowed is PATH=SERVICE such as \
             /chat=broadcast,topic=lobby",
        ),
        (
            from_flag("mount", &["/a=broadcast"]),
            "mount = \"/a=broadcast\" (flag --mount): /a names no topic: allowed is broadcast with \
             topic=TOPIC, or with a path that ends in /{topic}",
        ),
        (
            from_file("listen = [\"127.0.0.1:1,mdoe=660\"]"),
            "listen = \"127.0.0.1:1,mdoe=660\" (a.toml, line 1): unknown option mdoe: did you mean \
             mode? The options are backlog, mode, proxy, tls",
        ),
        (
            from_file(&format!("{mounts}path = \"/b\"\nservce = \"echo\"\n")),
            "[[mounts]] entry 2 (a.toml, line 6): unknown option servce: did you mean service? \
             The options are path, service, topic, exclude_self, code, reason, sockjs, websocket, \
             cookie, response_limit, heartbeat, disconnect_delay, client_url",
        ),
        (
            from_file(&format!("{mounts}path = \"/b\"\nservice = 1.5\n")),
            "[[mounts]] entry 2 (a.toml, line 6): service = \"1.5\": allowed is echo, broadcast, \
             realtime or close",
        ),
        (
            from_file(&format!("{mounts}path = \"/b\"\n")),
            "[[mounts]] entry 2 (a.toml, line 4): service is missing: allowed is echo, broadcast, \
             realtime or close",
        ),
        (
            from_file(&format!("{mounts}path = \"/b\"\nservice = \"echo\"\ntopic = \"t\"\n")),
            "[[mounts]] entry 2 (a.toml, line 4): echo knows no topics: allowed are topic, \
             exclude_self and {topic} with broadcast alone",
        ),
        (
            from_file("[[listen]]\nmode = \"660\"\n"),
            "[[listen]] entry 1 (a.toml, line 1): address is missing: allowed is IP:PORT such as \
             127.0.0.1:7071 or [::1]:7071, unix:PATH, or systemd:NAME for a socket unit",
        ),
        (
            from_file("[[listen]]\naddress = \"systemd:web\"\nbacklog = 64\n"),
            "[[listen]] entry 1 (a.toml, line 1): options with systemd:web: allowed are Backlog= \
             and SocketMode= of the socket unit",
        ),
        (
            from_flag("listen", &["systemd:web,mode=660"]),
            "listen = \"systemd:web,mode=660\" (flag --listen): options with systemd:web: allowed \
             are Backlog= and SocketMode= of the socket unit",
        ),
        (
            from_file("[shards]\ncount = 1\n"),
            "shards = \"[shards]\" (a.toml, line 1): allowed is a number, 1 to 1024",
        ),
        (
            from_file("shards = 1\n[channels]\npresence = true\njoinleave = true\n"),
            "[channels] (a.toml, line 4): unknown option joinleave: did you mean join_leave? The \
             options are history_size, history_ttl, history_meta_ttl, force_recovery, \
             force_recovery_mode, allow_recovery, force_positioning, allow_positioning, presence, \
             join_leave, force_push_join_leave, delta_publish, allowed_delta_types, \
             allow_subscribe_for_client, allow_subscribe_for_anonymous, \
             allow_wildcard_subscribe, allow_publish_for_client, \
             allow_publish_for_subscriber, allow_publish_for_anonymous, \
             allow_presence_for_client, allow_presence_for_subscriber, \
             allow_presence_for_anonymous, allow_history_for_client, \
             allow_history_for_subscriber, allow_history_for_anonymous, \
             allow_user_limited_channels, subscribe_proxy_enabled, publish_proxy_enabled, \
             sub_refresh_proxy_enabled, state_proxy_enabled, allow_tags_filter, id_from, slow, \
             key_from, publication_data_format",
        ),
        (
            from_flag("channels", &["history_size=1"]),
            "channels = \"history_size=1\" (flag --channels): history_size = 1 without \
             history_ttl: allowed is both or neither, such as history_size = 100 with \
             history_ttl = \"5m\"",
        ),
        (
            from_file("[[namespaces]]\nname = \"a\"\n[[namespaces]]\nname = \"b#\"\n"),
            "[[namespaces]] entry 2 (a.toml, line 4): name = \"b#\": allowed is a name of 1 to 64 \
             letters, digits and -_. with or without the colon behind it, such as chat:",
        ),
        (
            from_file("[[channels]]\npresence = true\n[[channels]]\npresence = true\n"),
            "channels = \"[[channels]],[[channels]]\" (a.toml, line 1): allowed is \
             OPTION[=VALUE][,OPTION...] such as history_size=100,history_ttl=5m,presence",
        ),
        (from_file("mount = []\n"), "unknown key mount (a.toml, line 1): did you mean mounts?"),
    ] {
        assert_eq!(result.err().expect(expected).to_string(), expected);
    }
}

#[test]
fn the_settings_for_suites_of_clients_are_accepted() {
    let settings = from_file(include_str!("../../tests/config/centrifuge-python.toml"));
    let config = settings.expect("settings").resolve().expect("they agree");
    let small = config.realtime.namespace("smallhistory").expect("a namespace");
    assert_eq!(small.options.history_size, 2);
    assert!(config.realtime.channels.delta_publish && config.realtime.has_personal_channels);
    assert_eq!(read_trust(&config).expect("keys").keys.len(), 1);
}

#[test]
fn mounts_that_meet_are_refused_together() {
    let refused = |texts: &[&str]| {
        let settings = from_flag("mount", texts).expect("each by itself is fine");
        settings.resolve().expect_err("not together").to_string()
    };
    for (path, built_in) in [
        ("/", "/"),
        ("/healthz", "/healthz"),
        ("/broadcast/a", "/broadcast/{topic}"),
        ("/broadcast/{topic}", "/broadcast/{topic}"),
        ("/{topic}", "/"),
    ] {
        let text = match path.contains("{topic}") {
            true => format!("{path}=broadcast"),
            false => format!("{path}=echo"),
        };
        let said = refused(&[&text]);
        let expected = format!("mount {path} (flag --mount) is taken by the route {built_in} of ");
        assert!(said.starts_with(&expected), "{said}");
    }
    let said = refused(&["/a=echo", "/b=echo", "/a=broadcast,topic=t"]);
    let expected = "mount /a is there twice (flag --mount), with echo and with broadcast: allowed \
        is each path once";
    assert_eq!(said, expected);
    let more_precise = ["/rooms/{topic}=broadcast", "/rooms/lobby=echo"];
    assert!(from_flag("mount", &more_precise).expect("fine").resolve().is_ok());
}

#[test]
fn octal_numbers_of_the_file_are_modes() {
    for mode in ["0o660", "660", "\"660\"", "\"0660\""] {
        let source = format!("[[listen]]\naddress = \"unix:/a\"\nmode = {mode}\n");
        let settings = from_file(&source).expect(mode);
        let modes: Vec<_> = settings.config.listen.iter().map(|listener| listener.mode).collect();
        assert_eq!(modes, [Some("660".parse().expect("a mode"))], "{mode}");
    }
}
