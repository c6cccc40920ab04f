//! From accept to the free slot, and wake-ups between threads.

use super::*;

#[test]
fn connections_are_accepted_into_slots_until_there_are_none() {
    for abilities in kernels() {
        let mut rig = Rig::new(abilities, 2, 4);
        let first = rig.connect();
        let second = rig.connect();
        assert_ne!(first.slot, second.slot);
        let _third = TcpStream::connect(rig.address).unwrap();
        let refused = rig.next();
        let full =
            Event::Accepted { listener: 0, result: Err(libc::ENFILE), address: None, more: false };
        assert_eq!(format!("{refused:?}"), format!("{full:?}"));
        rig.close(&first);
        rig.ring.accept(0);
        let fourth = rig.connect();
        assert_eq!(fourth.slot, first.slot);
        assert!(first.peer.peek(&mut [0]).is_ok_and(|bytes| bytes == 0), "the peer sees a FIN");
        rig.ring.cancel_accept(0);
        let cancelled = rig.next();
        assert!(matches!(
            cancelled,
            Event::Accepted { result: Err(libc::ECANCELED), more: false, .. }
        ));
    }
}

#[test]
fn a_shutdown_ends_what_is_under_way() {
    for abilities in kernels() {
        let mut rig = Rig::new(abilities, 4, 4);
        let mut half = rig.connect();
        rig.ring.finish(half.key, half.slot);
        assert!(matches!(rig.next(), Event::Finished { key } if key == half.key));
        assert_eq!(half.peer.read_to_end(&mut Vec::new()).unwrap(), 0);
        rig.receive(&half);
        half.peer.write_all(b"still").unwrap();
        assert_eq!(rig.read(&half, 5), b"still");
        assert_eq!(rig.shut_down(&half), Ok(()));

        // A send that waits for the peer ends, too.
        let full = rig.connect();
        let large = vec![0; 32 << 20];
        while rig.fill(&full, &large).is_some() {}
        rig.ring.shutdown(full.key, full.slot);
        let mut ends = 0;
        while ends < 2 {
            match rig.next() {
                Event::Sent { result: Err(libc::EPIPE), .. } | Event::ShutDown { .. } => ends += 1,
                event => panic!("unexpected {event:?}"),
            }
        }
        assert_eq!(rig.ring.sends_in_flight(), 0);
    }
}

#[test]
fn a_close_resets_the_peer_when_it_was_armed_to() {
    let abilities = kernels()[0];
    let mut rig = Rig::new(abilities, 4, 4);
    let mut armed = rig.connect();
    assert_eq!(rig.ring.arm_reset(armed.key, armed.slot), abilities.has(Ability::SocketOptions));
    if abilities.has(Ability::SocketOptions) {
        assert!(matches!(rig.next(), Event::ResetArmed { key } if key == armed.key));
        rig.close(&armed);
        let error = armed.peer.read_exact(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    let mut rig = Rig::new(Abilities::default(), 4, 4);
    let mut unarmed = rig.connect();
    assert!(!rig.ring.arm_reset(unarmed.key, unarmed.slot));
    rig.close(&unarmed);
    assert_eq!(unarmed.peer.read_to_end(&mut Vec::new()).unwrap(), 0);
}

#[test]
fn rings_wake_each_other_and_a_waker_wakes_them() {
    for abilities in kernels() {
        let mut rig = Rig::new(abilities, 1, 1);
        let (descriptors, descriptor) = mpsc::channel();
        let (acknowledge, acknowledged) = mpsc::channel();
        let own = rig.ring.descriptor();
        let sleeper = thread::spawn(move || {
            let mut other = Rig::new(abilities, 1, 1);
            other.ring.join(vec![own, other.ring.descriptor()]);
            descriptors.send(other.ring.descriptor()).unwrap();
            for _ in 0..2 {
                assert!(matches!(other.next(), Event::Woken));
                acknowledge.send(()).unwrap();
            }
            other.ring.wake(0);
            other.expect_nothing();
            // The ring lives until the other end has been woken.
            acknowledge.send(()).unwrap();
        });
        let participants = vec![own, descriptor.recv().unwrap()];
        rig.ring.join(participants.clone());
        rig.ring.wake(1);
        rig.expect_nothing();
        acknowledged.recv().unwrap();
        Waker::new(&participants).unwrap().wake(1);
        acknowledged.recv().unwrap();
        assert!(matches!(rig.next(), Event::Woken));
        acknowledged.recv().unwrap();
        sleeper.join().unwrap();
        // A ring that is gone needs no waking, and nothing comes of it.
        rig.ring.join(vec![own, -1]);
        rig.ring.wake(1);
        rig.expect_nothing();
    }
}

/// Whoever never waits is told of everything all the same: by completions, and by wake-ups.
#[test]
fn whoever_never_waits_misses_nothing() {
    for abilities in kernels() {
        let mut rig = Rig::new(abilities, 4, 4);
        let mut connection = rig.connect();
        rig.receive(&connection);
        let mut waker = Waker::new(&[rig.ring.descriptor()]).unwrap();
        let spin = |rig: &mut Rig| {
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_secs(60) {
                rig.ring.submit(Some(Duration::ZERO)).unwrap();
                if let Some(event) = rig.ring.next_event() {
                    return event;
                }
            }
            panic!("no event came");
        };
        rig.expect_nothing();
        for _ in 0..100 {
            connection.peer.write_all(b"x").unwrap();
            match spin(&mut rig) {
                Event::Received { result: Ok(Some(slice)), .. } => rig.ring.release(slice),
                event => panic!("unexpected {event:?}"),
            }
            waker.wake(0);
            assert!(matches!(spin(&mut rig), Event::Woken));
        }
    }
}
