//! The command line as a user meets it: the built binary, its output and its exit status.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use ringwire::config::declarations;
use ringwire::settings::variable;

/// A setting with three values that it takes, none of them the default where there are enough.
struct Row {
    key: &'static str,
    flag: &'static str,
    environment: &'static str,
    file: &'static str,
    /// The three as `ringwire config` shows them.
    shown: [&'static str; 3],
}

#[test]
fn the_table_has_every_setting() {
    let mut declared: Vec<_> = declarations().iter().map(|setting| setting.key).collect();
    let mut rows: Vec<_> = ROWS.iter().map(|row| row.key).collect();
    declared.sort_unstable();
    rows.sort_unstable();
    assert_eq!(rows, declared);
}

#[test]
fn the_readme_tells_of_every_option() {
    let readme = include_str!("../README.md");
    for setting in declarations() {
        assert!(readme.contains(&format!("`--{}`", setting.key)), "{}", setting.key);
    }
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file() {
    for row in ROWS {
        let base = match row.key {
            // Without one there is nothing to require.
            "subprotocol-required" => &["config", "--subprotocol", "a"][..],
            "listen" => &["config", "--tls-cert", "a", "--tls-key", "b"],
            "redirect-http" => SECURED,
            "api" => CALLED,
            // One without the other is refused.
            "tls-cert" | "tls-key" => continue,
            "tls-crl" | "tls-client-user" => &["config", "--tls-client-ca", "a"],
            "jwt-jwks" => {
                &["config", "--jwt-issuer", "a", "--jwt-audience", "b", "--jwt-key", "./a"]
            }
            "jwt-cookie" => &["config", "--jwt-key", "./a", "--allow-origin", "https://a.org"],
            "revoked" | "user-grants" | "connections-per-user" => &["config", "--jwt-key", "./a"],
            key if key.starts_with("anonymous-") => &["config", "--jwt-key", "./a"],
            "realtime" => &["config", "--client-allow-anonymous", "true"],
            "user-personal-channel-namespace" => PERSONAL,
            "hook-forward-header" | "hook-emulated-header" | "hook-include-meta" => HOOK,
            "api-key" => &["config", "--realtime", "true", "--client-allow-anonymous", "true"],
            "auth-ca" | "auth-forward-header" => &["config", "--auth-url", "http://a.org/"],
            key if key.starts_with("hook-") && key.ends_with("-url") => {
                &["config", "--realtime", "true", "--client-allow-anonymous", "true"]
            }
            key if key.starts_with("jwt-") && key != "jwt-key" => &["config", "--jwt-key", "./a"],
            _ => &["config"],
        };
        let defaults = effective(&mut ringwire(base));
        let given: Vec<_> = declarations()
            .into_iter()
            .filter(|setting| base.iter().any(|it| *it == format!("--{}", setting.key)))
            .map(|setting| setting.file_key())
            .collect();
        let is_default = |(key, (_, layer)): (&String, &(String, String))| {
            layer == "default" || given.contains(&key.as_str())
        };
        assert!(defaults.iter().all(is_default));
        let Row { key, flag, environment, file, shown: [by_flag, by_environment, by_file] } = row;
        let setting = declarations().into_iter().find(|setting| setting.key == *key);
        let file_key = setting.expect("declared").file_key();
        let path = write_file(key, &format!("{file_key} = {file}\n"));
        let only_the_key = |mut values: BTreeMap<String, (String, String)>| {
            let value = values.remove(file_key).expect("printed");
            assert!(
                values.iter().all(|(other, value)| defaults.get(other) == Some(value)),
                "{key}"
            );
            value
        };
        let expected = |value: &str, layer: &str| (value.to_owned(), layer.to_owned());

        let mut command = ringwire(base);
        command.args(["--config", &path]);
        assert_eq!(only_the_key(effective(&mut command)), expected(by_file, "file"), "{key}");
        command.env(variable(key), environment);
        let seen = only_the_key(effective(&mut command));
        assert_eq!(seen, expected(by_environment, "environment"), "{key}");
        command.arg(format!("--{key}")).arg(flag);
        assert_eq!(only_the_key(effective(&mut command)), expected(by_flag, "flag"), "{key}");
    }
}

#[test]
fn the_printed_configuration_says_the_same_when_it_is_read() {
    let mut command = ringwire(&["config"]);
    for row in ROWS {
        command.arg(format!("--{}", row.key)).arg(row.flag);
    }
    let printed = text(&run(&mut command).stdout);
    let path = write_file("round-trip", &printed);
    let values = |command: &mut Command| -> BTreeMap<String, String> {
        effective(command).into_iter().map(|(key, (value, _))| (key, value)).collect()
    };
    let mut again = ringwire(&["config", "--config", &path]);
    assert_eq!(values(&mut again), values(&mut command));
    assert!(effective(&mut again).values().all(|(_, layer)| layer == "file"));
}

#[test]
fn every_layer_refuses_what_its_setting_does_not_take() {
    for setting in declarations() {
        let key = setting.key;
        let names_all = |output: &Output, place: &str| {
            let said = refusal(output);
            for part in [key, "?wrong?", place] {
                assert!(said.contains(part), "{key}: {part:?} is not in {said:?}");
            }
            for choice in &setting.value.choices {
                assert!(said.contains(choice), "{key}: {choice:?} is not in {said:?}");
            }
            let allowed = setting.value.allowed.trim_start_matches("at least one of: ");
            assert!(said.contains(allowed) || !setting.value.choices.is_empty(), "{said}");
        };
        names_all(&run(ringwire(&["config"]).arg(format!("--{key}")).arg("?wrong? /***")), "--");
        names_all(&run(ringwire(&["config"]).env(variable(key), "?wrong? /***")), &variable(key));
        let path = write_file(
            &format!("{key}-wrong"),
            &format!("\n{} = \"?wrong? /***\"\n", setting.file_key()),
        );
        names_all(&run(&mut ringwire(&["config", "--config", &path])), &format!("{path}, line 2"));
    }
}

#[test]
fn unknown_names_are_refused_with_the_closest_one() {
    let path = write_file("unknown-key", "shards = 1\nmax-mesage = 5\n");
    let said = refusal(&run(&mut ringwire(&["config", "--config", &path])));
    assert!(said.contains(&format!("key max-mesage ({path}, line 2)")), "{said}");
    assert!(said.contains("did you mean max-message?"), "{said}");

    let said = refusal(&run(&mut ringwire(&["--max-mesage", "5"])));
    assert!(said.contains("'--max-message'"), "{said}");
}

#[test]
fn unknown_variables_are_told_and_stop_nothing() {
    let mut command = ringwire(&["config"]);
    command.envs([("RINGWIRE_MAX_MESAGE", "5"), ("RINGWIRE_PORT", "7071")]);
    let output = run(&mut command);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    let close = "warning: unknown environment variable RINGWIRE_MAX_MESAGE: did you mean \
        RINGWIRE_MAX_MESSAGE?\n";
    assert!(said.contains(close), "{said}");
    assert!(said.contains("warning: unknown environment variable RINGWIRE_PORT: "), "{said}");
    assert!(effective(&mut command).values().all(|(_, layer)| layer == "default"));

    // A start that fails for want of memory has read its settings.
    let mut command = ringwire(&["--listen", "127.0.0.1:0", "--admin", "off"]);
    command.args(["--log-format", "json"]);
    command.args(["--max-memory", "16MiB", "--shards", "64", "--receive-buffers", "1"]);
    let said = text(&run(command.env("RINGWIRE_MAX_MESAGE", "5")).stderr);
    let line = said.lines().find(|line| line.contains("RINGWIRE_MAX_MESAGE")).expect("a warning");
    assert!(line.contains("did you mean RINGWIRE_MAX_MESSAGE?") && line.contains("WARN"), "{line}");
}

#[test]
fn variables_of_services_with_our_name_are_not_ours() {
    let mut command = ringwire(&["config"]);
    command.envs([
        ("RINGWIRE_SERVICE_HOST", "10.0.0.1"),
        ("RINGWIRE_SERVICE_PORT", "7071"),
        ("RINGWIRE_SERVICE_PORT_WEB", "7071"),
        ("RINGWIRE_PORT", "tcp://10.0.0.1:7071"),
        ("RINGWIRE_PORT_7071_TCP", "tcp://10.0.0.1:7071"),
        ("RINGWIRE_PORT_7071_TCP_ADDR", "10.0.0.1"),
        ("RINGWIRE_PORT_7071_TCP_PORT", "7071"),
        ("RINGWIRE_PORT_7071_TCP_PROTO", "tcp"),
        ("RINGWIRE_ADMIN_SERVICE_HOST", "10.0.0.2"),
        ("RINGWIRE_ADMIN_PORT_7072_UDP_ADDR", "10.0.0.2"),
        ("OTHER_MAX_MESAGE", "5"),
    ]);
    let output = run(&mut command);
    assert!(output.status.success());
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn origins_and_hosts_have_one_grammar() {
    for arguments in [
        ["--allow-origin", "null"],
        ["--allow-origin", "https://a:99999"],
        ["--allow-origin", "*.a!b"],
        ["--allow-origin", "https://a!b"],
        ["--allow-host", "a:99999"],
        ["--allow-host", "https://a"],
        ["--allow-host", "*.a!b"],
    ] {
        for command in ["config", "serve"] {
            let said = refusal(&run(ringwire(&[command]).args(arguments)));
            let names_all = said.contains(arguments[0]) && said.contains(arguments[1]);
            assert!(names_all && said.contains("allowed is"), "{said}");
        }
    }
}

#[test]
fn what_is_not_utf_8_is_refused() {
    let path = OsStr::from_bytes(b"unix:/run/\xff");
    let said = refusal(&run(ringwire(&["config"]).env("RINGWIRE_LISTEN", path)));
    assert!(said.contains("listen = "), "{said}");
    refusal(&run(ringwire(&["config", "--listen"]).arg(path)));
}

#[test]
fn a_hidden_mistake_is_still_a_mistake() {
    let mut command = ringwire(&["config", "--shards", "2"]);
    let said = refusal(&run(command.env("RINGWIRE_SHARDS", "none")));
    assert!(said.contains("shards = \"none\" (environment variable RINGWIRE_SHARDS)"), "{said}");
}

#[test]
fn values_that_contradict_each_other_are_refused() {
    let many = (0..17).map(|number| format!("l{number}=x")).collect::<Vec<_>>().join(",");
    let cases: [(&[&str], &[&str]); 27] = [
        (&["--label", "a=1,b=2,a=3"], &["label a", "--label", "twice"]),
        (&["--label", &many], &["label", "17", "16"]),
        (
            &["--busy-poll", "true", "--batch-wait-us", "200"],
            &["busy-poll = true", "batch-wait-us = 200"],
        ),
        (&["--subprotocol-required", "true"], &["subprotocol-required", "--subprotocol"]),
        (&["--listen", "[::1]:80", "--listen", "[::1]:80"], &["listen", "[::1]:80", "twice"]),
        (&["--listen", "[::1]:80", "--admin", "[::1]:80"], &["admin", "[::1]:80", "listen"]),
        (&["--max-backlog", "4KiB"], &["max-backlog", "4KiB", "receive-buffer-size", "64KiB"]),
        (
            &["--receive-buffers", "32768", "--receive-buffer-size", "1MiB"],
            &["receive-buffers", "32768", "receive-buffer-size", "1MiB", "4294967296"],
        ),
        (
            &["--max-memory", "16MiB", "--shards", "5", "--receive-buffers", "32"],
            &["max-memory", "16MiB", "shards", "5", "receive-buffers", "10485760"],
        ),
        (
            &["--root", "broadcast", "--broadcast-access", "none"],
            &["root", "broadcast", "broadcast-access", "none"],
        ),
        (&["--listen", ""], &["listen", "IP:PORT"]),
        (
            &["--mount", "/a=broadcast,topic=t", "--broadcast-access", "none"],
            &["mount /a", "broadcast-access", "none"],
        ),
        (&["--mount", "/a=realtime"], &["mount /a", "--realtime true"]),
        (
            &["--listen", "[::1]:80,proxy", "--trusted-proxy", "unix"],
            &["listen [::1]:80", "proxy", "--trusted-proxy", "network"],
        ),
        (
            &["--listen", "unix:/a,proxy", "--trusted-proxy", "10.0.0.0/8"],
            &["listen unix:/a", "proxy", "--trusted-proxy", "unix"],
        ),
        (
            &["--redirect-http", "0.0.0.0:80"],
            &["redirect-http 0.0.0.0:80", "nowhere", "listen", "tls"],
        ),
        (
            &["--redirect-http", "0.0.0.0:80,tls"],
            &["redirect-http 0.0.0.0:80 with tls", "listen alone"],
        ),
        (
            &["--listen", "[::1]:80", "--redirect-http", "[::1]:80"],
            &["listen", "[::1]:80", "twice"],
        ),
        (&["--api", "0.0.0.0:82"], &["api 0.0.0.0:82", "key", "--api-key"]),
        (
            &[
                "--api",
                "0.0.0.0:82,proxy",
                "--api-key",
                "./a",
                "--realtime",
                "true",
                "--client-insecure",
                "true",
            ],
            &["api 0.0.0.0:82 with proxy", "listen alone"],
        ),
        (&["--namespace", "a", "--namespace", "a:"], &["namespace a", "--namespace", "twice"]),
        (&["--namespace", "a,force_recovery"], &["namespace", "force_recovery", "history"]),
        (
            &["--user-personal-channel", "true", "--user-personal-channel-namespace", "a"],
            &["user-personal-channel-namespace", "a:", "no namespace", "--namespace"],
        ),
        (
            &["--client-pong-timeout", "8s", "--client-ping-interval", "8s"],
            &["client-pong-timeout", "client-ping-interval", "8s"],
        ),
        (&["--realtime", "true"], &["realtime = true", "--jwt-key", "--client-insecure"]),
        (&["--allow-host", ""], &["allow-host"]),
        (&["--allow-origin", ""], &["allow-origin"]),
    ];
    for (arguments, parts) in cases {
        let said = refusal(&run(&mut ringwire(arguments)));
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
        assert!(said.contains("allowed"), "{said}");
    }
    let ports_of_the_kernel = ["config", "--listen", "[::1]:0,[::1]:0", "--admin", "[::1]:0"];
    assert!(run(&mut ringwire(&ports_of_the_kernel)).status.success());
}

#[test]
fn memory_that_is_gone_before_anybody_connects_is_refused() {
    let arguments = "--listen 127.0.0.1:0 --admin off --max-memory 16MiB --shards 64 \
        --receive-buffers 1";
    let arguments: Vec<_> = arguments.split(' ').collect();
    let output = run(&mut ringwire(&arguments));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("max-memory = 16777216 bytes") && said.contains("fewer shards"),
        "{said}"
    );
}

#[test]
fn unreadable_files_are_refused() {
    let said = refusal(&run(&mut ringwire(&["--config", "/nowhere/ringwire.toml"])));
    assert!(said.contains("/nowhere/ringwire.toml: No such file"), "{said}");
    let path = write_file("no-toml", "shards = \n");
    let said = refusal(&run(ringwire(&["config"]).env("RINGWIRE_CONFIG", &path)));
    assert!(said.contains(&path) && said.contains("line 1"), "{said}");
    let path = write_file("a-table", "[limits]\nmax-message = 1\n");
    let said = refusal(&run(&mut ringwire(&["config", "--config", &path])));
    assert!(said.contains("key limits"), "{said}");
}

#[test]
fn a_file_can_be_checked_before_it_is_used() {
    let path = write_file("checked", "max-message = \"1KiB\"\n");
    let output = run(&mut ringwire(&["config", "--check", &path]));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), format!("{path} is a configuration\n"));
    // What else is set counts: together they must do.
    let said =
        refusal(&run(ringwire(&["config", "--check", &path]).env("RINGWIRE_MAX_BACKLOG", "1")));
    assert!(said.contains("max-backlog"), "{said}");
    let path = write_file("not-checked", "max-message = \"1KB\"\n");
    let said = refusal(&run(&mut ringwire(&["config", "--check", &path])));
    assert!(said.contains(&path) && said.contains("line 1"), "{said}");
}

