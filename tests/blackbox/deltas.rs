//! Deltas as those apply them who get them: the decoder of a client library, which nobody here
//! wrote.

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;
use ringwire::realtime::delta;

use crate::foreign_clients::{program, tools};

#[test]
fn the_javascript_library_applies_deltas() {
    let Some(tools) = tools() else { return };
    let mut random = Rng::with_seed(12);
    let lines: Vec<String> = (0..CASES).map(|_| case(&mut random)).collect();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("deltas.txt");
    fs::write(&file, lines.join("\n")).expect("the directory for test files");
    let mut command = Command::new("node");
    command.env("NODE_PATH", tools.join("node/node_modules"));
    command.arg(program("centrifuge_deltas.js")).arg(&file);
    let output = command.output().expect("node runs");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    assert_eq!(String::from_utf8_lossy(&said).trim(), format!("{CASES} deltas"));
}

/// A line for the program: a payload, what edits make of it, and the delta.
fn case(random: &mut Rng) -> String {
    let is_text = random.u8(..4) > 0;
    let length_max = if random.u8(..50) == 0 { 20_000 } else { 300 };
    let source: Vec<char> = (0..random.usize(..length_max)).map(|_| character(random)).collect();
    let mut target = source.clone();
    for _ in 0..random.usize(..6) {
        let begin = random.usize(..=target.len());
        let end = target.len().min(begin + random.usize(..60));
        let part = match random.u8(..3) {
            0 => Vec::new(),
            1 => (0..random.usize(..20)).map(|_| character(random)).collect(),
            _ => target[begin..end].to_vec(),
        };
        match random.bool() {
            true => drop(target.splice(begin..end, part)),
            false => drop(target.splice(begin..begin, part)),
        }
    }
    let [mut source, mut target] = [source, target].map(|it| String::from_iter(it).into_bytes());
    if !is_text {
        // Bytes that are no text, in both alike.
        let change = random.u8(..);
        source.iter_mut().chain(&mut target).for_each(|byte| *byte = byte.wrapping_mul(change));
    }
    let delta = delta::create(&source, &target, is_text);
    let kind = if is_text { "text" } else { "bytes" };
    let [source, target, delta] = [source, target, delta].map(|it| STANDARD.encode(it));
    format!("{kind} {source} {target} {delta}")
}

fn character(random: &mut Rng) -> char {
    let characters = ['a', 'b', '0', '1', '"', ':', '\u{e9}', '\u{4e16}', '\u{754c}', '\u{1f389}'];
    random.choice(characters).unwrap_or('a')
}

const CASES: usize = 4000;
