//! Tokens and the keys that verify them: the only place that names the library for both.
//!
//! A key has one algorithm, which was known before any token came: what the header of a token says
//! only chooses among the keys. Keys and their addresses in a header mean nothing (RFC 8725 section
//! 3.10).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, Validation, decode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::claims::Claims;
use super::grants::Grants;
use super::keys::{KeyFault, Keys, secret_bytes_least};
use crate::config::{TokenAlgorithm, TokenName};

/// Who somebody is, for as long as the token holds that has said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name of the user (`sub`), if the token has one; [`NAME_BYTES_MOST`] at the most.
    pub user: Option<Box<str>>,
    /// The name of the token (`jti`), if it has one; as long at the most.
    pub token_id: Option<Box<str>>,
    /// When the token is not valid any more, in seconds since 1970; [`NEVER_S`] where nobody has
    /// said.
    pub expires_s: u64,
}

/// A time that does not come.
pub const NEVER_S: u64 = u64::MAX;

/// What a valid token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Who has shown it.
    pub identity: Identity,
    /// What that one may do.
    pub grants: Grants,
}

/// Why a token is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenFault {
    /// It is no token, or one of another type, or has a header that must be understood and is not.
    Malformed,
    /// No key has its algorithm and the name of its key.
    UnknownKey,
    /// The key has not signed it.
    Signature,
    /// It was valid before.
    Expired,
    /// It will be valid later.
    NotYetValid,
    /// Another issuer, or none.
    Issuer,
    /// It is for somebody else, or does not say for whom and has to.
    Audience,
    /// A claim is missing, or is not what it should be.
    Claims,
    /// It does not hold any more, or no token of its user does.
    Revoked,
}

impl Identity {
    /// Who a certificate says that somebody is, until it ends; nobody where the name is none that a
    /// user can have.
    pub fn certified(user: &str, expires_s: u64) -> Option<Self> {
        let is_known = is_name(user) && !user.contains(char::is_control);
        is_known.then(|| Self { user: Some(user.into()), token_id: None, expires_s })
    }
}

impl TokenFault {
    /// Its name for the log, in words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownKey => "unknown key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not yet valid",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Claims => "claims",
            Self::Revoked => "revoked",
        }
    }
}

/// What has become of a token, which says `C` or is not valid for `F`.
#[derive(Clone, Debug)]
pub struct Verdict<C = Credentials, F = TokenFault> {
    /// What it says, if it is valid.
    pub result: Result<C, F>,
    /// What it has cost to find that out, in units of a quarter of a nanosecond.
    pub cost: usize,
}

/// One key, with all that its tokens must be.
#[derive(Debug)]
pub(super) struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
    validation: Validation,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        let is_same_key = match (self.key.kind(), other.key.kind()) {
            (DecodingKeyKind::SecretOrDer(a), DecodingKeyKind::SecretOrDer(b)) => a == b,
            (
                DecodingKeyKind::RsaModulusExponent { n, e },
                DecodingKeyKind::RsaModulusExponent { n: other_n, e: other_e },
            ) => n == other_n && e == other_e,
            _ => false,
        };
        is_same_key
            && (&self.id, self.algorithm) == (&other.id, other.algorithm)
            && self.validation == other.validation
    }
}

impl Keys {
    /// Verifies a token at a time, which is told in seconds since 1970.
    pub fn verify(&self, token: &str, now_s: u64) -> Verdict {
        let Verdict { result, cost } = self.claims::<Claims>(token);
        Verdict { result: result.and_then(|claims| credentials(claims, now_s)), cost }
    }

    /// What a token claims that a key has signed, for the right issuer and audience where those are
    /// demanded. Whoever asks looks at its times.
    pub(super) fn claims<C: DeserializeOwned>(&self, token: &str) -> Verdict<C> {
        let mut cost = READING_COST;
        let result = self.read(token, &mut cost);
        Verdict { result, cost }
    }

