//! What follows from the secrets of TLS 1.3 (RFC 8446 section 7).

use aws_lc_rs::aead::{self, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use rustls::CipherSuite;
use zeroize::Zeroizing;

/// Cipher and hash of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suite {
    Aes128GcmSha256,
    Aes256GcmSha384,
    ChaCha20Poly1305Sha256,
}

impl Suite {
    /// The suite that a handshake has agreed on, if it is one of TLS 1.3.
    pub(super) fn of(suite: CipherSuite) -> Option<Self> {
        match suite {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => Some(Self::Aes128GcmSha256),
            CipherSuite::TLS13_AES_256_GCM_SHA384 => Some(Self::Aes256GcmSha384),
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Some(Self::ChaCha20Poly1305Sha256),
            _ => None,
        }
    }

    /// Its name in the registry.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Aes128GcmSha256 => "TLS_AES_128_GCM_SHA256",
            Self::Aes256GcmSha384 => "TLS_AES_256_GCM_SHA384",
            Self::ChaCha20Poly1305Sha256 => "TLS_CHACHA20_POLY1305_SHA256",
        }
    }

    pub(super) fn aead(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes128GcmSha256 => &aead::AES_128_GCM,
            Self::Aes256GcmSha384 => &aead::AES_256_GCM,
            Self::ChaCha20Poly1305Sha256 => &aead::CHACHA20_POLY1305,
        }
    }

    fn hash(self) -> hkdf::Algorithm {
        match self {
            Self::Aes128GcmSha256 | Self::ChaCha20Poly1305Sha256 => hkdf::HKDF_SHA256,
            Self::Aes256GcmSha384 => hkdf::HKDF_SHA384,
        }
    }

    /// Bytes of a secret: those of the hash.
    pub(super) fn secret_bytes(self) -> usize {
        match self {
            Self::Aes128GcmSha256 | Self::ChaCha20Poly1305Sha256 => 32,
            Self::Aes256GcmSha384 => SECRET_BYTES_MOST,
        }
    }

    /// HKDF-Expand-Label with an empty context (RFC 8446 section 7.1).
    pub(super) fn expand(self, secret: &[u8], label: &[u8], bytes: &mut [u8]) {
        struct Length(usize);
        impl hkdf::KeyType for Length {
            fn len(&self) -> usize {
                self.0
            }
        }
        let length = (bytes.len() as u16).to_be_bytes();
        let label_bytes = [(PREFIX.len() + label.len()) as u8];
        let info = [&length[..], &label_bytes, PREFIX, label, &[0]];
        let secret = hkdf::Prk::new_less_safe(self.hash(), secret);
        let is_filled =
            secret.expand(&info, Length(bytes.len())).is_ok_and(|key| key.fill(bytes).is_ok());
        assert!(is_filled, "a hash gives more bytes than a key or a secret has");
    }
}

/// What protects records of one direction, as bytes: what follows from a secret takes 2 us to
/// derive, and 0.1 us to be made a cipher.
pub(super) struct Keys {
    key: Zeroizing<[u8; KEY_BYTES_MOST]>,
    iv: [u8; NONCE_LEN],
}

impl Keys {
    /// The keys that follow from a secret.
    pub(super) fn new(suite: Suite, secret: &[u8]) -> Self {
        let (mut key, mut iv) = (Zeroizing::new([0; KEY_BYTES_MOST]), [0; NONCE_LEN]);
        suite.expand(secret, b"key", &mut key[..suite.aead().key_len()]);
        suite.expand(secret, b"iv", &mut iv);
        Self { key, iv }
    }

    /// Whether key and IV are these.
    pub(super) fn are(&self, suite: Suite, key: &[u8], iv: &[u8]) -> bool {
        &self.key[..suite.aead().key_len()] == key && self.iv == iv
    }

    /// The cipher with this key.
    pub(super) fn cipher(&self, suite: Suite) -> LessSafeKey {
        let key = UnboundKey::new(suite.aead(), &self.key[..suite.aead().key_len()]);
        LessSafeKey::new(key.expect("a key of the suite's length"))
    }

    /// The nonce of a record (RFC 8446 section 5.3).
    pub(super) fn nonce(&self, sequence: u64) -> Nonce {
        let mut nonce = self.iv;
        for (byte, number) in nonce[NONCE_LEN - 8..].iter_mut().zip(sequence.to_be_bytes()) {
            *byte ^= number;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Bytes of a secret, at most: those of SHA-384.
pub(super) const SECRET_BYTES_MOST: usize = 48;
const KEY_BYTES_MOST: usize = 32;
const PREFIX: &[u8] = b"tls13 ";

#[cfg(test)]
mod tests {
    use super::*;

    /// The trace of RFC 8448 section 3: secrets of the application, with key and IV.
    #[test]
    fn keys_follow_from_secrets_as_in_the_trace() {
        for (secret, key, iv) in [
            (
                "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5",
                "17422dda596ed5d9acd890e3c63f5051",
                "5b78923dee08579033e523d9",
            ),
            (
                "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643",
                "9f02283b6c9c07efc26bb9f2ac92e356",
                "cf782b88dd83549aadf1e984",
            ),
        ] {
            let [secret, key, iv] = [secret, key, iv].map(bytes);
            let keys = Keys::new(Suite::Aes128GcmSha256, &secret);
            assert!(keys.are(Suite::Aes128GcmSha256, &key, &iv));
            assert!(!keys.are(Suite::Aes128GcmSha256, &key, &[0; 12]));
        }
    }

    /// The bytes of hexadecimal digits.
    pub(in crate::tls) fn bytes(digits: &str) -> Vec<u8> {
        let byte = |place: usize| u8::from_str_radix(&digits[place..place + 2], 16).expect("hex");
        (0..digits.len()).step_by(2).map(byte).collect()
    }
}
