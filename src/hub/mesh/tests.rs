//! Endpoints step by step: what each sees, what holds it back, and whom it wakes.

use super::*;

fn wakeups(endpoint: &mut Endpoint<u32, ()>) -> Vec<usize> {
    endpoint.take_wakeups().collect()
}

fn drain(endpoint: &mut Endpoint<u32, ()>) -> Vec<(usize, u32)> {
    let mut seen = Vec::new();
    endpoint.drain(9, |from, _, message| {
        seen.push((from, *message));
        true
    });
    seen
}

#[test]
fn everybody_hears_all_others() {
    let mut endpoints = Mesh::<u32, ()>::new(3, 4);
    for (number, endpoint) in (10..).zip(&mut endpoints) {
        assert_eq!(endpoint.publish(number, 1), Ok(Published { room: 3 }));
    }
    assert_eq!(drain(&mut endpoints[0]), [(1, 11), (2, 12)]);
    assert_eq!(drain(&mut endpoints[1]), [(0, 10), (2, 12)]);
    assert_eq!(drain(&mut endpoints[2]), [(0, 10), (1, 11)]);
}

#[test]
fn everybody_knows_how_far_it_has_come() {
    let [mut one, mut two, mut three] = Mesh::<u32, ()>::new(3, 4).try_into().ok().unwrap();
    one.publish(1, 1).unwrap();
    one.publish(2, 1).unwrap();
    three.publish(3, 1).unwrap();
    let mut seen = Vec::new();
    two.drain(1, |from, position, _| {
        seen.push((from, position));
        true
    });
    two.drain(1, |from, position, _| {
        seen.push((from, position));
        true
    });
    assert_eq!(seen, [(0, 0), (2, 0), (0, 1)]);
    assert_eq!((&*one.positions(), &*two.positions()), (&[2, 0, 0][..], &[2, 0, 1][..]));
    assert!(three.is_read_up_to(0) && !three.is_read_up_to(1), "one has not read it");
    drain(&mut one);
    assert!(three.is_read_up_to(1) && !one.is_read_up_to(2), "three has not read it");
    three.leave();
    assert!(one.is_read_up_to(2));
}

#[test]
fn a_lone_endpoint_always_has_room() {
    let [mut alone] = Mesh::<u32, ()>::new(1, 1).try_into().ok().unwrap();
    assert_eq!(alone.publish(1, 1), Ok(Published { room: 1 }));
    assert_eq!(alone.publish(2, 1), Ok(Published { room: 1 }));
    assert!(wakeups(&mut alone).is_empty());
    assert!(alone.prepare_sleep());
}

#[test]
fn a_sleeper_is_woken_once_until_it_sleeps_again() {
    let [mut left, mut right, mut sleeper] = Mesh::<u32, ()>::new(3, 4).try_into().ok().unwrap();
    assert!(sleeper.prepare_sleep());
    left.publish(1, 1).unwrap();
    left.publish(2, 1).unwrap();
    right.publish(3, 1).unwrap();
    assert!(!left.prepare_sleep(), "a wake-up is owed");
    drop(left.take_wakeups());
    assert_eq!(wakeups(&mut left), [2], "an iterator dropped early loses nothing");
    assert!(wakeups(&mut right).is_empty());
    assert!(!sleeper.prepare_sleep(), "messages wait");
    assert_eq!(drain(&mut sleeper), [(0, 1), (0, 2), (1, 3)]);
    assert!(wakeups(&mut sleeper).is_empty());
    assert!(sleeper.prepare_sleep());
    right.publish(4, 1).unwrap();
    assert_eq!(wakeups(&mut right), [2]);
}

#[test]
fn whoever_reads_letters_alone_is_not_woken_for_what_is_published() {
    let pair: [Endpoint<u32, ()>; 2] = Mesh::new(2, 1).try_into().ok().unwrap();
    let [mut publisher, mut other] = pair;
    other.stop_reading_rings();
    assert!(other.prepare_sleep());
    for message in 0..3 {
        publisher.publish(message, 1).unwrap();
        assert!(wakeups(&mut publisher).is_empty());
    }
    let place = publisher.take_place(1, 0).ok().unwrap();
    publisher.post(place, ());
    assert_eq!(wakeups(&mut publisher), [1]);
    assert_eq!(other.next_letter(), Some(()));
    assert!(other.prepare_sleep());
    publisher.publish(3, 1).unwrap();
    assert!(publisher.leave().is_empty());
}

#[test]
fn the_last_reader_of_a_full_ring_wakes_its_publisher() {
    let [mut publisher, mut fast, mut slow] = Mesh::<u32, ()>::new(3, 1).try_into().ok().unwrap();
    publisher.publish(1, 1).unwrap();
    assert_eq!(publisher.publish(2, 1), Err(2));
    assert!(wakeups(&mut publisher).is_empty());
    assert!(publisher.prepare_sleep());
    drain(&mut fast);
    assert!(wakeups(&mut fast).is_empty());
    assert!(!publisher.has_room());
    drain(&mut slow);
    assert_eq!(wakeups(&mut slow), [0]);
    assert!(publisher.has_room());
    assert!(!publisher.prepare_sleep(), "room is reported");
    assert!(publisher.prepare_sleep(), "but once, should nobody want it any more");
    publisher.publish(3, 1).unwrap();
    assert_eq!(publisher.publish(4, 1), Err(4));
    assert!(wakeups(&mut publisher).is_empty());
    drain(&mut fast);
    assert!(publisher.prepare_sleep());
    assert_eq!(slow.leave(), [0]);
}
