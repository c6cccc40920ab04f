//! Every interleaving of publishers, readers and sleepers. A lost wake-up is a deadlock.
//!
//! Run by `RUSTFLAGS="--cfg ringwire_loom" cargo test --release --lib hub::`.

use super::*;
use crate::hub::inbox::Place;
use loom::{sync::Notify, thread};

fn check(scenario: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(scenario);
}

fn wake(endpoint: &mut Endpoint<u32, u32>, doorbell: &Notify) {
    endpoint.take_wakeups().for_each(|_| doorbell.notify());
}

fn sleep(endpoint: &mut Endpoint<u32, u32>, doorbell: &Notify) {
    if endpoint.prepare_sleep() {
        doorbell.wait();
        endpoint.awake();
    }
}

#[test]
fn a_message_in_a_ring_wakes_its_reader() {
    check(|| {
        let [mut publisher, mut reader] = Mesh::<u32, u32>::new(2, 2).try_into().ok().unwrap();
        let doorbell = Arc::new(Notify::new());
        let bell = doorbell.clone();
        let reading = thread::spawn(move || {
            let mut count = 0;
            loop {
                count += reader.drain(2, |_, _, _| true);
                wake(&mut reader, &bell);
                if count == 2 {
                    break;
                }
                sleep(&mut reader, &bell);
            }
        });
        for message in 0..2 {
            publisher.publish(message, 1).unwrap();
            wake(&mut publisher, &doorbell);
        }
        reading.join().unwrap();
    });
}

fn full_ring(last_reader_leaves: bool) {
    check(move || {
        let [mut publisher, mut first, mut last] =
            Mesh::<u32, u32>::new(3, 1).try_into().ok().unwrap();
        let doorbell = Arc::new(Notify::new());
        let bells = [doorbell.clone(), doorbell.clone()];
        publisher.publish(0, 1).unwrap();
        wake(&mut publisher, &doorbell);
        let [first_bell, last_bell] = bells;
        let draining = thread::spawn(move || {
            first.drain(1, |_, _, _| true);
            wake(&mut first, &first_bell);
            first
        });
        let leaving = thread::spawn(move || {
            if last_reader_leaves {
                last.leave().into_iter().for_each(|_| last_bell.notify());
                return None;
            }
            last.drain(1, |_, _, _| true);
            wake(&mut last, &last_bell);
            Some(last)
        });
        while publisher.publish(1, 1).is_err() {
            sleep(&mut publisher, &doorbell);
        }
        draining.join().unwrap();
        leaving.join().unwrap();
    });
}

#[test]
fn room_in_a_full_ring_wakes_its_publisher() {
    full_ring(false);
}

#[test]
fn a_reader_leaving_a_full_ring_wakes_its_publisher() {
    full_ring(true);
}

/// What is asked and answered; a question brings the place of its answer.
enum Letter {
    Question(Place<Letter>),
    Answer,
}

/// Blocks until there is a letter.
fn await_letter(endpoint: &mut Endpoint<u32, Letter>, doorbell: &Notify) -> Letter {
    loop {
        if let Some(letter) = endpoint.next_letter() {
            return letter;
        }
        if endpoint.prepare_sleep() {
            doorbell.wait();
            endpoint.awake();
        }
    }
}

#[test]
fn a_question_wakes_its_receiver_and_the_answer_its_sender() {
    check(|| ask_and_answer(false));
}

/// What the control thread and a shard do: one publishes nothing but orders and gets answers, while
/// the other publishes to all.
#[test]
fn whoever_reads_letters_alone_misses_no_answer() {
    check(|| ask_and_answer(true));
}

/// One asks, the other answers; where whoever asks reads `letters_alone`, the other publishes
/// before.
fn ask_and_answer(letters_alone: bool) {
    let [mut asker, mut answerer] = Mesh::<u32, Letter>::new(2, 1).try_into().ok().unwrap();
    let bells = [Arc::new(Notify::new()), Arc::new(Notify::new())];
    let (asker_bells, [_, answerer_bell]) = (bells.clone(), bells.clone());
    if letters_alone {
        asker.stop_reading_rings();
    }
    let answering = thread::spawn(move || {
        if letters_alone {
            answerer.publish(1, 1).unwrap();
            answerer.take_wakeups().for_each(|number| bells[number].notify());
        }
        match await_letter(&mut answerer, &answerer_bell) {
            Letter::Question(place) => answerer.post(place, Letter::Answer),
            Letter::Answer => panic!("nobody has asked"),
        }
        answerer.take_wakeups().for_each(|number| bells[number].notify());
        answerer
    });
    let answer = asker.take_place(0, 0).ok().unwrap();
    let question = asker.take_place(1, 0).ok().unwrap();
    asker.post(question, Letter::Question(answer));
    asker.take_wakeups().for_each(|number| asker_bells[number].notify());
    assert!(matches!(await_letter(&mut asker, &asker_bells[0]), Letter::Answer));
    answering.join().unwrap();
}
