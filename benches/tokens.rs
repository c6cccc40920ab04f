//! How long a token takes to verify, and how long the library alone takes for the same, to which
//! the rest must add little: `cargo bench --bench tokens`. `cargo test --benches` runs each once.

mod timing;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use mimalloc::MiMalloc;
use ringwire::config::{Identity, KeyFile};
use ringwire::identity::Keys;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const SECRET: &[u8] = b"a secret of at least thirty-two bytes";
const RSA: &[u8] = include_bytes!("../tests/keys/rsa.pem");
const RSA_PRIVATE: &[u8] = include_bytes!("../tests/keys/rsa.private.pem");
const P256: &[u8] = include_bytes!("../tests/keys/p256.pem");
const P256_PRIVATE: &[u8] = include_bytes!("../tests/keys/p256.private.pem");
const NOW_S: u64 = 1_800_000_000;

fn measure(criterion: &mut Criterion) {
    let secret = (EncodingKey::from_secret(SECRET), DecodingKey::from_secret(SECRET));
    let rsa = (EncodingKey::from_rsa_pem(RSA_PRIVATE), DecodingKey::from_rsa_pem(RSA));
    let p256 = (EncodingKey::from_ec_pem(P256_PRIVATE), DecodingKey::from_ec_pem(P256));
    for (algorithm, file, text, (signing, verifying)) in [
        (Algorithm::HS256, "hs256:/key", SECRET, secret),
        (Algorithm::RS256, "/key", RSA, rsa),
        (Algorithm::ES256, "/key", P256, p256),
    ] {
        let claims = json!({ "sub": "alice", "jti": "0123456789", "exp": NOW_S + 60,
            "ringwire": { "subscribe": ["news.*", "chat:**"], "publish": ["chat:**"] } });
        let signing = signing.expect("a key");
        let token = encode(&Header::new(algorithm), &claims, &signing).expect("a token");
        let mut keys = Keys::default();
        let file: KeyFile = file.parse().expect("a file");
        keys.add(&file, text, &Identity::default()).expect("a key");
        let (verifying, mut validation) = (verifying.expect("a key"), Validation::new(algorithm));
        validation.validate_exp = false;
        let mut group = criterion.benchmark_group(format!("{algorithm:?}"));
        group.bench_function("ours", |bencher| {
            bencher.iter(|| keys.verify(black_box(&token), NOW_S).result.expect("valid"));
        });
        group.bench_function("library", |bencher| {
            let verify = || decode::<Value>(black_box(&token), &verifying, &validation);
            bencher.iter(|| verify().expect("valid"));
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = timing::configuration();
    targets = measure
}
criterion_main!(benches);
