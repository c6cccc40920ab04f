//! Provided buffers as the kernel hands them out, with every slice accounted for: what is released
//! is overwritten, so that using it shows as corrupt data, and releasing it twice is a panic.

use std::collections::VecDeque;
use std::ops::Range;

use ringwire::io::BufferSlice;

/// The buffers of one ring.
pub struct Buffers {
    memory: Vec<Vec<u8>>,
    lending: Vec<Lending>,
    /// What the kernel may fill, in order.
    offered: VecDeque<u16>,
    /// What it may fill after the next submit.
    returned: Vec<u16>,
    incremental: bool,
}

#[derive(Clone, Default)]
struct Lending {
    filled: u32,
    finished: bool,
    /// Where unreleased slices began and end.
    live: Vec<Range<u32>>,
}

impl Buffers {
    pub fn new(count: u16, bytes: u32, incremental: bool) -> Self {
        Self {
            memory: vec![vec![POISON; bytes as usize]; count.into()],
            lending: vec![Lending::default(); count.into()],
            offered: (0..count).collect(),
            returned: Vec::new(),
            incremental,
        }
    }

    /// Makes returned buffers known to the kernel.
    pub fn publish(&mut self) {
        self.offered.extend(self.returned.drain(..));
    }

    /// Whether the kernel has a buffer to fill.
    pub fn is_empty(&self) -> bool {
        self.offered.is_empty()
    }

    /// Buffers that the kernel may fill, with those that it gets with the next submit.
    pub fn free(&self) -> usize {
        self.offered.len() + self.returned.len()
    }

    /// Lets `fill` write at most `count` bytes to the buffer whose turn it is.
    pub fn lend(&mut self, count: usize, fill: impl FnOnce(&mut [u8])) -> Option<BufferSlice> {
        let buffer = *self.offered.front()?;
        let lending = &mut self.lending[usize::from(buffer)];
        let memory = &mut self.memory[usize::from(buffer)];
        let start = lending.filled;
        let end = (start as usize + count).min(memory.len());
        fill(&mut memory[start as usize..end]);
        lending.filled = end as u32;
        lending.finished = !self.incremental || end == memory.len();
        lending.live.push(start..end as u32);
        if lending.finished {
            self.offered.pop_front();
        }
        Some(BufferSlice::simulated(buffer, start, end as u32 - start))
    }

    /// The bytes of an unreleased slice.
    pub fn bytes(&mut self, slice: &BufferSlice) -> &mut [u8] {
        self.find(slice).expect("a released slice is used");
        let start = slice.start() as usize;
        &mut self.memory[usize::from(slice.buffer())][start..start + slice.len() as usize]
    }

    /// A part of a slice.
    pub fn split(&mut self, slice: &BufferSlice, range: Range<usize>) -> BufferSlice {
        self.find(slice).expect("a released slice is split");
        assert!(range.start <= range.end && range.end <= slice.len() as usize, "beyond the slice");
        let (start, end) = (slice.start() + range.start as u32, slice.start() + range.end as u32);
        self.lending[usize::from(slice.buffer())].live.push(start..end);
        BufferSlice::simulated(slice.buffer(), start, end - start)
    }

    /// Takes a slice back.
    pub fn release(&mut self, slice: &BufferSlice) {
        let place = self.find(slice).expect("a slice is released twice");
        let buffer = slice.buffer();
        let lending = &mut self.lending[usize::from(buffer)];
        let memory = &mut self.memory[usize::from(buffer)];
        for at in lending.live.swap_remove(place) {
            if !lending.live.iter().any(|live| live.contains(&at)) {
                memory[at as usize] = POISON;
            }
        }
        if lending.finished && lending.live.is_empty() {
            *lending = Lending::default();
            self.returned.push(buffer);
        }
    }

    /// Slices not yet released.
    pub fn live_slices(&self) -> usize {
        self.lending.iter().map(|lending| lending.live.len()).sum()
    }

    /// Whether every buffer is with the kernel again, but for the one it is filling.
    pub fn are_all_back(&self) -> bool {
        self.live_slices() == 0 && self.offered.len() + self.returned.len() == self.memory.len()
    }

    /// A slice keeps its end when it advances, so the end and the least possible start name it.
    fn find(&self, slice: &BufferSlice) -> Option<usize> {
        let end = slice.start() + slice.len();
        let live = self.lending[usize::from(slice.buffer())].live.iter().enumerate();
        let fitting = live.filter(|(_, range)| range.end == end && range.start <= slice.start());
        fitting.max_by_key(|(_, range)| range.start).map(|(place, _)| place)
    }
}

/// Neither a likely payload byte nor a valid first byte of a frame.
const POISON: u8 = 0xdb;
