//! What lists of passwords mean, and which are refused.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;

/// Of `secret`, as three programs have written it.
const BCRYPT: &str = "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";
const ARGON2: &str = "$argon2id$v=19$m=64,t=1,p=2$Iigmg8f29D9z5w7cp/5gZQ$\
                      s5ttPvpFHP+s05QasMYXt6xEoNkvHNYwg2Y4Tmf1Hs8";
/// Of seventy-two times `x`.
const LONG: &str = "$2a$05$abcdefghijklmnopqrstuujf8SX2ahXLwp9w/B.Y5XdysS6yR576q";

fn check(list: &Passwords, user: &str, password: &str) -> PasswordVerdict {
    let text = STANDARD.encode(format!("{user}:{password}"));
    list.check(&Login::decode(text.as_bytes()).expect("a login"))
}

#[test]
fn a_password_is_that_of_its_user_or_it_is_not() {
    let text = format!("# staff\nann:{BCRYPT}\r\n\nBob Lee:{ARGON2}\ncarol:{LONG}:more\n");
    let list = Passwords::parse(&text).expect("a list");
    for (user, password, expected) in [
        ("ann", "secret", PasswordVerdict::Right),
        ("ann", "Secret", PasswordVerdict::Wrong),
        ("ann", "", PasswordVerdict::Wrong),
        ("Ann", "secret", PasswordVerdict::UnknownUser),
        ("Bob Lee", "secret", PasswordVerdict::Right),
        ("Bob Lee", "secret ", PasswordVerdict::Wrong),
        ("carol", &"x".repeat(72), PasswordVerdict::Right),
        ("carol", &"x".repeat(71), PasswordVerdict::Wrong),
        ("dan", "secret", PasswordVerdict::UnknownUser),
        ("# staff", "secret", PasswordVerdict::UnknownUser),
    ] {
        assert_eq!(check(&list, user, password), expected, "{user} {password}");
    }
    assert_eq!(list.hash_of("ann"), Some(BCRYPT));
    assert_eq!(list.hash_of("dan"), None);
    let nobody = Passwords::parse("\n# nobody\n").expect("a list");
    assert_eq!(check(&nobody, "ann", "secret"), PasswordVerdict::UnknownUser);
}

/// What a user is checked against whom nobody knows is the first hash, so both take as long.
#[test]
fn unknown_users_cost_what_known_ones_do() {
    for (first, second) in [(BCRYPT, ARGON2), (ARGON2, BCRYPT)] {
        let list = Passwords::parse(&format!("a:{first}\nb:{second}")).expect("a list");
        assert_eq!(list.for_unknown.as_ref().map(|hash| &*hash.text), Some(first));
    }
}

#[test]
fn a_line_that_is_wrong_is_told() {
    use PasswordFault::{Cost, Hash, Line, Repeated};
    let argon2 = |costs: &str| ARGON2.replace("m=64,t=1,p=2", costs);
    let bcrypt = |cost: &str| BCRYPT.replace("$04$", cost);
    let ann = |hash: &str| format!("ann:{BCRYPT}\nbob:{hash}");
    for (text, fault) in [
        ("ann".to_owned(), Line { line: 1 }),
        (format!("\n\n:{BCRYPT}"), Line { line: 3 }),
        (format!("{}:{BCRYPT}", "x".repeat(256)), Line { line: 1 }),
        (format!("a\tb:{BCRYPT}"), Line { line: 1 }),
        (format!("ann:{BCRYPT}\nann:{ARGON2}"), Repeated { line: 2 }),
        (ann(""), Hash { line: 2 }),
        (ann("secret"), Hash { line: 2 }),
        (ann("$apr1$aaaaaaaa$bbbbbbbbbbbbbbbbbbbbbb"), Hash { line: 2 }),
        (ann("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="), Hash { line: 2 }),
        (ann("rqXexS6ZhobKA"), Hash { line: 2 }),
        (ann("$6$salt$hash"), Hash { line: 2 }),
        (ann(&BCRYPT.replace("$2y$", "$2x$")), Hash { line: 2 }),
        (ann(&BCRYPT[..59]), Hash { line: 2 }),
        (ann(&ARGON2.replace("argon2id", "argon2i")), Hash { line: 2 }),
        (ann(&ARGON2[..ARGON2.len() - 44]), Hash { line: 2 }),
        (ann(&bcrypt("$03$")), Cost { line: 2 }),
        (ann(&bcrypt("$15$")), Cost { line: 2 }),
        (ann(&argon2("m=65537,t=1,p=1")), Cost { line: 2 }),
        (ann(&argon2("m=64,t=11,p=1")), Cost { line: 2 }),
        (ann(&argon2("m=256,t=1,p=17")), Cost { line: 2 }),
    ] {
        assert_eq!(Passwords::parse(&text), Err(fault), "{text}");
    }
    let said = Hash { line: 7 }.to_string();
    assert!(said.contains("line 7") && said.contains("htpasswd -B"), "{said}");
    let most = [bcrypt("$14$"), argon2("m=65536,t=10,p=16")];
    assert!(most.iter().all(|hash| Passwords::parse(&ann(hash)).is_ok()));
}
