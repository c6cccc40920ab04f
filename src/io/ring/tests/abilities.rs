//! What each optional ability changes, seen from outside the ring, and that without it nothing of
//! the kind happens. `IncrementalBuffers` and `SocketOptions` are seen where their subject is, in
//! `receive` and `lifecycle`; `NoSqArray` is seen in the size of the process, by the black-box
//! tests.

use std::fs::{self, File};
use std::os::fd::{BorrowedFd, OwnedFd};

use super::*;

#[test]
fn a_registered_ring_is_entered_without_its_descriptor() {
    for abilities in kernels() {
        let is_registered = abilities.has(Ability::RegisteredRing);
        let mut rig = Rig::new(abilities, 4, 4);
        let mut connection = rig.connect();
        connection.peer.write_all(b"readable").unwrap();
        for wait in [Some(Duration::ZERO), Some(Duration::from_secs(20)), None] {
            rig.ring.poll(connection.key, connection.slot);
            let hidden = Hidden::new(rig.ring.descriptor());
            let submitted = rig.ring.submit(wait);
            drop(hidden);
            assert_eq!(submitted.is_ok(), is_registered, "{submitted:?}");
            assert!(matches!(rig.next(), Event::Readable { .. }));
        }
        // A full queue is submitted the same way.
        let hidden = Hidden::new(rig.ring.descriptor());
        for index in 0..=SUBMISSION_ENTRIES {
            rig.ring.poll(Key { index, generation: 0 }, connection.slot);
        }
        drop(hidden);
        assert_eq!(rig.ring.submit(Some(Duration::ZERO)).is_ok(), is_registered);
    }
}

#[test]
fn a_dropped_ring_leaves_its_place_among_the_registered_ones() {
    // A thread may register 16 rings. Probed once: a probe that finds no place finds no ability.
    let abilities = kernels()[0];
    for _ in 0..40 {
        Rig::new(abilities, 1, 1).expect_nothing();
    }
    assert_eq!(kernels()[0], abilities);
}

#[test]
fn a_stream_ends_without_a_worker_thread_where_descriptors_are_installed() {
    for abilities in kernels() {
        // Workers belong to the thread that entered the ring, and outlive it for some seconds.
        thread::spawn(move || {
            let mut rig = Rig::new(abilities, 4, 4);
            let mut connection = rig.connect();
            assert_eq!(workers(), 0);
            rig.ring.finish(connection.key, connection.slot);
            assert!(matches!(rig.next(), Event::Finished { .. }));
            assert_eq!(workers() == 0, abilities.has(Ability::DescriptorInstall));
            assert_eq!(connection.peer.read_to_end(&mut Vec::new()).unwrap(), 0);
        })
        .join()
        .unwrap();
    }
}

#[test]
fn a_batch_wait_ends_with_a_batch() {
    for abilities in kernels() {
        if !abilities.has(Ability::MinWait) {
            continue;
        }
        let (batch, batch_wait_us) = (BATCH_COMPLETIONS, Some(u32::MAX));
        for (wakes, batch_wait_us) in [(1, None), (batch, batch_wait_us)] {
            let mut rig = Rig::with(&RingOptions {
                abilities,
                slots: 1,
                receive_buffers: 1,
                receive_buffer_bytes: BUFFER_BYTES,
                batch_wait_us,
            });
            rig.expect_nothing();
            let mut waker = Waker::new(&[rig.ring.descriptor()]).unwrap();
            let other = thread::spawn(move || (0..wakes).for_each(|_| waker.wake(0)));
            // The wait ends with the last of them, whenever it comes; for longer than an hour
            // nothing else ends it.
            rig.ring.submit(None).unwrap();
            for _ in 0..wakes {
                assert!(matches!(rig.ring.next_event(), Some(Event::Woken)));
            }
            assert!(rig.ring.next_event().is_none());
            other.join().unwrap();
        }
    }
}

/// A descriptor whose number leads to something else until this is dropped.
struct Hidden {
    descriptor: RawFd,
    kept: OwnedFd,
}

impl Hidden {
    fn new(descriptor: RawFd) -> Self {
        // SAFETY: the descriptor is that of a living ring.
        let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
        let kept = borrowed.try_clone_to_owned().unwrap();
        lead(descriptor, &File::open("/dev/null").unwrap().into());
        Self { descriptor, kept }
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        lead(self.descriptor, &self.kept);
    }
}

fn lead(descriptor: RawFd, to: &OwnedFd) {
    // SAFETY: the number stays open all the time, and its owner is the test.
    let led = unsafe { libc::dup2(to.as_raw_fd(), descriptor) };
    assert_eq!(led, descriptor);
}

/// Worker threads of the kernel that serve the calling thread's rings.
fn workers() -> usize {
    let own = fs::read_link("/proc/thread-self").unwrap();
    let name = format!("iou-wrk-{}", own.file_name().unwrap().to_str().unwrap());
    let tasks = fs::read_dir("/proc/self/task").unwrap().map_while(Result::ok);
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|found| found.trim_end() == name).count()
}
