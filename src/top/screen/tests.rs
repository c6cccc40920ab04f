//! What is drawn, into little room and much.

use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::top::metrics::Metrics;
use crate::top::snapshot::{Closed, Resource};

fn snapshot(at: Instant, count: u32) -> Snapshot {
    let metrics = Metrics::parse(&format!(
        "process_start_time_seconds 1000\n\
         ringwire_ticks_total{{shard=\"0\"}} {count}\nringwire_ticks_total{{shard=\"1\"}} 0\n\
         ringwire_connections{{shard=\"0\"}} 1234\n\
         ringwire_messages_received_total{{service=\"echo\"}} {count}\n\
         ringwire_closes_total{{initiator=\"remote\",code=\"1001\"}} 7\n"
    ));
    let closed = Closed {
        time_s: 0.0,
        service: "broadcast".to_owned(),
        topic: Some("news".to_owned()),
        initiator: "local".to_owned(),
        code: 4001,
        reason: "\u{1b}[31mred".to_owned(),
        age_s: 0.25,
    };
    let top = Err("--top is off".to_owned());
    let resource = |name: &str, used, growth, used_up_in_seconds| Resource {
        name: name.to_owned(),
        used,
        limit: 4096.0,
        left: 4096.0 - used,
        growth_per_second: growth,
        used_up_in_seconds,
    };
    let resources = vec![
        resource("connections", 3072.0, Some(-2.0), None),
        resource("memory_bytes", 1024.0, Some(0.5), Some(6144.0)),
        resource("processor_of_shard_0", 0.5, None, None),
    ];
    Snapshot { at, metrics, unreadiness: None, closed: vec![closed; 40], top, resources }
}

fn screen() -> Screen {
    let (mut screen, begin) = (Screen::new("127.0.0.1:7072".to_owned()), Instant::now());
    screen.take(Ok(snapshot(begin, 0)));
    screen.take(Ok(snapshot(begin + Duration::from_secs(2), 3000)));
    screen
}

fn drawn(screen: &Screen, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| frame.render_widget(screen, frame.area())).unwrap();
    terminal.backend().to_string()
}

#[test]
fn all_that_matters_is_drawn() {
    let mut screen = screen();
    let text = drawn(&screen, 100, 30);
    for part in ["ready", "in 1.50k/s", "messages in 1.50k/s", "1.23k", "q ends"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    for (panel, part) in [
        (Panel::Capacity, "1 h 42 min"),
        (Panel::Ends, "broadcast news"),
        (Panel::Closes, "1001"),
        (Panel::Refusals, "Nothing yet."),
        (Panel::Top, "--top is off"),
    ] {
        screen.panel = panel;
        let text = drawn(&screen, 100, 30);
        assert!(text.contains(part), "{part} is not in {text}");
        assert!(!text.contains('\u{1b}'));
    }
    screen.tells_keys = true;
    assert!(drawn(&screen, 100, 30).contains("the table before"));
}

#[test]
fn what_is_left_is_told_in_its_units() {
    let text = screen().text(100);
    let rows = ["connections", "memory bytes", "processor of shard 0"].map(|name| {
        let row = text.lines().find(|line| line.starts_with(name)).unwrap();
        row[name.len()..].split_whitespace().collect::<Vec<_>>().join(" ")
    });
    assert_eq!(rows[0], "3.07k 4.10k 25 % -120 -");
    assert_eq!(rows[1], "1 KiB 4 KiB 75 % 30 B 1 h 42 min");
    assert!(rows[2].starts_with("50 % "), "{}", rows[2]);
}

#[test]
fn any_size_will_do() {
    let mut screens = [screen(), Screen::new("unix:/run/a.sock".to_owned())];
    for screen in &mut screens {
        for panel in Panel::ALL {
            screen.panel = panel;
            for skipped in [0, 39, 1000] {
                screen.skipped = skipped;
                for (width, height) in [(0, 0), (1, 1), (2, 5), (20, 6), (40, 16), (300, 100)] {
                    let area = Rect::new(0, 0, width, height);
                    screen.render(area, &mut Buffer::empty(area));
                }
            }
        }
    }
}

#[test]
fn a_fault_and_another_process_are_told() {
    let mut screen = screen();
    screen.take(Err("connection refused".to_owned()));
    assert!(drawn(&screen, 100, 30).contains("unreachable: connection refused"));
    let mut other = snapshot(Instant::now() + Duration::from_secs(5), 10);
    other.metrics = Metrics::parse("process_start_time_seconds 2000\nringwire_ticks_total 1\n");
    other.unreadiness = Some("draining".to_owned());
    screen.take(Ok(other));
    let text = drawn(&screen, 100, 30);
    assert!(text.contains("not ready: draining") && text.contains("in -"), "{text}");
}

#[test]
fn what_is_printed_has_every_table() {
    let text = screen().text(100);
    for panel in Panel::ALL {
        assert!(text.contains(&format!("\n{}\n", panel.name())), "{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert_eq!(text.matches("broadcast news").count(), 40);
}
