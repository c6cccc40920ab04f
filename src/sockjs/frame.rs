//! Frames: what a server says, as texts.
//!
//! | frame | means |
//! |---|---|
//! | `o` | the session has begun |
//! | `h` | it is still there |
//! | `a["...","..."]` | messages |
//! | `c[code,"reason"]` | it has ended |

/// The first frame of each session.
pub const OPEN: &str = "o";
/// What is said when there is nothing to say.
pub const HEARTBEAT: &str = "h";

/// The frame of these messages, which are [literals](push_literal).
pub fn of_messages<'l>(literals: impl IntoIterator<Item = &'l str>) -> String {
    let mut frame = String::from("a[");
    for literal in literals {
        if frame.len() > "a[".len() {
            frame.push(',');
        }
        frame.push_str(literal);
    }
    frame.push(']');
    frame
}

/// The frame of one message, which is no literal.
pub fn push_of_message(message: &str, frame: &mut String) {
    frame.push_str("a[");
    push_literal(message, frame);
    frame.push(']');
}

/// The frame that ends a session.
pub fn of_close(code: u16, reason: &str) -> String {
    let mut frame = format!("c[{code},");
    push_literal(reason, &mut frame);
    frame.push(']');
    frame
}

/// Appends a text as a string of JSON, without what browsers have been seen to change on the way:
/// beside control characters those that are invisible, and what takes two units in UTF-16.
pub fn push_literal(text: &str, literal: &mut String) {
    literal.reserve(text.len() + 2);
    literal.push('"');
    let mut plain = 0;
    for (at, character) in text.char_indices() {
        if !must_be_escaped(character) {
            continue;
        }
        literal.push_str(&text[plain..at]);
        plain = at + character.len_utf8();
        match character {
            '"' => literal.push_str("\\\""),
            '\\' => literal.push_str("\\\\"),
            '\u{8}' => literal.push_str("\\b"),
            '\t' => literal.push_str("\\t"),
            '\n' => literal.push_str("\\n"),
            '\u{c}' => literal.push_str("\\f"),
            '\r' => literal.push_str("\\r"),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    literal.push_str("\\u");
                    for shift in [12, 8, 4, 0] {
                        let digit = u32::from(*unit >> shift & 0xf);
                        literal.extend(char::from_digit(digit, 16));
                    }
                }
            }
        }
    }
    literal.push_str(&text[plain..]);
    literal.push('"');
}

fn must_be_escaped(character: char) -> bool {
    matches!(
        character,
        '\0'..='\x1f'
            | '"'
            | '\\'
            | '\u{200c}'..='\u{200f}'
            | '\u{2028}'..='\u{202f}'
            | '\u{2060}'..='\u{206f}'
            | '\u{fff0}'..
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn literal(text: &str) -> String {
        let mut literal = String::new();
        push_literal(text, &mut literal);
        literal
    }

    #[test]
    fn frames_are_as_the_protocol_says() {
        assert_eq!(of_messages([]), "a[]");
        assert_eq!(of_messages(["\"a\"", "\"b\""]), "a[\"a\",\"b\"]");
        let mut frame = String::new();
        push_of_message("x\"", &mut frame);
        assert_eq!(frame, "a[\"x\\\"\"]");
        assert_eq!(of_close(3000, "Go away!"), "c[3000,\"Go away!\"]");
    }

    #[test]
    fn what_browsers_change_is_escaped() {
        for (text, expected) in [
            ("", "\"\""),
            ("  \0\n\r ", "\"  \\u0000\\n\\r \""),
            ("\u{7f}\u{e9}\u{200b}\u{2010}", "\"\u{7f}\u{e9}\u{200b}\u{2010}\""),
            ("\u{200c}\u{2028}\u{206f}\u{fff0}\u{ffff}", r#""\u200c\u2028\u206f\ufff0\uffff""#),
            ("\u{1f600}", r#""\ud83d\ude00""#),
            ("</script>", "\"</script>\""),
        ] {
            assert_eq!(literal(text), expected, "{text:?}");
        }
    }

    fn suspicious_texts() -> impl Strategy<Value = String> {
        let ranges = ['\0'..='\u{ff}', '\u{2000}'..='\u{2070}', '\u{ffe0}'..='\u{10010}'];
        let character = prop::char::ranges(ranges.to_vec().into());
        prop::collection::vec(character, 0..20).prop_map(|it| it.into_iter().collect())
    }

    proptest! {
        #[test]
        fn a_literal_is_json_of_the_same_text_in_which_nothing_is_left_to_escape(
            text in prop_oneof![any::<String>(), suspicious_texts()],
        ) {
            let literal = literal(&text);
            prop_assert_eq!(&serde_json::from_str::<String>(&literal).unwrap(), &text);
            let inner = &literal[1..literal.len() - 1];
            prop_assert!(!inner.replace("\\\\", "").replace("\\\"", "").contains('"'));
            prop_assert!(!inner.contains(|it| it != '"' && it != '\\' && must_be_escaped(it)));
        }
    }
}
