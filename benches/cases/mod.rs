//! What is measured, once for the clock (`micro`) and once for the instruction count
//! (`instructions`), so that both tell of the same work.

mod fanout;
mod protocol;
mod tls;
mod wire;

/// Work prepared to be done once.
pub type Prepared = Box<dyn FnMut()>;

/// One piece of the hot path at one size.
pub struct Case {
    /// `subject/variant`.
    pub name: String,
    /// Operations that one run does: frames, messages, calls.
    pub operations: u64,
    /// Bytes that one run goes through, when its speed is a matter of bytes.
    pub bytes: Option<u64>,
    prepare: Box<dyn Fn() -> Prepared>,
}

impl Case {
    fn new(
        name: impl Into<String>,
        operations: usize,
        prepare: impl Fn() -> Prepared + 'static,
    ) -> Self {
        let prepare = Box::new(prepare);
        Self { name: name.into(), operations: operations as u64, bytes: None, prepare }
    }

    fn through(mut self, bytes: usize) -> Self {
        self.bytes = Some(bytes as u64);
        self
    }

    /// Makes the input of one run, which is not part of what is measured.
    pub fn prepare(&self) -> Prepared {
        (self.prepare)()
    }
}

/// All cases, in a fixed order.
pub fn all() -> Vec<Case> {
    [wire::cases(), protocol::cases(), fanout::cases(), tls::cases()]
        .into_iter()
        .flatten()
        .collect()
}

/// A size as people write it.
fn size_name(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes}B"),
        1024..0x10_0000 => format!("{}KiB", bytes / 1024),
        _ => format!("{}MiB", bytes / 0x10_0000),
    }
}

/// Bytes of a payload without a short period.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| (index.wrapping_mul(0x9e37_79b1) >> 11) as u8).collect()
}

/// Text of exactly `bytes` bytes, ASCII or with characters of two and three bytes.
fn text(bytes: usize, ascii: bool) -> Vec<u8> {
    let words: &[u8] = match ascii {
        true => b"The quick brown fox jumps over the lazy dog. ",
        false => "na\u{ef}ve caf\u{e9} \u{4f60}\u{597d} \u{2192} ring ".as_bytes(),
    };
    let mut text: Vec<u8> = words.iter().copied().cycle().take(bytes).collect();
    while std::str::from_utf8(&text).is_err() {
        text.pop();
    }
    text.resize(bytes, b'.');
    text
}