    fn read<C: DeserializeOwned>(&self, token: &str, cost: &mut usize) -> Result<C, TokenFault> {
        let header = TokenHeader::read(token).ok_or(TokenFault::Malformed)?;
        if !is_known_type(header.typ.as_deref()) {
            return Err(TokenFault::Malformed);
        }
        for key in self.candidates(&header)? {
            *cost += verification_cost(key.algorithm);
            match decode::<C>(token, &key.key, &key.validation) {
                Ok(data) => return Ok(data.claims),
                Err(error) if *error.kind() == ErrorKind::InvalidSignature => {}
                Err(error) => return Err(fault(&error)),
            }
        }
        Err(TokenFault::Signature)
    }

    /// The keys that may have signed a token with this header: those of its name or, where none has
    /// that, those without one; and all where the token names none.
    fn candidates(&self, header: &TokenHeader) -> Result<Vec<&Key>, TokenFault> {
        let of_algorithm = || self.keys.iter().filter(|key| key.algorithm == header.alg);
        let mut candidates: Vec<_> = match &header.kid {
            None => of_algorithm().collect(),
            Some(id) => of_algorithm().filter(|key| key.id.as_ref() == Some(id)).collect(),
        };
        if candidates.is_empty() {
            candidates.extend(of_algorithm().filter(|key| key.id.is_none()));
        }
        // Whoever could name its key must, lest everybody could have many tried.
        match (1..=TRIED_MOST).contains(&candidates.len()) {
            true => Ok(candidates),
            false => Err(TokenFault::UnknownKey),
        }
    }
}

/// What chooses a key; the library reads and checks the whole header again, with that key.
#[derive(Deserialize)]
struct TokenHeader {
    alg: Algorithm,
    kid: Option<String>,
    typ: Option<String>,
}

impl TokenHeader {
    fn read(token: &str) -> Option<Self> {
        let (encoded, _) = token.split_once('.')?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()
    }
}

/// Whether a user or a token can have this name, as far as its length goes.
pub(super) fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MOST).contains(&name.len())
}

pub(super) fn credentials(claims: Claims, now_s: u64) -> Result<Credentials, TokenFault> {
    let grants = claims.grants().ok_or(TokenFault::Claims)?;
    let expires_s = lasts_until(Some(claims.exp), claims.nbf, now_s)?;
    let Claims { sub: user, jti: token_id, .. } = claims;
    if ![&user, &token_id].into_iter().flatten().all(|name| is_name(name)) {
        return Err(TokenFault::Claims);
    }
    Ok(Credentials { identity: Identity { user, token_id, expires_s }, grants })
}

/// Until when a token holds with these times, both in seconds since 1970; [`NEVER_S`] where it does
/// not say. Clocks may differ by 5 s.
///
/// # Errors
/// It held before, or will hold later.
pub fn lasts_until(
    expires_s: Option<u64>,
    not_before_s: Option<u64>,
    now_s: u64,
) -> Result<u64, TokenFault> {
    let expires_s = expires_s.map_or(NEVER_S, |expires_s| expires_s.saturating_add(LEEWAY_S));
    if now_s >= expires_s {
        return Err(TokenFault::Expired);
    }
    match not_before_s.is_some_and(|not_before_s| not_before_s > now_s.saturating_add(LEEWAY_S)) {
        true => Err(TokenFault::NotYetValid),
        false => Ok(expires_s),
    }
}

/// Tokens of other types, such as those that log somebody out, must not pass for one that says who
/// somebody is (RFC 8725 section 3.11, RFC 9068 section 2.1).
fn is_known_type(name: Option<&str>) -> bool {
    let Some(name) = name else { return true };
    let name = name
        .get(..APPLICATION.len())
        .filter(|it| it.eq_ignore_ascii_case(APPLICATION))
        .map_or(name, |prefix| &name[prefix.len()..]);
    ["JWT", "at+jwt"].iter().any(|known| known.eq_ignore_ascii_case(name))
}

fn fault(error: &Error) -> TokenFault {
    match error.kind() {
        ErrorKind::InvalidIssuer => TokenFault::Issuer,
        ErrorKind::InvalidAudience => TokenFault::Audience,
        ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => {
            match claim.as_str() {
                "iss" => TokenFault::Issuer,
                "aud" => TokenFault::Audience,
                _ => TokenFault::Claims,
            }
        }
        ErrorKind::Json(_) => TokenFault::Claims,
        _ => TokenFault::Malformed,
    }
}

