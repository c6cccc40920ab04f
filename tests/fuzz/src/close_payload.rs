//! Close payloads, read and made, against a list of what RFC 6455 section 5.5.1 asks for.

use ringwire::wire::close::{CloseCode, ClosePayload, REASON_BYTES_MAX};
use ringwire::wire::error::Violation;
use ringwire::wire::header::close_frame;

/// All of `data` is the payload.
pub fn check(data: &[u8]) {
    let parsed = ClosePayload::parse(data);
    match expect(data) {
        Err(violation) => assert_eq!(parsed, Err(violation)),
        Ok(None) => assert_eq!(parsed, Ok(ClosePayload { code: None, reason: "" })),
        Ok(Some((code, reason))) => {
            assert_eq!(parsed, Ok(ClosePayload { code: Some(code), reason }));
            returns(code, reason);
        }
    }
}

fn expect(payload: &[u8]) -> Result<Option<(CloseCode, &str)>, Violation> {
    if payload.is_empty() {
        return Ok(None);
    }
    if payload.len() == 1 {
        return Err(Violation::ClosePayloadOneByte);
    }
    let code = u16::from(payload[0]) * 256 + u16::from(payload[1]);
    let is_assigned = (1000..=1014).contains(&code) && ![1004, 1005, 1006].contains(&code);
    if !is_assigned && !(3000..=4999).contains(&code) {
        return Err(Violation::InvalidCloseCode { code });
    }
    match std::str::from_utf8(&payload[2..]) {
        Ok(reason) => Ok(Some((CloseCode(code), reason))),
        Err(_) => Err(Violation::InvalidUtf8),
    }
}

/// What a close frame says is read again, the reason as far as it fits.
fn returns(code: CloseCode, reason: &str) {
    let frame = close_frame(code, reason);
    assert_eq!((frame[0], usize::from(frame[1])), (0x88, frame.len() - 2));
    let read = ClosePayload::parse(&frame[2..]).expect("a payload of ours");
    assert_eq!(read.code, Some(code));
    assert!(reason.starts_with(read.reason) && read.reason.len() <= REASON_BYTES_MAX);
    let missing = reason.len() - read.reason.len();
    assert!(missing == 0 || read.reason.len() > REASON_BYTES_MAX - 4, "cut more than needed");
}
