//! Deltas: what turns one payload into the next, in the format of Fossil ("Fossil Delta Format",
//! fossil-scm.org), which clients of the Centrifugo client protocol v2 apply.
//!
//! A delta is a text with the target's bytes in it: its length and a newline, then copies
//! (`length@offset,`) and insertions (`length:bytes`), then a checksum and `;`. Numbers are written
//! to the base 64, the most significant digit first.

/// The delta from `source` to `target`, in time that is linear in both, and never more than
/// [`OVERHEAD_BYTES`] longer than the target. If `is_text`, both must be UTF-8, and so is the
/// delta.
pub fn create(source: &[u8], target: &[u8], is_text: bool) -> Vec<u8> {
    let mut delta = Writer::new(target);
    // What surrounds the change is most of it where somebody publishes a state again and again.
    let same = source.iter().zip(target).take_while(|(one, other)| one == other).count();
    let (begin, _) = Copy { from: 0, at: 0, bytes: same }.aligned(target, is_text).spans();
    let rest = (&source[begin..], &target[begin..]);
    let same = rest.0.iter().rev().zip(rest.1.iter().rev()).take_while(|(one, other)| one == other);
    let same = same.count();
    let tail = Copy { from: source.len() - same, at: target.len() - same, bytes: same };
    let tail = tail.aligned(target, is_text);
    let tail = if tail.is_worth_it() { tail } else { Copy::nothing(source, target) };
    let head = Copy { from: 0, at: 0, bytes: begin };
    if head.is_worth_it() {
        delta.copy(head);
    }
    if source.len() >= WINDOW && tail.at - delta.done >= WINDOW {
        copy_moved(&mut delta, source, tail.at, is_text);
    }
    if tail.bytes > 0 {
        delta.copy(tail);
    }
    let delta = delta.finish();
    let mut plain = Writer::new(target);
    plain.insert_until(target.len());
    if delta.len() <= plain.out.len() { delta } else { plain.finish() }
}

/// Copies what is found anywhere in the source, up to a place of the target.
fn copy_moved(delta: &mut Writer<'_>, source: &[u8], end: usize, is_text: bool) {
    let target = delta.target;
    let index = Index::new(source);
    let mut at = delta.done;
    let mut hash = None;
    while at + WINDOW <= end {
        let value = match hash {
            None => window_hash(&target[at..at + WINDOW]),
            Some(previous) => rolled(previous, target[at - 1], target[at + WINDOW - 1]),
        };
        hash = Some(value);
        let candidates = index.candidates(value);
        let found =
            candidates.filter_map(|from| longest(source, target, from, at, delta.done, end));
        let best = found.max_by_key(|copy| copy.bytes);
        let best = best.map(|copy| copy.aligned(target, is_text)).filter(Copy::is_worth_it);
        match best {
            Some(copy) => {
                delta.copy(copy);
                at = delta.done;
                hash = None;
            }
            None => at += 1,
        }
    }
}

/// The whole of what is the same around two windows, from the places `begin` to `end` of the
/// target.
fn longest(
    source: &[u8],
    target: &[u8],
    from: usize,
    at: usize,
    begin: usize,
    end: usize,
) -> Option<Copy> {
    if source[from..from + WINDOW] != target[at..at + WINDOW] {
        return None;
    }
    let ahead = source[from + WINDOW..].iter().zip(&target[at + WINDOW..end]);
    let ahead = ahead.take_while(|(one, other)| one == other).count();
    let behind = source[..from].iter().rev().zip(target[begin..at].iter().rev());
    let behind = behind.take_while(|(one, other)| one == other).count();
    Some(Copy { from: from - behind, at: at - behind, bytes: behind + WINDOW + ahead })
}

/// What a delta makes of a source: nothing, if it is not a delta, not for this source, or its
/// result is longer than [`OUTPUT_BYTES_MAX`].
pub fn apply(source: &[u8], delta: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader { left: delta };
    let length = reader.number()?;
    reader.expect(b'\n')?;
    if length > OUTPUT_BYTES_MAX {
        return None;
    }
    let mut output = Vec::with_capacity(length.min(source.len() + delta.len()));
    loop {
        let number = reader.number()?;
        match reader.byte()? {
            b'@' => {
                let from = reader.number()?;
                reader.expect(b',')?;
                let copied = source.get(from..from.checked_add(number)?)?;
                extend(&mut output, copied, length)?;
            }
            b':' => {
                let (inserted, left) = reader.left.split_at_checked(number)?;
                reader.left = left;
                extend(&mut output, inserted, length)?;
            }
            b';' => {
                let is_right = number == checksum(&output) as usize && output.len() == length;
                return (is_right && reader.left.is_empty()).then_some(output);
            }
            _ => return None,
        }
    }
}

