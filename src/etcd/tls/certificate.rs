//! What is read in certificates beside what rustls checks.

use std::time::{Duration, SystemTime};

use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use x509_cert::certificate::{CertificateInner, Raw, Version};
use x509_cert::der::oid::db::rfc5280::{ANY_EXTENDED_KEY_USAGE, ID_KP_SERVER_AUTH};
use x509_cert::der::{self, Decode};
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};
use x509_cert::name::Name;
use x509_cert::spki::SubjectPublicKeyInfoOwned;

/// A certificate, as far as operators want to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    /// The name of the certificate's holder, such as `CN=etcd-0,O=Example`.
    pub subject: String,
    /// The last second in which the certificate is valid.
    pub expires: SystemTime,
}

/// A certificate that was read. Numbers longer than RFC 5280 allows, which some authorities give,
/// are accepted.
pub(super) struct Certificate(CertificateInner<Raw>);

impl Certificate {
    pub(super) fn read(certificate: &CertificateDer<'_>) -> der::Result<Self> {
        CertificateInner::from_der(certificate).map(Certificate)
    }

    pub(super) fn info(&self) -> CertificateInfo {
        CertificateInfo {
            subject: self.0.tbs_certificate.subject.to_string(),
            expires: self.0.tbs_certificate.validity.not_after.to_system_time(),
        }
    }

    /// Why the certificate does not count at this time.
    pub(super) fn why_not_now(&self, now: UnixTime) -> Option<String> {
        let validity = &self.0.tbs_certificate.validity;
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
        if now > validity.not_after.to_system_time() {
            Some(format!("expired at {}", validity.not_after))
        } else if now < validity.not_before.to_system_time() {
            let begins = validity.not_before;
            Some(format!(
                "is not valid before {begins}, by the clock of this machine"
            ))
        } else {
            None
        }
    }

    pub(super) fn public_key(&self) -> &SubjectPublicKeyInfoOwned {
        &self.0.tbs_certificate.subject_public_key_info
    }

    pub(super) fn subject(&self) -> &Name {
        &self.0.tbs_certificate.subject
    }

    pub(super) fn issuer(&self) -> &Name {
        &self.0.tbs_certificate.issuer
    }

    /// Whether a server may show this certificate; one that does not say what it is for may be
    /// shown by any.
    pub(super) fn is_for_servers(&self) -> bool {
        match self.0.tbs_certificate.get::<ExtendedKeyUsage>() {
            Ok(None) => true,
            Ok(Some((_, ExtendedKeyUsage(purposes)))) => purposes
                .iter()
                .any(|purpose| [ID_KP_SERVER_AUTH, ANY_EXTENDED_KEY_USAGE].contains(purpose)),
            Err(_) => false,
        }
    }

    /// Why this certificate cannot be the one of an authority, by the rules of Go and OpenSSL.
    /// Certificates of version 1 do not say what they are for.
    pub(super) fn why_not_an_authority(&self) -> Option<&'static str> {
        let certificate = &self.0.tbs_certificate;
        if certificate.version != Version::V3 {
            return None;
        }
        let is_authority = matches!(
            certificate.get::<BasicConstraints>(),
            Ok(Some((_, BasicConstraints { ca: true, .. })))
        );
        if !is_authority {
            return Some("is not marked as an authority (CA:TRUE)");
        }
        match certificate.get::<KeyUsage>() {
            Ok(None) => None,
            Ok(Some((_, usage))) if usage.key_cert_sign() => None,
            _ => Some("has a key usage that does not allow to sign certificates (keyCertSign)"),
        }
    }
}

/// `None` for a certificate in an unusual form, good for TLS but not to be shown.
pub(super) fn certificate_info(certificate: &CertificateDer<'_>) -> Option<CertificateInfo> {
    Certificate::read(certificate).ok().map(|it| it.info())
}
