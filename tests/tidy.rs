//! The structure that `src/lib.rs` promises, held by a test: files small enough to read, unsafe
//! code in few named places, and a `use` graph that goes one way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn files_are_short_narrow_and_ascii() {
    for source in Source::all() {
        let name = &source.name;
        let lines = source.text.lines().count();
        assert!(lines <= FILE_LINES_MAX, "{name} has {lines} lines, at most {FILE_LINES_MAX}");
        for (number, line) in (1..).zip(source.text.lines()) {
            let columns = line.chars().count();
            assert!(columns <= COLUMNS_MAX, "{name}:{number} has {columns} columns");
            assert!(line.is_ascii(), "{name}:{number} is not ASCII");
        }
        assert!(source.text.starts_with("//! "), "{name} does not begin by saying why it exists");
    }
}

#[test]
fn unsafe_code_is_allowed_in_the_named_places_alone() {
    for source in Source::all() {
        let named = UNSAFE_PLACES.iter().any(|place| source.name.starts_with(place));
        let allowed = source.text.contains("allow(unsafe_code)");
        assert!(named || !allowed, "{} allows unsafe code and is not named here", source.name);
    }
}

#[test]
fn no_module_is_a_drawer_for_everything() {
    for source in Source::all() {
        for part in source.name.trim_end_matches(".rs").split('/') {
            assert!(!DRAWERS.contains(&part), "{}: name it after what it does", source.name);
        }
    }
}

/// The event loop alone is spread over the files of `shard`, one concern in each.
#[test]
fn no_type_has_more_methods_in_a_file_than_can_be_kept_in_mind() {
    for source in Source::all() {
        let mut methods: BTreeMap<&str, usize> = BTreeMap::new();
        let mut current = None;
        for line in source.text.lines() {
            if line.starts_with("impl") {
                // What a trait demands is counted where the trait is.
                let target = line.strip_prefix("impl").filter(|_| !line.contains(" for "));
                let own =
                    target.map(|target| target.split_once("> ").map_or(target, |(_, own)| own));
                current = own.and_then(|own| own.trim().trim_end_matches(" {").split('<').next());
            } else if line == "}" {
                current = None;
            } else if let Some(name) = current
                && line.starts_with("    ")
                && !line.starts_with("     ")
                && line.split_whitespace().any(|word| word == "fn")
            {
                *methods.entry(name).or_default() += 1;
            }
        }
        for (name, count) in methods {
            let file = &source.name;
            assert!(count <= METHODS_MAX, "{file}: {name} has {count} methods here");
        }
    }
}

#[test]
fn every_file_is_declared_by_its_parent() {
    let sources = Source::all();
    for source in &sources {
        let path = Path::new(&source.name);
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("UTF-8");
        let directory = path.parent().expect("below src");
        let (module, home) = match stem {
            "main" | "lib" if directory == Path::new("") => continue,
            "mod" => (last(directory), directory.parent().expect("below src")),
            stem => (stem, directory),
        };
        let parents = match home.to_str() {
            Some("") => vec!["lib.rs".to_owned(), "main.rs".to_owned()],
            home => {
                let home = home.expect("UTF-8");
                vec![format!("{home}/mod.rs"), format!("{home}.rs")]
            }
        };
        let declared =
            sources.iter().filter(|parent| parents.contains(&parent.name)).any(|parent| {
                let declaration = format!("mod {module};");
                parent.text.lines().any(|line| line.trim_end().ends_with(&declaration))
            });
        assert!(declared, "{} is no module of {parents:?}", source.name);
    }
}

#[test]
fn each_module_uses_only_those_below_it() {
    for (module, uses) in graph() {
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == module) else {
            panic!("src has a module {module}: give it its place in MAY_USE");
        };
        for used in uses {
            assert!(allowed.contains(&used.as_str()), "{module} may not use {used}");
        }
    }
}

