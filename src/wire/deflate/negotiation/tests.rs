//! Offers and answers, as tables.

use proptest::prelude::*;

use super::*;

const DEDICATED: Terms = Terms { server_takeover: true, client_takeover: true, window_bits: 15 };
const SHARED: Terms = Terms { server_takeover: false, client_takeover: false, window_bits: 15 };

fn answer(fields: &[&str], terms: Terms) -> Option<String> {
    accept(fields.iter().map(|field| field.as_bytes()), &terms).map(|(_, answer)| answer)
}

#[test]
fn each_parameter_is_answered() {
    let narrow = Terms { window_bits: 11, ..DEDICATED };
    let both = "server_no_context_takeover; client_no_context_takeover";
    for (offer, terms, expected) in [
        ("", DEDICATED, ""),
        ("", SHARED, both),
        ("", narrow, "server_max_window_bits=11"),
        ("server_no_context_takeover", DEDICATED, "server_no_context_takeover"),
        ("client_no_context_takeover", DEDICATED, "client_no_context_takeover"),
        (both, SHARED, both),
        ("server_max_window_bits=8", DEDICATED, "server_max_window_bits=8"),
        ("server_max_window_bits=15", DEDICATED, "server_max_window_bits=15"),
        ("server_max_window_bits=15", narrow, "server_max_window_bits=11"),
        ("server_max_window_bits=\"10\"", narrow, "server_max_window_bits=10"),
        ("server_max_window_bits=\"1\\2\"", DEDICATED, "server_max_window_bits=12"),
        ("client_max_window_bits", DEDICATED, ""),
        ("client_max_window_bits=15", DEDICATED, ""),
        ("client_max_window_bits=8", DEDICATED, "client_max_window_bits=8"),
        ("client_max_window_bits", narrow, "server_max_window_bits=11; client_max_window_bits=11"),
        ("client_max_window_bits=9", narrow, "server_max_window_bits=11; client_max_window_bits=9"),
        ("Server_Max_Window_Bits=9", DEDICATED, "server_max_window_bits=9"),
        (
            "client_max_window_bits=9; server_max_window_bits=9; client_no_context_takeover; \
             server_no_context_takeover",
            DEDICATED,
            "server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9; \
             client_max_window_bits=9",
        ),
    ] {
        let join = |parameters: &str| match parameters {
            "" => NAME.to_owned(),
            _ => format!("{NAME}; {parameters}"),
        };
        assert_eq!(answer(&[&join(offer)], terms), Some(join(expected)), "{offer}");
    }
}

#[test]
fn offers_that_are_declined() {
    for parameters in [
        "server_no_context_takeover=true",
        "client_no_context_takeover=\"\"",
        "server_no_context_takeover; server_no_context_takeover",
        "client_no_context_takeover; client_no_context_takeover",
        "server_max_window_bits",
        "server_max_window_bits=",
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=08",
        "server_max_window_bits=+9",
        "server_max_window_bits=9.0",
        "server_max_window_bits=265",
        "server_max_window_bits=9; server_max_window_bits=9",
        "client_max_window_bits=7",
        "client_max_window_bits=16",
        "client_max_window_bits=\"08\"",
        "client_max_window_bits; client_max_window_bits",
        "client_max_window_bits; client_max_window_bits=9",
        "unknown",
        "unknown=1",
    ] {
        let declined = format!("{NAME}; {parameters}");
        assert_eq!(answer(&[&declined], DEDICATED), None, "{parameters}");
        let next = format!("x-other; a=b, {declined}, , {NAME}; server_max_window_bits=9");
        let expected = format!("{NAME}; server_max_window_bits=9");
        let is_grammatical = !parameters.ends_with('=') && !parameters.ends_with("\"\"");
        assert_eq!(answer(&[&next], DEDICATED), is_grammatical.then_some(expected), "{next}");
    }
}

#[test]
fn the_first_acceptable_offer_counts_in_whatever_field() {
    let first = format!("{NAME}; server_max_window_bits=9, {NAME}");
    assert_eq!(answer(&[&first], DEDICATED), Some(format!("{NAME}; server_max_window_bits=9")));
    let fields = ["x, y", "", "permessage-bzip2", "PerMessage-Deflate ; client_max_window_bits"];
    assert_eq!(answer(&fields, DEDICATED), Some(NAME.to_owned()));
    assert_eq!(answer(&["x-webkit-deflate-frame"], DEDICATED), None);
    assert_eq!(answer(&[], DEDICATED), None);
}

#[test]
fn what_breaks_the_grammar_is_declined_as_a_whole() {
    for field in [
        "permessage-deflate;",
        "permessage-deflate; =8",
        "permessage-deflate server_no_context_takeover",
        "permessage-deflate; a b",
        "permessage-deflate; a=\"b",
        "permessage-deflate; a=\"b\"c",
        "permessage-deflate; a=\"b c\"",
        "permessage-deflate; a=\"b\\",
        "permessage-deflate, ;",
        "permessage-deflate, \u{e9}",
        "=",
    ] {
        assert_eq!(answer(&[field], DEDICATED), None, "{field}");
        assert_eq!(answer(&[NAME, field], DEDICATED), None, "{field}");
    }
}

#[test]
fn agreements_say_what_the_answer_says() {
    let terms = Terms { window_bits: 12, ..DEDICATED };
    let (agreement, _) = accept([NAME.as_bytes()], &terms).unwrap();
    let expected = Agreement {
        server_takeover: true,
        client_takeover: true,
        server_window_bits: 12,
        client_window_bits: 15,
    };
    assert_eq!(agreement, expected);
    for terms in [DEDICATED, SHARED, terms] {
        let (agreement, answer) = accept([SELF_CONTAINED_OFFER.as_bytes()], &terms).unwrap();
        assert_eq!(accepted(answer.as_bytes()), Some(agreement));
        assert!(!agreement.server_takeover && !agreement.client_takeover);
    }
}

#[test]
fn answers_that_answer_nothing() {
    let good = format!("{NAME}; server_no_context_takeover");
    assert!(accepted(good.as_bytes()).is_some_and(|agreement| agreement.client_takeover));
    for bad in [
        "",
        NAME,
        "other; server_no_context_takeover",
        &format!("{good}, {good}"),
        &format!("{good}; client_max_window_bits"),
        &format!("{good}; server_max_window_bits=7"),
    ] {
        assert_eq!(accepted(bad.as_bytes()), None, "{bad}");
    }
}

proptest! {
    #[test]
    fn no_field_panics(
        field in "(permessage-deflate|;|=|,|\"| |\\\\|server_max_window_bits|8|\\PC){0,30}",
        window_bits in 9..=15_u8,
    ) {
        let terms = Terms { window_bits, ..DEDICATED };
        if let Some((agreement, answer)) = accept([field.as_bytes()], &terms) {
            prop_assert!(answer.starts_with(NAME));
            prop_assert!((8..=window_bits).contains(&agreement.server_window_bits));
            prop_assert!((8..=15).contains(&agreement.client_window_bits));
        }
        accepted(field.as_bytes());
    }
}
