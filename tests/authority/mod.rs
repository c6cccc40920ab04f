//! Who issues certificates for a test.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// An authority, and the directory with what it has issued, which goes with it.
pub struct Authority {
    directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// An authority whose certificate is in `ca.pem`; `name` is that of the test.
    pub fn new(name: &str) -> Self {
        let name = format!("{name}-{}.pki", std::process::id());
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&directory).expect("a directory for certificates");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Authority of a test");
        let certificate = params.self_signed(&key).expect("signed by itself");
        fs::write(directory.join("ca.pem"), certificate.pem()).expect("a file");
        Self { directory, issuer: Issuer::new(params, key) }
    }

    /// A certificate for these names with its key, in `name.pem` and `name.key`.
    pub fn issue(&self, name: &str, names: &[&str]) {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(names).expect("names of hosts");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        fs::write(self.path(&format!("{name}.pem")), certificate.pem()).expect("a file");
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).expect("a file");
    }

    /// Where a file of this name is.
    pub fn path(&self, name: &str) -> String {
        self.directory.join(name).to_str().expect("UTF-8").to_owned()
    }

    /// Flags of a server that shows `name.pem`.
    pub fn flags(&self, name: &str) -> Vec<String> {
        let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
        ["--tls-cert", &self.path(&certificate), "--tls-key", &self.path(&key)]
            .map(str::to_owned)
            .into()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}