fn extend(output: &mut Vec<u8>, bytes: &[u8], length: usize) -> Option<()> {
    if bytes.len() > length - output.len() {
        return None;
    }
    output.extend_from_slice(bytes);
    Some(())
}

/// Bytes of the target that are in the source as well.
#[derive(Clone, Copy, Debug)]
struct Copy {
    /// The place in the source.
    from: usize,
    /// The place in the target.
    at: usize,
    bytes: usize,
}

impl Copy {
    /// Nothing, behind the end of both.
    fn nothing(source: &[u8], target: &[u8]) -> Self {
        Self { from: source.len(), at: target.len(), bytes: 0 }
    }

    /// Where it ends in the source and in the target.
    fn spans(self) -> (usize, usize) {
        (self.from + self.bytes, self.at + self.bytes)
    }

    /// The same without the parts of characters at its ends, if it is of a text.
    fn aligned(mut self, target: &[u8], is_text: bool) -> Self {
        let is_inside =
            |at: usize| target.get(at).is_some_and(|byte| byte & 0b1100_0000 == 0b1000_0000);
        if !is_text {
            return self;
        }
        // A character has three such bytes at most, and what has more is no text.
        for _ in 0..3 {
            if self.bytes > 0 && is_inside(self.at) {
                self = Self { from: self.from + 1, at: self.at + 1, bytes: self.bytes - 1 };
            }
            if self.bytes > 0 && is_inside(self.at + self.bytes) {
                self.bytes -= 1;
            }
        }
        self
    }

    /// Whether it is shorter than what it says, with the head of another insertion behind it.
    fn is_worth_it(&self) -> bool {
        self.bytes > digits(self.bytes) + digits(self.from) + COPY_MARKS + INSERTION_BYTES
    }
}

/// A delta that is being written.
struct Writer<'a> {
    target: &'a [u8],
    /// Bytes of the target that the delta has so far.
    done: usize,
    out: Vec<u8>,
}

impl<'a> Writer<'a> {
    fn new(target: &'a [u8]) -> Self {
        let mut writer = Self { target, done: 0, out: Vec::new() };
        writer.number(target.len());
        writer.out.push(b'\n');
        writer
    }

    fn copy(&mut self, copy: Copy) {
        self.insert_until(copy.at);
        self.number(copy.bytes);
        self.out.push(b'@');
        self.number(copy.from);
        self.out.push(b',');
        self.done += copy.bytes;
    }

    fn insert_until(&mut self, end: usize) {
        if end > self.done {
            self.number(end - self.done);
            self.out.push(b':');
            self.out.extend_from_slice(&self.target[self.done..end]);
            self.done = end;
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.insert_until(self.target.len());
        self.number(checksum(self.target) as usize);
        self.out.push(b';');
        self.out
    }

    fn number(&mut self, number: usize) {
        for place in (0..digits(number)).rev() {
            self.out.push(DIGITS[(number >> (place * DIGIT_BITS)) % DIGITS.len()]);
        }
    }
}

/// Digits of a number.
fn digits(number: usize) -> usize {
    (usize::BITS - number.leading_zeros()).div_ceil(DIGIT_BITS as u32).max(1) as usize
}

/// What is left of a delta.
struct Reader<'a> {
    left: &'a [u8],
}

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, left) = self.left.split_first()?;
        self.left = left;
        Some(*first)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.byte()? == byte).then_some(())
    }

    /// A number of at least one digit, and at most 32 bits.
    fn number(&mut self) -> Option<usize> {
        let mut number = 0_u32;
        let mut has_digits = false;
        while let Some((first, left)) = self.left.split_first()
            && let Some(digit) = DIGITS.iter().position(|digit| digit == first)
        {
            number = number.checked_mul(DIGITS.len() as u32)?.checked_add(digit as u32)?;
            (self.left, has_digits) = (left, true);
        }
        has_digits.then_some(number as usize)
    }
}

