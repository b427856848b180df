//! Reads parts of certificates that rustls does not check.

use std::time::{Duration, SystemTime};

use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use x509_cert::certificate::{CertificateInner, Raw, Version};
use x509_cert::der::oid::db::rfc5280::{ANY_EXTENDED_KEY_USAGE, ID_KP_SERVER_AUTH};
use x509_cert::der::{self, Decode};
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};
use x509_cert::name::Name;
use x509_cert::spki::SubjectPublicKeyInfoOwned;

/// The parts of a certificate that operators need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    /// The holder of the certificate, such as `CN=etcd-0,O=Example`.
    pub subject: String,
    /// The last second in which the certificate is valid.
    pub expires: SystemTime,
}

/// A decoded certificate. It may have a number longer than RFC 5280 allows, which some authorities
/// use.
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

    /// Returns why the certificate is not valid at this time.
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

    /// Whether a server may use this certificate. A certificate without a stated usage may be used
    /// by any.
    pub(super) fn is_for_servers(&self) -> bool {
        match self.0.tbs_certificate.get::<ExtendedKeyUsage>() {
            Ok(None) => true,
            Ok(Some((_, ExtendedKeyUsage(purposes)))) => purposes
                .iter()
                .any(|purpose| [ID_KP_SERVER_AUTH, ANY_EXTENDED_KEY_USAGE].contains(purpose)),
            Err(_) => false,
        }
    }

    /// Returns why this certificate cannot be an authority, by the rules of Go and OpenSSL.
    /// Certificates of version 1 do not state a usage.
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
            _ => Some("has a key usage that does not allow signing of certificates (keyCertSign)"),
        }
    }
}

/// Returns `None` for a certificate in an unusual form, which TLS accepts but this module cannot
/// decode.
pub(super) fn certificate_info(certificate: &CertificateDer<'_>) -> Option<CertificateInfo> {
    Certificate::read(certificate).ok().map(|it| it.info())
}