#[test]
fn the_help_tells_what_a_reload_changes() {
    let help = text(&run(&mut ringwire(&["--help"])).stdout);
    let of = |flag: &str| {
        let from = help.find(&format!("--{flag} ")).expect("an option");
        let end = help[from..].find(']').expect("its default");
        help[from..from + end].to_owned()
    };
    assert!(of("max-message").ends_with("; live"), "{}", of("max-message"));
    assert!(!of("receive-buffers").contains("live"), "{}", of("receive-buffers"));
}

/// A variable that was meant to be set must not allow what its list would refuse.
#[test]
fn a_list_is_emptied_by_an_array_alone() {
    let path = write_file("no-listener", "listen = []\n");
    let said = refusal(&run(&mut ringwire(&["config", "--config", &path])));
    assert!(said.contains("listen = ") && said.contains("at least one of: "), "{said}");
    let path = write_file("empty-list", "allow-host = []\n");
    let values = effective(&mut ringwire(&["config", "--config", &path]));
    assert_eq!(values.get("allow-host").map(|(value, _)| value.as_str()), Some("[]"));
    let mut command = ringwire(&["config"]);
    let said = refusal(&run(command.env("RINGWIRE_ALLOW_HOST", "")));
    assert!(said.contains("RINGWIRE_ALLOW_HOST"), "{said}");
}