/// The sum of the words of four bytes, the first of them the most significant; of what is left at
/// the end as if it was followed by zeros.
fn checksum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(4).map(|chunk| {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        u32::from_be_bytes(word)
    });
    words.fold(0, u32::wrapping_add)
}

/// Where which windows of a source are: those that begin at a multiple of their length.
struct Index {
    /// The last window for each value of the hash, by its number plus one; 0 for none.
    last: Vec<u32>,
    /// For each window the one before it with the same value.
    before: Vec<u32>,
}

impl Index {
    fn new(source: &[u8]) -> Self {
        let windows = source.chunks_exact(WINDOW);
        let mut last = vec![0; windows.len().next_power_of_two()];
        let mut before = Vec::with_capacity(windows.len());
        for (number, window) in (1..).zip(windows) {
            let place = slot(window_hash(window), last.len());
            before.push(last[place]);
            last[place] = number;
        }
        Self { last, before }
    }

    /// The places of windows that may have this hash, the last ones of them.
    fn candidates(&self, hash: u32) -> impl Iterator<Item = usize> {
        let first = self.last[slot(hash, self.last.len())];
        let windows = std::iter::successors(Some(first), |number| {
            self.before.get((*number as usize).checked_sub(1)?).copied()
        });
        let windows = windows.map_while(|number| (number as usize).checked_sub(1));
        windows.take(CANDIDATES_MAX).map(|window| window * WINDOW)
    }
}

/// The place of a hash in a table whose size is a power of two.
fn slot(hash: u32, size: usize) -> usize {
    let mixed = u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as usize & (size - 1)
}

/// The hash of a window: a polynomial, so that it can be moved on by a byte.
fn window_hash(window: &[u8]) -> u32 {
    window.iter().fold(0, |hash: u32, byte| hash.wrapping_mul(BASE).wrapping_add((*byte).into()))
}

/// The hash of the window that begins a byte later.
fn rolled(hash: u32, leaves: u8, enters: u8) -> u32 {
    let without = hash.wrapping_sub(u32::from(leaves).wrapping_mul(BASE_OF_FIRST));
    without.wrapping_mul(BASE).wrapping_add(enters.into())
}