#[test]
fn tests_that_are_named_for_attacks_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("SECURITY.md")).expect("UTF-8 text");
    let rows = text.lines().filter(|line| line.starts_with("| ")).skip(1);
    let named: BTreeSet<_> = rows
        .filter_map(|row| row.trim_end_matches(" |").rsplit(" | ").next())
        .flat_map(|tests| tests.split('`').skip(1).step_by(2))
        .collect();
    assert!(!named.is_empty(), "there is a table of attacks");
    let sources = ["src", "tests", "scripts/hostility"].map(|below| texts(&root.join(below)));
    let sources = sources.concat();
    for name in named {
        let is_target = root.join(format!("tests/fuzz/fuzz_targets/{name}.rs")).exists();
        let heads = [format!("fn {name}("), format!("def {name}(")];
        let is_test = heads.iter().any(|head| sources.iter().any(|text| text.contains(head)));
        assert!(is_target || is_test, "SECURITY.md names {name}, which is no test");
    }
}

/// What the programs below a directory say.
fn texts(directory: &Path) -> Vec<String> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let is_program = path.extension().is_some_and(|it| it == "rs" || it == "py");
        if path.is_dir() {
            texts.extend(self::texts(&path));
        } else if is_program {
            texts.push(fs::read_to_string(&path).expect("UTF-8 text"));
        }
    }
    texts
}

#[test]
fn the_table_of_modules_has_no_cycle() {
    let mut settled = BTreeSet::new();
    // Those that use only settled ones are settled; a cycle never is.
    while settled.len() < MAY_USE.len() {
        let next: Vec<_> = MAY_USE
            .iter()
            .filter(|(module, _)| !settled.contains(module))
            .filter(|(_, uses)| uses.iter().all(|used| settled.contains(used)))
            .map(|(module, _)| *module)
            .collect();
        let open = || MAY_USE.iter().map(|(module, _)| *module).filter(|m| !settled.contains(m));
        assert!(!next.is_empty(), "a cycle among {:?}", open().collect::<Vec<_>>());
        settled.extend(next);
    }
}

/// One file below src.
struct Source {
    /// Path below src, with slashes.
    name: String,
    text: String,
}

impl Source {
    fn all() -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut sources = Vec::new();
        let mut directories = vec![root.clone()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).expect("a directory of src") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    directories.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    sources.push(Self::read(&root, &path));
                }
            }
        }
        assert!(!sources.is_empty(), "src has files");
        sources
    }

    fn read(root: &Path, path: &PathBuf) -> Self {
        let below = path.strip_prefix(root).expect("below src");
        Self {
            name: below.to_str().expect("UTF-8").to_owned(),
            text: fs::read_to_string(path).expect("UTF-8 text"),
        }
    }

    /// The top-level module, such as `wire` for `wire/mask/mod.rs`.
    fn module(&self) -> &str {
        let first = self.name.split('/').next().expect("never empty");
        first.trim_end_matches(".rs")
    }
}

/// Top-level module -> the other top-level modules that its files name, tests included.
fn graph() -> BTreeMap<String, BTreeSet<String>> {
    let sources = Source::all();
    let modules: BTreeSet<_> = sources.iter().map(|source| source.module().to_owned()).collect();
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in &sources {
        let uses = graph.entry(source.module().to_owned()).or_default();
        // lib and main declare the modules; what main uses, it uses as `ringwire::`.
        let code = source.text.lines().map(|line| line.split("//").next().expect("never empty"));
        let code = code.collect::<Vec<_>>().join("\n");
        for prefix in ["crate::", "ringwire::"] {
            for (at, _) in code.match_indices(prefix) {
                uses.extend(first_names(&code[at + prefix.len()..]));
            }
        }
        uses.retain(|used| modules.contains(used) && used != source.module());
    }
    graph
}