#[test]
fn completions_and_manual_mention_every_flag() {
    let flags = || declarations().into_iter().map(|setting| setting.key).chain(["config"]);
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = run(&mut ringwire(&["completions", shell]));
        assert!(output.status.success());
        let printed = text(&output.stdout);
        for flag in flags() {
            assert!(printed.contains(flag), "{shell}: {flag}");
        }
    }
    let manual = text(&run(&mut ringwire(&["man"])).stdout).replace('\\', "");
    for flag in flags() {
        assert!(manual.contains(&format!("--{flag}")), "{flag}");
    }
}

#[test]
fn the_help_fits_a_screen_and_the_version_is_told() {
    for arguments in [&["--help"][..], &["serve", "--help"], &["config", "--help"]] {
        let help = text(&run(&mut ringwire(arguments)).stdout);
        for setting in declarations() {
            assert!(help.contains(&format!("--{} <", setting.key)), "{}", setting.key);
            let heading = setting.heading.text();
            assert!(help.contains(&format!("\n{heading}:\n")), "{heading}");
        }
        assert!(help.lines().all(|line| line.chars().count() <= 100));
    }
    let version = text(&run(&mut ringwire(&["--version"])).stdout);
    assert_eq!(version, format!("ringwire {}\n", ringwire::VERSION));
}

