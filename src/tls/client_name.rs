//! Who a client is, as the certificate says that it has shown and that was verified.

use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::config::CertificateUser;

/// The first name of this kind in a certificate, in DER, and when that ends, in seconds since 1970.
/// Names of hosts are in lower case, as their case means nothing.
pub fn client_name(certificate: &[u8], kind: CertificateUser) -> Option<(String, u64)> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let not_after_s = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    let alternative = |wanted: fn(&GeneralName<'_>) -> Option<String>| {
        let alternatives = certificate.subject_alternative_name().ok()??;
        alternatives.value.general_names.iter().find_map(wanted)
    };
    let name = match kind {
        CertificateUser::Off => None,
        CertificateUser::Cn => {
            let mut names = certificate.subject().iter_common_name();
            names.next()?.as_str().ok().map(str::to_owned)
        }
        CertificateUser::Dns => alternative(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        }),
        CertificateUser::Email => alternative(|name| match name {
            GeneralName::RFC822Name(name) => Some((*name).to_owned()),
            _ => None,
        }),
        CertificateUser::Uri => alternative(|name| match name {
            GeneralName::URI(name) => Some((*name).to_owned()),
            _ => None,
        }),
    };
    Some((name?, not_after_s))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    #[test]
    fn the_first_name_of_a_kind_is_the_one() {
        let mut params = CertificateParams::new(vec!["B.example.org".to_owned()]).expect("a name");
        params.subject_alt_names.extend([
            SanType::Rfc822Name("Ann@example.org".try_into().expect("ASCII")),
            SanType::URI("spiffe://example.org/ann".try_into().expect("ASCII")),
            SanType::DnsName("c.example.org".try_into().expect("ASCII")),
        ]);
        params.distinguished_name.push(DnType::CommonName, "Ann Lee");
        params.not_after = rcgen::date_time_ymd(2040, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed by itself");
        for (kind, expected) in [
            (CertificateUser::Off, None),
            (CertificateUser::Cn, Some("Ann Lee")),
            (CertificateUser::Dns, Some("b.example.org")),
            (CertificateUser::Email, Some("Ann@example.org")),
            (CertificateUser::Uri, Some("spiffe://example.org/ann")),
        ] {
            let expected = expected.map(|name| (name.to_owned(), 2_208_988_800));
            assert_eq!(client_name(certificate.der(), kind), expected, "{kind:?}");
        }
        assert_eq!(client_name(b"no certificate", CertificateUser::Cn), None);
        let bare = CertificateParams::default().self_signed(&key).expect("signed by itself");
        assert_eq!(client_name(bare.der(), CertificateUser::Dns), None);
    }
}
