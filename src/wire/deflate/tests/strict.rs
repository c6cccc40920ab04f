//! A slow reader of DEFLATE (RFC 1951) that refuses every match beyond its window.

/// Reads the blocks of all messages as one stream, each message up to its last whole block.
pub(super) struct Strict {
    window_bytes: usize,
    output: Vec<u8>,
}

/// Why a stream is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Corrupt,
    BeyondWindow,
}

impl Strict {
    pub(super) fn new(window_bits: u8) -> Self {
        Self { window_bytes: 1 << window_bits, output: Vec::new() }
    }

    /// The inflated message; `stream` has its tail (RFC 7692 section 7.2.2).
    pub(super) fn message(&mut self, stream: &[u8]) -> Result<Vec<u8>, Refused> {
        let start = self.output.len();
        let mut bits = Bits { bytes: stream, at: 0 };
        // No block is shorter than its three bits of header.
        while bits.left() >= 3 {
            bits.take(1)?;
            match bits.take(2)? {
                0 => self.stored(&mut bits)?,
                1 => self.coded(&mut bits, &fixed_literals(), &Code::new(&[5; 30]))?,
                2 => {
                    let (literals, distances) = dynamic_codes(&mut bits)?;
                    self.coded(&mut bits, &literals, &distances)?;
                }
                _ => return Err(Refused::Corrupt),
            }
        }
        Ok(self.output[start..].to_vec())
    }

    fn stored(&mut self, bits: &mut Bits<'_>) -> Result<(), Refused> {
        bits.at = bits.at.next_multiple_of(8);
        let (length, complement) = (bits.take(16)?, bits.take(16)?);
        if length ^ complement != 0xffff {
            return Err(Refused::Corrupt);
        }
        for _ in 0..length {
            self.output.push(bits.take(8)? as u8);
        }
        Ok(())
    }

    fn coded(
        &mut self,
        bits: &mut Bits<'_>,
        literals: &Code,
        distances: &Code,
    ) -> Result<(), Refused> {
        loop {
            let symbol = literals.read(bits)?;
            match symbol {
                0..=255 => self.output.push(symbol as u8),
                256 => return Ok(()),
                _ => {
                    let (base, extra) = *LENGTHS.get(symbol - 257).ok_or(Refused::Corrupt)?;
                    let length = base + bits.take(extra)?;
                    let (base, extra) = DISTANCES[distances.read(bits)?];
                    let distance = base + bits.take(extra)?;
                    if distance > self.window_bytes || distance > self.output.len() {
                        return Err(Refused::BeyondWindow);
                    }
                    for _ in 0..length {
                        self.output.push(self.output[self.output.len() - distance]);
                    }
                }
            }
        }
    }
}

struct Bits<'a> {
    bytes: &'a [u8],
    /// In bits.
    at: usize,
}

impl Bits<'_> {
    fn left(&self) -> usize {
        self.bytes.len() * 8 - self.at
    }

    /// Least significant bit first.
    fn take(&mut self, count: usize) -> Result<usize, Refused> {
        if self.left() < count {
            return Err(Refused::Corrupt);
        }
        let bit = |at: usize| usize::from(self.bytes[at / 8] >> (at % 8) & 1);
        let value = (0..count).fold(0, |value, place| value | bit(self.at + place) << place);
        self.at += count;
        Ok(value)
    }
}

/// A canonical Huffman code: symbols in the order of their codes, and how many have each length.
struct Code {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Code {
    fn new(lengths: &[usize]) -> Self {
        let mut counts = [0; 16];
        lengths.iter().for_each(|&length| counts[length] += 1);
        counts[0] = 0;
        let mut symbols: Vec<_> = (0..lengths.len()).filter(|&s| lengths[s] > 0).collect();
        symbols.sort_by_key(|&symbol| (lengths[symbol], symbol));
        Self { counts, symbols }
    }

    fn read(&self, bits: &mut Bits<'_>) -> Result<usize, Refused> {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for count in &self.counts[1..] {
            code |= bits.take(1)?;
            if code < first + count {
                return self.symbols.get(index + code - first).copied().ok_or(Refused::Corrupt);
            }
            index += count;
            (first, code) = ((first + count) << 1, code << 1);
        }
        Err(Refused::Corrupt)
    }
}

fn fixed_literals() -> Code {
    Code::new(&[vec![8; 144], vec![9; 112], vec![7; 24], vec![8; 8]].concat())
}

/// RFC 1951 section 3.2.7.
fn dynamic_codes(bits: &mut Bits<'_>) -> Result<(Code, Code), Refused> {
    let (literals, distances) = (bits.take(5)? + 257, bits.take(5)? + 1);
    let mut lengths = vec![0; 19];
    for &place in &ORDER[..bits.take(4)? + 4] {
        lengths[place] = bits.take(3)?;
    }
    let code = Code::new(&lengths);
    let mut lengths = Vec::new();
    while lengths.len() < literals + distances {
        let (length, count) = match code.read(bits)? {
            16 => (*lengths.last().ok_or(Refused::Corrupt)?, 3 + bits.take(2)?),
            17 => (0, 3 + bits.take(3)?),
            18 => (0, 11 + bits.take(7)?),
            length => (length, 1),
        };
        lengths.resize(lengths.len() + count, length);
    }
    let (literals, distances) = lengths.split_at(literals);
    Ok((Code::new(literals), Code::new(distances)))
}

const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Base and extra bits (RFC 1951 section 3.2.5).
#[rustfmt::skip]
const LENGTHS: [(usize, usize); 29] = [
    (3, 0), (4, 0), (5, 0), (6, 0), (7, 0), (8, 0), (9, 0), (10, 0), (11, 1), (13, 1), (15, 1),
    (17, 1), (19, 2), (23, 2), (27, 2), (31, 2), (35, 3), (43, 3), (51, 3), (59, 3), (67, 4),
    (83, 4), (99, 4), (115, 4), (131, 5), (163, 5), (195, 5), (227, 5), (258, 0),
];
#[rustfmt::skip]
const DISTANCES: [(usize, usize); 30] = [
    (1, 0), (2, 0), (3, 0), (4, 0), (5, 1), (7, 1), (9, 2), (13, 2), (17, 3), (25, 3), (33, 4),
    (49, 4), (65, 5), (97, 5), (129, 6), (193, 6), (257, 7), (385, 7), (513, 8), (769, 8),
    (1025, 9), (1537, 9), (2049, 10), (3073, 10), (4097, 11), (6145, 11), (8193, 12), (12289, 12),
    (16385, 13), (24577, 13),
];