impl Key {
    /// A secret that signs and verifies.
    pub(super) fn secret(secret: &[u8], algorithm: TokenAlgorithm) -> Result<Self, KeyFault> {
        let key = DecodingKey::from_secret(secret).map_err(|_| KeyFault::Unreadable)?;
        Self::new(None, key, Some(algorithm))
    }

    /// A public key in PEM.
    pub(super) fn pem(text: &[u8], algorithm: Option<TokenAlgorithm>) -> Result<Self, KeyFault> {
        let text = str::from_utf8(text).map_err(|_| KeyFault::Unreadable)?;
        if text.contains("PRIVATE KEY-----") {
            return Err(KeyFault::Private);
        }
        // The library would take the first of several, and something else for a certificate's key.
        let mut begins =
            text.match_indices("-----BEGIN ").map(|(at, begin)| &text[at + begin.len()..]);
        let is_public_key = |rest: &str| {
            rest.starts_with("PUBLIC KEY-----") || rest.starts_with("RSA PUBLIC KEY-----")
        };
        let is_one_key = begins.next().is_some_and(is_public_key) && begins.next().is_none();
        let readers =
            [DecodingKey::from_rsa_pem, DecodingKey::from_ec_pem, DecodingKey::from_ed_pem];
        let key = readers.into_iter().find_map(|read| read(text.as_bytes()).ok());
        let key = key.filter(|_| is_one_key).ok_or(KeyFault::Unreadable)?;
        Self::new(None, key, algorithm)
    }

    /// A key of a JWK set; nothing where it is not for signatures, or of a kind that is not known.
    pub(super) fn jwk(value: serde_json::Value) -> Result<Option<Self>, KeyFault> {
        if value.get("d").is_some() {
            return Err(KeyFault::Private);
        }
        let Ok(jwk) = serde_json::from_value::<Jwk>(value) else { return Ok(None) };
        let common = &jwk.common;
        let is_for_signatures = common
            .public_key_use
            .as_ref()
            .is_none_or(|it| *it == PublicKeyUse::Signature)
            && common.key_operations.as_ref().is_none_or(|it| it.contains(&KeyOperations::Verify));
        let is_known = match &jwk.algorithm {
            AlgorithmParameters::EllipticCurve(it) => {
                matches!(it.curve, EllipticCurve::P256 | EllipticCurve::P384)
            }
            AlgorithmParameters::OctetKeyPair(it) => it.curve == EllipticCurve::Ed25519,
            AlgorithmParameters::OctetKey(_) => common.key_algorithm.is_some(),
            AlgorithmParameters::RSA(_) => true,
            _ => false,
        };
        let algorithm = match common.key_algorithm {
            None => None,
            Some(named) => match Algorithm::try_from(named) {
                Ok(algorithm) => Some(ours(algorithm)),
                Err(_) => return Ok(None),
            },
        };
        if !is_for_signatures || !is_known {
            return Ok(None);
        }
        let key = DecodingKey::from_jwk(&jwk).map_err(|_| KeyFault::Unreadable)?;
        Self::new(jwk.common.key_id, key, algorithm).map(Some)
    }

    /// A key that is as long as it has to be, with its algorithm: the one that is named, if the key
    /// is made for it, or the most usual one.
    fn new(
        id: Option<String>,
        key: DecodingKey,
        named: Option<TokenAlgorithm>,
    ) -> Result<Self, KeyFault> {
        let bytes = match key.kind() {
            DecodingKeyKind::SecretOrDer(bytes) => bytes.len(),
            DecodingKeyKind::RsaModulusExponent { n, .. } => n.len(),
        };
        let usual = match (key.family(), bytes) {
            (AlgorithmFamily::Rsa, ..RSA_BYTES_LEAST) => return Err(KeyFault::ShortRsa),
            (AlgorithmFamily::Rsa, _) => TokenAlgorithm::Rs256,
            (AlgorithmFamily::Ec, P256_POINT_BYTES) => TokenAlgorithm::Es256,
            (AlgorithmFamily::Ec, P384_POINT_BYTES) => TokenAlgorithm::Es384,
            (AlgorithmFamily::Ed, ED25519_BYTES) => TokenAlgorithm::Eddsa,
            (AlgorithmFamily::Hmac, _) => TokenAlgorithm::Hs256,
            (AlgorithmFamily::Ec | AlgorithmFamily::Ed, _) => return Err(KeyFault::Unreadable),
        };
        let algorithm = named.unwrap_or(usual);
        if let Some(least) = secret_bytes_least(algorithm)
            && bytes < least
            && key.family() == AlgorithmFamily::Hmac
        {
            return Err(KeyFault::ShortSecret { bytes, least });
        }
        let is_suitable = match key.family() {
            AlgorithmFamily::Ec | AlgorithmFamily::Ed => algorithm == usual,
            family => theirs(algorithm).family() == family,
        };
        if !is_suitable {
            return Err(KeyFault::Unsuitable(algorithm));
        }
        let algorithm = theirs(algorithm);
        Ok(Self { id, algorithm, key, validation: Validation::new(algorithm) })
    }