fn ringwire(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringwire"));
    command.args(arguments).env_clear();
    command
}

fn run(command: &mut Command) -> Output {
    command.output().expect("the binary starts")
}

/// What `ringwire config` prints: key to value and layer.
fn effective(command: &mut Command) -> BTreeMap<String, (String, String)> {
    let output = run(command);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let is_value = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let entry = |line: &str| {
        let (key, rest) = line.split_once(" = ").expect("a key");
        let (value, layer) = rest.rsplit_once(" # ").expect("a layer");
        (key.to_owned(), (value.to_owned(), layer.to_owned()))
    };
    text(&output.stdout).lines().filter(is_value).map(entry).collect()
}

/// What was said with the exit status of a refusal.
fn refusal(output: &Output) -> String {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(output.stdout.is_empty());
    said
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn write_file(name: &str, content: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{name}.toml"));
    std::fs::write(&path, content).expect("the directory of this target is ours");
    path.into_os_string().into_string().expect("UTF-8")
}

const fn row(
    key: &'static str,
    flag: &'static str,
    environment: &'static str,
    file: &'static str,
    shown: [&'static str; 3],
) -> Row {
    Row { key, flag, environment, file, shown }
}

/// A server that speaks TLS.
const SECURED: &[&str] =
    &["config", "--listen", "127.0.0.1:443,tls", "--tls-cert", "a", "--tls-key", "b"];

/// A server whose API may be called.
const CALLED: &[&str] =
    &["config", "--realtime", "true", "--client-allow-anonymous", "true", "--api-key", "./a"];

/// A server whose users have channels of their own, in namespaces that they may be in.
const PERSONAL: &[&str] = &["config", "--user-personal-channel", "true", "--namespace", "a:,b:,c:"];

/// A server that asks a backend about clients of channels.
const HOOK: &[&str] =
    &["config", "--realtime", "true", "--hook-connect-url", "http://a.org/connect"];

#[rustfmt::skip]
const ROWS: &[Row] = &[
    row("listen", "127.0.0.1:1,[::1]:2,tls", "unix:/run/ringwire.sock, 0.0.0.0:3",
        r#"["127.0.0.1:4", { address = "unix:/a,b", mode = "660", backlog = 5 }]"#,
        [r#"["127.0.0.1:1", "[::1]:2,tls=true"]"#, r#"["unix:/run/ringwire.sock", "0.0.0.0:3"]"#,
        r#"["127.0.0.1:4", "unix:/a,,b,backlog=5,mode=660"]"#]),
    row("redirect-http", "127.0.0.1:81,[::1]:82", "unix:/run/plain.sock",
        r#"[{ address = "127.0.0.1:84", backlog = 5 }]"#,
        [r#"["127.0.0.1:81", "[::1]:82"]"#, r#"["unix:/run/plain.sock"]"#,
        r#"["127.0.0.1:84,backlog=5"]"#]),
    row("api", "127.0.0.1:83,[::1]:84", "unix:/run/api.sock",
        r#"[{ address = "127.0.0.1:84", backlog = 5 }]"#,
        [r#"["127.0.0.1:83", "[::1]:84"]"#, r#"["unix:/run/api.sock"]"#,
        r#"["127.0.0.1:84,backlog=5"]"#]),
    row("admin", "127.0.0.1:9", "unix:/run/admin.sock", r#""off""#, [r#""127.0.0.1:9""#,
        r#""unix:/run/admin.sock""#, r#""off""#]),
    row("mount", "/a=echo,/b/{topic}=broadcast", "/a=broadcast,topic=x,,y,exclude_self",
        r#"[{ path = "/c", service = "broadcast", topic = "a=b,c", sockjs = true,
            heartbeat = "10s", websocket = false }]"#,
        [r#"["/a=echo", "/b/{topic}=broadcast"]"#,
        r#"["/a=broadcast,topic=x,,y,exclude_self=true"]"#,
        r#"["/c=broadcast,topic=a=b,,c,sockjs=true,websocket=false,heartbeat=10s"]"#]),
    row("shards", "11", "12", "13", ["11", "12", "13"]),
    row("pin", "false", "true", "false", ["false", "true", "false"]),
    row("raise-nofile", "false", "true", "false", ["false", "true", "false"]),
    row("receive-buffers", "64", "128", "256", ["64", "128", "256"]),
    row("receive-buffer-size", "4KiB", "8192", r#""16KiB""#, [r#""4KiB""#, r#""8KiB""#,
        r#""16KiB""#]),
    row("broadcast-ring", "2", "4", "8", ["2", "4", "8"]),
    row("park-after", "off", "1500ms", r#""1m""#, [r#""off""#, r#""1500ms""#, r#""1m""#]),
    row("batch-wait-us", "off", "200", "1000", [r#""off""#, "200", "1000"]),
    row("busy-poll", "true", "false", "true", ["true", "false", "true"]),
    row("disable", "no-sqarray", "incremental-buffers,registered-ring", r#""registered-ring""#,
        [r#"["no-sqarray"]"#, r#"["incremental-buffers", "registered-ring"]"#,
        r#"["registered-ring"]"#]),
    row("root", "broadcast", "echo", r#""broadcast""#, [r#""broadcast""#, r#""echo""#,
        r#""broadcast""#]),
    row("broadcast-access", "post", "none", r#""full""#, [r#""post""#, r#""none""#,
        r#""full""#]),
    row("allow-origin", "https://a.org,*.b.org", "http://c.org:81", r#"["HTTPS://D.org"]"#,
        [r#"["https://a.org", "*.b.org"]"#, r#"["http://c.org:81"]"#, r#"["https://d.org"]"#]),
    row("allow-host", "a.org,*.B.org", "c.org:81", r#"["[0::1]"]"#,
        [r#"["a.org", "*.b.org"]"#, r#"["c.org:81"]"#, r#"["[::1]"]"#]),
    row("subprotocol-required", "true", "false", "true", ["true", "false", "true"]),
    row("subprotocol", "a", "b,c", r#"["d", "e"]"#, [r#"["a"]"#, r#"["b", "c"]"#, r#"["d", "e"]"#]),
    row("message-types", "text", "binary", r#""text""#, [r#""text""#, r#""binary""#, r#""text""#]),
    row("compression", "shared", "dedicated", r#""off""#, [r#""shared""#, r#""dedicated""#,
        r#""off""#]),
    row("compression-level", "0", "9", "5", ["0", "9", "5"]),
    row("compression-window", "9", "10", "14", ["9", "10", "14"]),
    row("compression-threshold", "0", "1KiB", r#""1MiB""#, [r#""0B""#, r#""1KiB""#, r#""1MiB""#]),
    row("max-connections", "1", "2", "3", ["1", "2", "3"]),
    row("max-request-head", "1KiB", "2KiB", "4097", [r#""1KiB""#, r#""2KiB""#, r#""4097B""#]),
    row("max-request-headers", "8", "9", "10", ["8", "9", "10"]),
    row("max-message", "1", "2048B", r#""1GiB""#, [r#""1B""#, r#""2KiB""#, r#""1GiB""#]),
    row("max-fragments", "1", "2", "3", ["1", "2", "3"]),
    row("max-control-rate", "1", "2", "3", ["1", "2", "3"]),
    row("message-rate", "1", "off", "10000000", ["1", r#""off""#, "10000000"]),
    row("byte-rate", "1KiB", "off", r#""4GiB""#, [r#""1KiB""#, r#""off""#, r#""4GiB""#]),
    row("on-rate", "close", "pause", r#""close""#, [r#""close""#, r#""pause""#, r#""close""#]),
    row("max-topic-members", "1", "off", "65535", ["1", r#""off""#, "65535"]),
    row("topic-rate", "1", "off", "10000", ["1", r#""off""#, "10000"]),
    row("max-topics", "1", "off", "1000", ["1", r#""off""#, "1000"]),
    row("max-memory", "1GiB", "16GiB", r#""100GiB""#, [r#""1GiB""#, r#""16GiB""#, r#""100GiB""#]),
    row("handshake-timeout", "1s", "2s", r#""3s""#, [r#""1s""#, r#""2s""#, r#""3s""#]),
    row("ping-interval", "off", "30s", r#""1m""#, [r#""off""#, r#""30s""#, r#""1m""#]),
    row("message-idle-timeout", "1h", "30m", r#""off""#, [r#""1h""#, r#""30m""#, r#""off""#]),
    row("message-timeout", "off", "30s", r#""1m""#, [r#""off""#, r#""30s""#, r#""1m""#]),
    row("idle-timeout", "off", "1h", r#""2d""#, [r#""off""#, r#""1h""#, r#""2d""#]),
    row("close-timeout", "1s", "2s", r#""3s""#, [r#""1s""#, r#""2s""#, r#""3s""#]),
    row("lifetime", "60s", "90s", r#""24h""#, [r#""1m""#, r#""90s""#, r#""1d""#]),
    row("trusted-proxy", "10.0.0.0/8,unix", "::1", r#"["192.0.2.1/32"]"#,
        [r#"["10.0.0.0/8", "unix"]"#, r#"["::1"]"#, r#"["192.0.2.1"]"#]),
    row("forwarded-header", "forwarded", "x-forwarded-for", r#""forwarded""#,
        [r#""forwarded""#, r#""x-forwarded-for""#, r#""forwarded""#]),
    row("allow-network", "10.0.0.0/8,::1", "0.0.0.0/0", r#"["2001:DB8::/32"]"#,
        [r#"["10.0.0.0/8", "::1"]"#, r#"["0.0.0.0/0"]"#, r#"["2001:db8::/32"]"#]),
    row("deny-network", "10.0.0.0/8,::1", "0.0.0.0/0", r#"["2001:DB8::/32"]"#,
        [r#"["10.0.0.0/8", "::1"]"#, r#"["0.0.0.0/0"]"#, r#"["2001:db8::/32"]"#]),
    row("max-connections-per-address", "1", "off", "65535", ["1", r#""off""#, "65535"]),
    row("connection-rate", "1", "off", "1000000", ["1", r#""off""#, "1000000"]),
    row("connection-rate-per-address", "1", "off", "10000", ["1", r#""off""#, "10000"]),
    row("limit-ipv6-prefix", "48", "56", "128", ["48", "56", "128"]),
    row("peer-addresses", "true", "false", "true", ["true", "false", "true"]),
    row("refuse-with", "close", "status", r#""close""#, [r#""close""#, r#""status""#,
        r#""close""#]),
    row("jwt-key", "/a,hs256:./b", "eddsa:/c", r#"["/d"]"#, [r#"["/a", "hs256:./b"]"#,
        r#"["eddsa:/c"]"#, r#"["/d"]"#]),
    row("jwt-jwks", "http://a.org/k", "off", r#""http://[::1]:81/""#, [r#""http://a.org/k""#,
        r#""off""#, r#""http://[::1]:81/""#]),
    row("jwt-issuer", "https://a.org", "off", r#""b""#, [r#""https://a.org""#, r#""off""#,
        r#""b""#]),
    row("jwt-audience", "a,https://b.org", "c", r#"["d"]"#, [r#"["a", "https://b.org"]"#,
        r#"["c"]"#, r#"["d"]"#]),
    row("jwt-cookie", "token", "off", r#""__Host-token""#, [r#""token""#, r#""off""#,
        r#""__Host-token""#]),
    row("jwt-query", "true", "false", "true", ["true", "false", "true"]),
    row("jwt-keep-open", "true", "false", "true", ["true", "false", "true"]),
    row("revoked", "/a", "off", r#""./b""#, [r#""/a""#, r#""off""#, r#""./b""#]),
    row("tls-client-user", "cn", "off", r#""uri""#, [r#""cn""#, r#""off""#, r#""uri""#]),
    row("user-grants", "/a", "off", r#""./b""#, [r#""/a""#, r#""off""#, r#""./b""#]),
    row("basic-users", "/a", "off", r#""./b""#, [r#""/a""#, r#""off""#, r#""./b""#]),
    row("connections-per-user", "1", "off", "65535", ["1", r#""off""#, "65535"]),
    row("user-limit", "oldest", "newest", r#""oldest""#, [r#""oldest""#, r#""newest""#,
        r#""oldest""#]),
    row("anonymous-subscribe", "news.*,chat:**", "a", r#"["b"]"#, [r#"["news.*", "chat:**"]"#,
        r#"["a"]"#, r#"["b"]"#]),
    row("anonymous-publish", "a", "b,**", r#"["c"]"#, [r#"["a"]"#, r#"["b", "**"]"#, r#"["c"]"#]),
    row("auth-url", "http://a.org/k", "off", r#""https://[::1]:81/""#, [r#""http://a.org/k""#,
        r#""off""#, r#""https://[::1]:81/""#]),
    row("auth-forward-header", "x-a,X-B", "c", r#"["d"]"#, [r#"["x-a", "x-b"]"#, r#"["c"]"#,
        r#"["d"]"#]),
    row("auth-timeout", "1s", "500ms", r#""1m""#, [r#""1s""#, r#""500ms""#, r#""1m""#]),
    row("auth-connections", "8", "16", "64", ["8", "16", "64"]),
    row("auth-ca", "a.pem", "off", r#""b.pem""#, [r#""a.pem""#, r#""off""#, r#""b.pem""#]),
    row("realtime", "true", "false", "true", ["true", "false", "true"]),
    row("channels", "presence,history_size=9,history_ttl=1s", "",
        r#"{ delta_publish = true, id_from = "/a,b" }"#,
        [r#""history_size=9,history_ttl=1s,presence=true""#, r#""""#,
        r#""delta_publish=true,id_from=/a,,b""#]),
    row("namespace", "a,presence", "a:,join_leave,b:", r#"[{ name = "c", presence = true }]"#,
        [r#"["a:,presence=true"]"#, r#"["a:,join_leave=true", "b:"]"#,
        r#"["c:,presence=true"]"#]),
    row("client-insecure", "true", "false", "true", ["true", "false", "true"]),
    row("client-allow-anonymous", "true", "false", "true", ["true", "false", "true"]),
    row("user-personal-channel", "true", "false", "true", ["true", "false", "true"]),
    row("user-personal-channel-namespace", "a", "b:", r#""c""#, [r#""a:""#, r#""b:""#,
        r#""c:""#]),
    row("client-channel-limit", "1", "2", "3", ["1", "2", "3"]),
    row("channel-max-length", "1", "2", "3", ["1", "2", "3"]),
    row("client-ping-interval", "10s", "1m", r#""1h""#, [r#""10s""#, r#""1m""#, r#""1h""#]),
    row("client-pong-timeout", "1s", "2s", r#""250ms""#, [r#""1s""#, r#""2s""#, r#""250ms""#]),
    row("client-stale-close-delay", "1s", "2s", r#""3s""#, [r#""1s""#, r#""2s""#, r#""3s""#]),
    row("client-expired-close-delay", "0s", "2s", r#""3s""#, [r#""0ms""#, r#""2s""#, r#""3s""#]),
    row("client-expired-sub-close-delay", "0s", "2s", r#""3s""#, [r#""0ms""#, r#""2s""#,
        r#""3s""#]),
    row("hook-connect-url", "http://a.org/k", "off", r#""https://[::1]:81/""#,
        [r#""http://a.org/k""#, r#""off""#, r#""https://[::1]:81/""#]),
    row("hook-refresh-url", "http://a.org/k", "off", r#""https://[::1]:81/""#,
        [r#""http://a.org/k""#, r#""off""#, r#""https://[::1]:81/""#]),
    row("hook-subscribe-url", "http://a.org/k", "off", r#""https://[::1]:81/""#,
        [r#""http://a.org/k""#, r#""off""#, r#""https://[::1]:81/""#]),
    row("hook-publish-url", "http://a.org/k", "off", r#""https://[::1]:81/""#,
        [r#""http://a.org/k""#, r#""off""#, r#""https://[::1]:81/""#]),
    row("hook-sub-refresh-url", "http://a.org/k", "off", r#""https://[::1]:81/""#,
        [r#""http://a.org/k""#, r#""off""#, r#""https://[::1]:81/""#]),
    row("hook-rpc-url", "http://a.org/k", "off", r#""https://[::1]:81/""#,
        [r#""http://a.org/k""#, r#""off""#, r#""https://[::1]:81/""#]),
    row("hook-state-url", "http://a.org/k", "off", r#""https://[::1]:81/""#,
        [r#""http://a.org/k""#, r#""off""#, r#""https://[::1]:81/""#]),
    row("hook-timeout", "2s", "500ms", r#""1m""#, [r#""2s""#, r#""500ms""#, r#""1m""#]),
    row("hook-connections", "8", "16", "32", ["8", "16", "32"]),
    row("hook-forward-header", "x-a,X-B", "c", r#"["d"]"#, [r#"["x-a", "x-b"]"#, r#"["c"]"#,
        r#"["d"]"#]),
    row("hook-emulated-header", "x-a,X-B", "c", r#"["d"]"#, [r#"["x-a", "x-b"]"#, r#"["c"]"#,
        r#"["d"]"#]),
    row("hook-include-meta", "true", "false", "true", ["true", "false", "true"]),
    row("api-key", "/a", "off", r#""./b""#, [r#""/a""#, r#""off""#, r#""./b""#]),
    row("history-memory", "1MiB", "1GiB", "4194304", [r#""1MiB""#, r#""1GiB""#, r#""4MiB""#]),
    row("history-max-publication-limit", "1", "2", "3", ["1", "2", "3"]),
    row("recovery-max-publication-limit", "1", "2", "3", ["1", "2", "3"]),
    row("shed", "false", "true", "false", ["false", "true", "false"]),
    row("shed-idle", "10s", "off", r#""1m""#, [r#""10s""#, r#""off""#, r#""1m""#]),
    row("slow-consumer", "latest", "drop-newest", r#""drop-oldest""#, [r#""latest""#,
        r#""drop-newest""#, r#""drop-oldest""#]),
    row("max-backlog", "64KiB", "2MiB", "4194304", [r#""64KiB""#, r#""2MiB""#, r#""4MiB""#]),
    row("tls-cert", "a.pem", "b.pem", r#"["c.pem"]"#, [r#"["a.pem"]"#, r#"["b.pem"]"#,
        r#"["c.pem"]"#]),
    row("tls-key", "a.key", "b.key", r#"["c.key"]"#, [r#"["a.key"]"#, r#"["b.key"]"#,
        r#"["c.key"]"#]),
    row("tls-min", "1.3", "1.2", r#""1.3""#, [r#""1.3""#, r#""1.2""#, r#""1.3""#]),
    row("tls-client-ca", "ca.pem", "off", r#""/b""#, [r#""ca.pem""#, r#""off""#, r#""/b""#]),
    row("tls-client-auth", "optional", "require", r#""optional""#, [r#""optional""#,
        r#""require""#, r#""optional""#]),
    row("tls-crl", "a,b", "c", r#"["d"]"#, [r#"["a", "b"]"#, r#"["c"]"#, r#"["d"]"#]),
    // Not together with certificates of clients.
    row("tls-ticket-keys", "off", "a", r#""/b""#, [r#""off""#, r#""a""#, r#""/b""#]),
    row("tls-hsts", "365d", "off", r#""1h""#, [r#""365d""#, r#""off""#, r#""1h""#]),
    row("drain", "0s", "1s", r#""250ms""#, [r#""0ms""#, r#""1s""#, r#""250ms""#]),
    row("takeover", "/run/a.sock", "off", r#""/run/b.sock""#, [r#""/run/a.sock""#, r#""off""#,
        r#""/run/b.sock""#]),
    row("label", "region=eu,zone=a", "a=b", r#"["c=d"]"#, [r#"["region=eu", "zone=a"]"#,
        r#"["a=b"]"#, r#"["c=d"]"#]),
    row("top", "true", "false", "true", ["true", "false", "true"]),
    row("traffic-budget", "1GiB", "off", "4096", [r#""1GiB""#, r#""off""#, r#""4KiB""#]),
    row("log-level", "error", "warn", r#""debug""#, [r#""error""#, r#""warn""#, r#""debug""#]),
    row("access-log", "/a.log", "unix:/a", r#""off""#, [r#""/a.log""#, r#""unix:/a""#,
        r#""off""#]),
    row("access-log-sample", "0.5", "1", "0.25", [r#""0.5""#, "1", r#""0.25""#]),
    row("log-format", "json", "human", r#""json""#, [r#""json""#, r#""human""#, r#""json""#]),
];
