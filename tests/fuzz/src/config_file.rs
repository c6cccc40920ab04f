//! Configuration files: whatever the text, there is a configuration that can be written down and
//! read again, or a refusal that says where to look.

use std::path::Path;

use ringwire::settings::{SettingError, Settings};

/// All of `data` is the file; the server refuses other files than UTF-8 before it looks at them.
pub fn check(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else { return };
    let mut settings = Settings::default();
    if let Err(error) = settings.apply_file(Path::new(NAME), source) {
        return names_its_place(&error, source);
    }
    let written = settings.to_toml();
    let mut again = Settings::default();
    again.apply_file(Path::new(NAME), &written).expect("settings written down are settings");
    match (settings.resolve(), again.resolve()) {
        (Ok(config), Ok(same)) => assert_eq!(config, same),
        (Err(SettingError::Contradiction(_)), Err(SettingError::Contradiction(_))) => {}
        outcomes => panic!("{outcomes:?}"),
    }
}

fn names_its_place(error: &SettingError, source: &str) {
    let text = error.to_string();
    assert!(text.contains(NAME), "{text}");
    let line = match error {
        SettingError::Unknown { origin, .. }
        | SettingError::Impossible { origin, .. }
        | SettingError::Entry { origin, .. } => {
            let place = origin.place("");
            let (_, line) = place.rsplit_once("line ").expect("a place in the file");
            line.parse().expect("a number")
        }
        _ => 1,
    };
    assert!((1..=source.lines().count().max(1)).contains(&line), "{text}");
}

const NAME: &str = "ringwire.toml";