    /// The same key, whose tokens have to name this issuer and one of these audiences. Times are
    /// compared elsewhere, with the clock of whoever asks, and what has to have one says so itself,
    /// as [`Claims`] do.
    pub(super) fn demanding(self, issuer: Option<&TokenName>, audiences: &[TokenName]) -> Self {
        let mut validation = self.validation;
        (validation.validate_exp, validation.validate_nbf) = (false, false);
        let mut required = Vec::new();
        if let Some(issuer) = issuer {
            validation.set_issuer(&[issuer.text()]);
            required.push("iss");
        }
        if !audiences.is_empty() {
            let audiences: Vec<_> = audiences.iter().map(TokenName::text).collect();
            validation.set_audience(&audiences);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        Self { validation, ..self }
    }
}

/// Both lists in one order.
const ALGORITHMS: [(TokenAlgorithm, Algorithm); 12] = [
    (TokenAlgorithm::Hs256, Algorithm::HS256),
    (TokenAlgorithm::Hs384, Algorithm::HS384),
    (TokenAlgorithm::Hs512, Algorithm::HS512),
    (TokenAlgorithm::Rs256, Algorithm::RS256),
    (TokenAlgorithm::Rs384, Algorithm::RS384),
    (TokenAlgorithm::Rs512, Algorithm::RS512),
    (TokenAlgorithm::Ps256, Algorithm::PS256),
    (TokenAlgorithm::Ps384, Algorithm::PS384),
    (TokenAlgorithm::Ps512, Algorithm::PS512),
    (TokenAlgorithm::Es256, Algorithm::ES256),
    (TokenAlgorithm::Es384, Algorithm::ES384),
    (TokenAlgorithm::Eddsa, Algorithm::EdDSA),
];

fn theirs(algorithm: TokenAlgorithm) -> Algorithm {
    ALGORITHMS[algorithm as usize].1
}

fn ours(algorithm: Algorithm) -> TokenAlgorithm {
    let found = ALGORITHMS.into_iter().find(|&(_, theirs)| theirs == algorithm);
    found.map_or(TokenAlgorithm::Hs256, |(ours, _)| ours)
}

/// What it costs to verify a signature, in units of a quarter of a nanosecond, rounded up from what
/// slow machines take.
fn verification_cost(algorithm: Algorithm) -> usize {
    match algorithm.family() {
        AlgorithmFamily::Hmac => 4 << 10,
        AlgorithmFamily::Rsa => 128 << 10,
        AlgorithmFamily::Ec | AlgorithmFamily::Ed => 384 << 10,
    }
}

/// What it costs to read a token, in the same units.
const READING_COST: usize = 8 << 10;
/// For so long clocks may differ: a token holds this much longer, and begins as much earlier.
const LEEWAY_S: u64 = 5;
/// Bytes of the name of a user or of a token.
pub const NAME_BYTES_MOST: usize = 255;
/// Keys that are tried for one token.
const TRIED_MOST: usize = 4;
const APPLICATION: &str = "application/";
/// Of a modulus of 2048 bits; encoded with its exponent a key has a few more.
const RSA_BYTES_LEAST: usize = 256;
/// An uncompressed point: a byte that says so, and two coordinates (SEC 1 section 2.3.3).
const P256_POINT_BYTES: usize = 65;
const P384_POINT_BYTES: usize = 97;
const ED25519_BYTES: usize = 32;

#[cfg(test)]
mod tests;