/// The first names of what follows `crate::`: one, or those of a group in braces.
fn first_names(text: &str) -> Vec<String> {
    let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let name = |text: &str| -> String { text.chars().take_while(|c| is_name(*c)).collect() };
    let Some(group) = text.strip_prefix('{') else {
        return vec![name(text)];
    };
    let (mut names, mut depth, mut begins) = (Vec::new(), 0, true);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            _ if depth == 0 && begins && is_name(character) => {
                names.push(name(&group[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    names
}

fn last(directory: &Path) -> &str {
    directory.file_name().and_then(|name| name.to_str()).expect("UTF-8")
}

const FILE_LINES_MAX: usize = 500;
const COLUMNS_MAX: usize = 100;

/// Methods of one type in one file.
const METHODS_MAX: usize = 30;
/// Files and directories below src whose files may allow unsafe code.
const UNSAFE_PLACES: &[&str] =
    &["io/", "wire/mask", "hub/inbox.rs", "hub/ring.rs", "memory/allocator.rs"];

const DRAWERS: &[&str] = &["utils", "util", "common", "helpers", "misc", "types"];

/// Top-level module -> the modules it may use; whatever lies lower knows nothing of what is above.
const MAY_USE: &[(&str, &[&str])] = &[
    ("limits", &[]),
    ("wire", &[]),
    ("sockjs", &["wire"]),
    ("proxy_protocol", &[]),
    ("config", &["limits"]),
    ("bounded_file", &[]),
    ("settings", &["bounded_file", "config", "identity", "limits"]),
    ("output", &["config"]),
    ("service_manager", &[]),
    ("logging", &["config", "output", "settings"]),
    ("memory", &[]),
    ("tls", &["bounded_file", "config"]),
    ("identity", &["config"]),
    ("authorization", &["config", "identity"]),
    ("realtime", &["config", "identity"]),
    ("admission", &["config", "io"]),
    ("admin_client", &["config"]),
    ("health", &["admin_client", "config"]),
    ("top", &["admin_client", "config", "output"]),
    ("http", &["admission", "authorization", "config", "identity", "sockjs", "wire"]),
    ("websocket", &["config", "sockjs", "wire"]),
    (
        "connection",
        &[
            "authorization",
            "config",
            "http",
            "identity",
            "proxy_protocol",
            "sockjs",
            "websocket",
            "wire",
        ],
    ),
    ("stats", &["config", "wire", "http", "websocket"]),
    ("hub", &["config", "limits", "realtime", "sockjs", "wire"]),
    ("io", &["config", "limits", "wire"]),
    (
        "shard",
        &[
            "admission",
            "config",
            "limits",
            "memory",
            "output",
            "realtime",
            "sockjs",
            "stats",
            "tls",
            "wire",
            "proxy_protocol",
            "http",
            "websocket",
            "connection",
            "hub",
            "identity",
            "io",
        ],
    ),
    ("takeover", &["config", "io", "limits", "realtime", "wire"]),
    (
        "control",
        &[
            "admission",
            "bounded_file",
            "config",
            "limits",
            "settings",
            "logging",
            "memory",
            "output",
            "realtime",
            "stats",
            "tls",
            "wire",
            "http",
            "websocket",
            "hub",
            "identity",
            "io",
            "service_manager",
            "shard",
            "takeover",
        ],
    ),
    (
        "serve",
        &[
            "admission",
            "config",
            "limits",
            "settings",
            "memory",
            "output",
            "stats",
            "tls",
            "wire",
            "http",
            "websocket",
            "hub",
            "io",
            "control",
            "service_manager",
            "shard",
            "takeover",
        ],
    ),
    ("bench", &["config", "limits", "tls", "wire", "io"]),
    ("cli", &["config", "health", "limits", "settings", "logging", "serve", "bench", "top"]),
    ("lib", &[]),
    (
        "main",
        &[
            "cli", "config", "health", "limits", "settings", "logging", "memory", "output",
            "serve", "bench", "top",
        ],
    ),
];