/// By how much a delta may be longer than its target: the numbers of 32 bits and the marks of one
/// that inserts all of it.
pub const OVERHEAD_BYTES: usize = 3 * 6 + 3;
/// No delta that makes more is applied.
pub const OUTPUT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes that must be the same for something to be found elsewhere.
const WINDOW: usize = 16;
/// Windows of the source that are compared with one of the target, so that a source which repeats
/// itself costs no more.
const CANDIDATES_MAX: usize = 8;
/// The marks of a copy.
const COPY_MARKS: usize = 2;
/// The head of an insertion of up to 4,095 bytes.
const INSERTION_BYTES: usize = 3;
const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";
const DIGIT_BITS: usize = 6;
/// An odd number without a pattern, whose powers the hash is made of.
const BASE: u32 = 0x9e37_79b1;
const BASE_OF_FIRST: u32 = BASE.wrapping_pow(WINDOW as u32 - 1);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn assert_turns(source: &[u8], target: &[u8], is_text: bool) -> usize {
        let delta = create(source, target, is_text);
        assert_eq!(apply(source, &delta).as_deref(), Some(target));
        assert!(delta.len() <= target.len() + OVERHEAD_BYTES);
        assert!(!is_text || str::from_utf8(&delta).is_ok(), "characters stay whole");
        delta.len()
    }

    fn text() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[a-z]{0,3}",
            "[\u{e0}-\u{f0}]{1,3}",
            "[\u{1f600}-\u{1f60f}]{1,2}",
            Just("\"temperature\":".to_owned()),
            Just("\u{43f}\u{440}\u{438}\u{432}\u{435}\u{442}, \u{43c}\u{438}\u{440}".to_owned()),
            "[0-9]{20}",
        ];
        prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
    }

    /// A text and what edits make of it: parts of it moved, left out, repeated, others between.
    fn edited() -> impl Strategy<Value = (String, String)> {
        let part = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), "[a-\u{ff}]{0,4}");
        (text(), prop::collection::vec(part, 0..6)).prop_map(|(source, parts)| {
            let characters: Vec<char> = source.chars().collect();
            let mut target = String::new();
            for (one, other, between) in parts {
                let (one, other) =
                    (one.index(characters.len() + 1), other.index(characters.len() + 1));
                target.extend(&characters[one.min(other)..one.max(other)]);
                target.push_str(&between);
            }
            (source, target)
        })
    }

    proptest! {
        #[test]
        fn bytes_become_others(
            source in prop::collection::vec(0..3u8, 0..300),
            target in prop::collection::vec(0..3u8, 0..300),
        ) {
            assert_turns(&source, &target, false);
        }

        #[test]
        fn texts_become_what_edits_make_of_them((source, target) in edited()) {
            assert_turns(source.as_bytes(), target.as_bytes(), true);
            assert_turns(source.as_bytes(), target.as_bytes(), false);
        }

        #[test]
        fn texts_become_others(source in text(), target in text()) {
            assert_turns(source.as_bytes(), target.as_bytes(), true);
        }

        #[test]
        fn whatever_is_no_delta_is_refused_in_peace(
            source in prop::collection::vec(any::<u8>(), 0..99),
            delta in "[0-3@:,;\n]{0,40}",
        ) {
            apply(&source, delta.as_bytes());
        }

        #[test]
        fn what_is_not_text_does_no_harm(
            source in prop::collection::vec(128..=255u8, 0..200),
            target in prop::collection::vec(128..=255u8, 0..200),
        ) {
            let delta = create(&source, &target, true);
            prop_assert_eq!(apply(&source, &delta), Some(target));
        }
    }

    #[test]
    fn a_delta_is_written_as_it_is_specified() {
        assert_eq!(create(b"", b"", true), b"0\n0;");
        assert_eq!(create(b"", b"abcde", true), b"5\n5:abcde36ObD_;");
        let (source, target) = (b"0123456789abcdefghijkl", b"0123456789abcdefghijXkl");
        assert_eq!(create(source, target, true), b"N\nK@0,3:Xkl2~r0IS;");
        assert_eq!([0, 63, 64, 4095, 4096].map(digits), [1, 1, 2, 2, 3]);
    }

    #[test]
    fn a_change_in_the_middle_is_small() {
        let state = |price: u32| {
            format!(r#"{{"instrument":"EURUSD","exchange":"\u00e9\u00e9","price":{price},"at":1}}"#)
        };
        let size = assert_turns(state(10_712).as_bytes(), state(10_698).as_bytes(), true);
        assert!(size < 30, "{size} bytes");
        let lines: Vec<String> =
            (0..400).map(|line| format!("{line} squared is {}", line * line)).collect();
        let mut moved = lines.clone();
        moved.swap(20, 300);
        moved.remove(200);
        let (source, target) = (lines.join("\n"), moved.join("\n"));
        let size = assert_turns(source.as_bytes(), target.as_bytes(), true);
        assert!(size < 200, "{size} of {} bytes", target.len());
    }

    /// Sources in which every window is the same, or nearly, are where such searches become slow.
    #[test]
    fn repetition_costs_no_more_than_its_length() {
        let (same, mut other) = (vec![b'a'; 200_000], vec![b'a'; 200_000]);
        other.iter_mut().skip(15).step_by(17).for_each(|byte| *byte = b'b');
        for (source, target) in [(&same, &same), (&same, &other), (&other, &same)] {
            assert_turns(source, target, true);
        }
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let good = create(b"0123456789abcdefghij", b"0123456789abcdefghijX", true);
        assert!(apply(b"0123456789abcdefghij", &good).is_some());
        assert!(apply(b"0123456789abcdefghiJ", &good).is_none(), "another source");
        for end in 0..good.len() {
            assert!(apply(b"0123456789abcdefghij", &good[..end]).is_none());
        }
        for delta in
            ["5\n6:abcdef0;", "~~~~~~~~\n0;", "z00000\n0;", "1\n1@~~~~~,0;", "\n0;", "0\n0;x"]
        {
            assert!(apply(b"abc", delta.as_bytes()).is_none(), "{delta:?}");
        }
    }
}
