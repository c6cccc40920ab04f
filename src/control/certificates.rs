//! Certificates and what belongs to them, read again when that is asked for or a file has changed.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::standing::Standing;
use crate::config::Tls;
use crate::settings::ReloadError;
use crate::shard::in_force::Effective;
use crate::tls::Certificates;
use crate::tls::certificates::Expiration;

/// What is to be in force with these settings: what is in force already, as long as neither the
/// settings nor a file has changed.
///
/// # Errors
/// What is wrong with a file.
pub(super) fn in_force_next(
    settings: &Tls,
    current: &Effective,
) -> Result<Option<Arc<Certificates>>, ReloadError> {
    let certificates = current.certificates.as_ref();
    match certificates.filter(|it| *settings == current.config.tls && !it.have_changed()) {
        Some(certificates) => Ok(Some(certificates.clone())),
        None => Certificates::load(settings, SystemTime::now())
            .map(|certificates| certificates.map(Arc::new))
            .map_err(|error| ReloadError::Unfit(error.to_string())),
    }
}

/// Whether `certificates` are others than those in force.
pub(super) fn are_renewed(certificates: &Option<Arc<Certificates>>, current: &Effective) -> bool {
    let address = |certificates: &Option<Arc<Certificates>>| certificates.as_ref().map(Arc::as_ptr);
    address(certificates) != address(&current.certificates)
}

/// What has been seen of the files, from look to look.
#[derive(Debug, Default)]
pub(super) struct Renewals {
    /// Whether a file had changed at the last look.
    is_changing: bool,
    /// What was told of those that end soon or are wrong.
    told: Vec<String>,
}

impl Renewals {
    /// Looks whether files have changed. They are read at the next look, as whoever renews a
    /// certificate writes several; what is wrong then changes nothing and is told once.
    pub(super) fn look(&mut self, standing: &Standing) {
        let current = standing.shared.in_force.current();
        let Some(certificates) = &current.certificates else { return };
        let has_changed = certificates.have_changed();
        let mut news = warnings(certificates, SystemTime::now());
        if has_changed && std::mem::replace(&mut self.is_changing, has_changed) {
            match standing.renew_certificates() {
                Ok(()) => tracing::info!("certificates renewed"),
                Err(error) => news.push(format!("certificates stay as they are: {error}")),
            }
        }
        self.is_changing &= has_changed;
        for text in news.iter().filter(|text| !self.told.contains(text)) {
            tracing::warn!("{text}");
        }
        self.told = news;
    }
}

/// What is to be told of certificates that end soon.
fn warnings(certificates: &Certificates, now: SystemTime) -> Vec<String> {
    let ends_soon = |it: &&Expiration| it.days_left(now) < WARNED_DAYS;
    let ending = certificates.expirations().iter().filter(ends_soon);
    ending
        .map(|it| {
            let (file, days) = (it.file.display(), it.days_left(now));
            format!("the certificate {file} is valid for {days} more days: renew it")
        })
        .collect()
}

/// How often files are looked at.
pub(super) const RENEWAL_PERIOD: Duration = Duration::from_secs(5);
/// Days before the end from which on that is told.
const WARNED_DAYS: i64 = 7;
