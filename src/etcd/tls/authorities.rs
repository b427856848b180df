//! The authorities that may issue etcd's certificate, and the check of etcd's certificate.

use std::fmt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use tokio_rustls::rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    self, CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use super::algorithms;
use super::certificate::{Certificate, CertificateInfo};
use super::files::{certificates, unusable};
use crate::config::names::ETCD_TLS_CA_CERT;
use crate::error::{Error, ErrorKind, Result};
use crate::log;

/// The authorities of the configured file or of the system.
#[derive(Debug)]
pub(super) struct Authorities {
    /// The file; `None` for the system's authorities.
    file: Option<PathBuf>,
    certificates: Vec<CertificateDer<'static>>,
    /// The trust anchors, in the same order.
    roots: RootCertStore,
}

impl Authorities {
    /// # Errors
    ///
    /// `NotFound`, `Io` or `InvalidConfig`, with the name of the file and its property.
    pub(super) fn of_file(file: &Path) -> Result<Self> {
        let certificates = certificates(ETCD_TLS_CA_CERT, file)?;
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots
                .add(certificate.clone())
                .map_err(|error| unusable(ETCD_TLS_CA_CERT, file, error))?;
        }
        Ok(Authorities {
            file: Some(file.to_owned()),
            certificates,
            roots,
        })
    }

    /// # Errors
    ///
    /// `InvalidConfig` if the system trusts none.
    pub(super) fn of_system() -> Result<Self> {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            log::debug!("A certificate that the system trusts cannot be read: {error}");
        }
        let mut roots = RootCertStore::empty();
        let mut certificates = found.certs;
        certificates.retain(|certificate| roots.add(certificate.clone()).is_ok());
        if certificates.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!(
                    "This system trusts no certificate authority; set {ETCD_TLS_CA_CERT} to a file \
                     with etcd's authority"
                ),
            ));
        }
        Ok(Authorities {
            file: None,
            certificates,
            roots,
        })
    }

    /// Returns each authority of the configured file that can be displayed. The system has too
    /// many.
    pub(super) fn infos(&self) -> Vec<CertificateInfo> {
        let certificates = self.certificates.iter().filter(|_| self.file.is_some());
        certificates
            .filter_map(|it| Some(Certificate::read(it).ok()?.info()))
            .collect()
    }

    /// Returns where to add an authority, for messages.
    fn place(&self) -> String {
        match &self.file {
            Some(file) => format!("{}, the file of {ETCD_TLS_CA_CERT}", file.display()),
            None => format!("the authorities that this system trusts, or set {ETCD_TLS_CA_CERT}"),
        }
    }

    /// Checks two things that rustls does not: the authority is valid now, and each certificate on
    /// the path may sign. Returns the authority.
    fn check_path(
        &self,
        path: &VerifiedPath<'_>,
        now: UnixTime,
    ) -> std::result::Result<CertificateInfo, Refusal> {
        for intermediate in path.intermediate_certificates() {
            let intermediate = read(&intermediate.der())?;
            if let Some(problem) = intermediate.why_not_an_authority() {
                let subject = intermediate.subject();
                return Err(Refusal(format!(
                    "the certificate of {subject}, which signed for etcd, {problem}; replace it on \
                     etcd's machine by one that may sign"
                )));
            }
        }
        // Compared by address, because a renewed authority differs from the old one only in its
        // dates.
        let index = (self.roots.roots.iter())
            .position(|root| ptr::addr_eq(root, path.anchor()))
            .ok_or_else(|| Refusal("its authority is not trusted".to_owned()))?;
        let authority = read(&self.certificates[index])?;
        let problem = authority
            .why_not_now(now)
            .or_else(|| authority.why_not_an_authority().map(str::to_owned));
        match problem {
            None => Ok(authority.info()),
            Some(problem) => Err(Refusal(format!(
                "etcd's certificate comes from the authority {}, whose certificate {problem}; put \
                 the authority's new certificate into {}",
                authority.subject(),
                self.place()
            ))),
        }
    }

    /// Returns a weak or unsupported key among those that may have signed the presented
    /// certificates.
    fn unsupported_key(&self, shown: &[CertificateDer<'_>]) -> Option<Refusal> {
        let shown: Vec<Certificate> = shown
            .iter()
            .filter_map(|it| Certificate::read(it).ok())
            .collect();
        let authorities = (self.certificates.iter()).filter_map(|it| Certificate::read(it).ok());
        let signers = authorities.filter(|it| shown.iter().any(|by| by.issuer() == it.subject()));
        let signers: Vec<Certificate> = signers.collect();
        shown.iter().skip(1).chain(&signers).find_map(|signer| {
            let problem = algorithms::public_key_problem(signer.public_key())?;
            let subject = signer.subject();
            Some(Refusal(format!(
                "the key of {subject}, which signed etcd's certificate, is unusable: {problem}"
            )))
        })
    }
}

/// Decodes a certificate that a decision depends on.
fn read(certificate: &CertificateDer<'_>) -> std::result::Result<Certificate, Refusal> {
    Certificate::read(certificate).map_err(|error| {
        Refusal(format!(
            "a certificate that signed etcd's certificate is damaged ({error})"
        ))
    })
}

/// Why etcd's certificate is refused, and how to correct it.
#[derive(Debug, Clone)]
pub(super) struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for rustls::Error {
    fn from(refusal: Refusal) -> Self {
        CertificateError::Other(OtherError(Arc::new(refusal))).into()
    }
}

/// Verifies the certificate of one connection to etcd, like Go and OpenSSL.
#[derive(Debug)]
pub(super) struct Verifier {
    authorities: Arc<Authorities>,
    checks_name: bool,
    algorithms: WebPkiSupportedAlgorithms,
    /// The authority that issued the certificate.
    authority: OnceLock<CertificateInfo>,
}

impl Verifier {
    pub(super) fn new(
        authorities: Arc<Authorities>,
        checks_name: bool,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        Verifier {
            authorities,
            checks_name,
            algorithms,
            authority: OnceLock::new(),
        }
    }

    /// Returns the authority that issued the certificate, or `None` if the certificate itself is
    /// trusted.
    pub(super) fn authority(&self) -> Option<CertificateInfo> {
        self.authority.get().cloned()
    }

    /// Checks a certificate that is itself trusted, such as the certificate that `etcd --auto-tls`
    /// creates.
    fn check_itself(
        &self,
        shown: &CertificateDer<'_>,
        now: UnixTime,
    ) -> std::result::Result<(), Refusal> {
        let certificate = read(shown)?;
        let problem = certificate.why_not_now(now).or_else(|| {
            (!certificate.is_for_servers()).then(|| "is not for servers (serverAuth)".to_owned())
        });
        match problem {
            None => Ok(()),
            Some(problem) => Err(Refusal(format!(
                "etcd's certificate {problem}; give etcd a new one, and put it into {}",
                self.authorities.place()
            ))),
        }
    }

    /// Checks that an authority has signed the certificate.
    fn check_signed(
        &self,
        shown: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> std::result::Result<(), rustls::Error> {
        let refusal = Mutex::new(None);
        let check_path = |path: &VerifiedPath<'_>| match self.authorities.check_path(path, now) {
            Ok(authority) => {
                let _ = self.authority.set(authority);
                Ok(())
            }
            Err(problem) => {
                refusal.lock().get_or_insert(problem);
                // Another path may be valid.
                Err(webpki::Error::UnknownIssuer)
            }
        };
        let is_signed = EndEntityCert::try_from(shown).is_ok_and(|certificate| {
            certificate
                .verify_for_usage(
                    self.algorithms.all,
                    &self.authorities.roots.roots,
                    intermediates,
                    now,
                    KeyUsage::server_auth(),
                    None,
                    Some(&check_path),
                )
                .is_ok()
        });
        if is_signed {
            return Ok(());
        }
        if let Some(refusal) = refusal.into_inner() {
            return Err(refusal.into());
        }
        // Called for rustls' own error text.
        let error = verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(shown)?,
            &self.authorities.roots,
            intermediates,
            now,
            self.algorithms.all,
        );
        match error {
            Err(error) if is_about_signatures(&error) => {
                let all = [std::slice::from_ref(shown), intermediates].concat();
                Err(self
                    .authorities
                    .unsupported_key(&all)
                    .map_or(error, Into::into))
            }
            Err(error) => Err(error),
            Ok(()) => Err(CertificateError::UnknownIssuer.into()),
        }
    }
}

fn is_about_signatures(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::InvalidCertificate(
            CertificateError::BadSignature
                | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
                | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
        )
    )
}

/// rustls reports a wrong signature of the handshake like a wrong signature of an authority.
fn of_handshake<T>(
    verified: std::result::Result<T, rustls::Error>,
) -> std::result::Result<T, rustls::Error> {
    verified.map_err(|error| match error {
        rustls::Error::InvalidCertificate(CertificateError::BadSignature) => Refusal(
            "etcd signed with a key that does not belong to its certificate; check its \
             --cert-file and --key-file"
                .to_owned(),
        )
        .into(),
        error => error,
    })
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let key = Certificate::read(end_entity)
            .ok()
            .and_then(|certificate| algorithms::public_key_problem(certificate.public_key()));
        if let Some(problem) = key {
            return Err(Refusal(format!(
                "the key of etcd's certificate is unusable: {problem}; give etcd another \
                 certificate"
            ))
            .into());
        }
        if self.authorities.certificates.contains(end_entity) {
            self.check_itself(end_entity, now)?;
        } else {
            self.check_signed(end_entity, intermediates, now)?;
        }
        if self.checks_name {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        of_handshake(verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.algorithms,
        ))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        of_handshake(verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.algorithms,
        ))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose,
        IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
    };
    use tokio_rustls::rustls::crypto::aws_lc_rs;
    use tokio_rustls::rustls::pki_types::pem::PemObject;

    use super::*;

    type Issuer = CertifiedIssuer<'static, KeyPair>;

    fn key() -> KeyPair {
        KeyPair::generate().unwrap()
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(vec!["etcd".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2099, 12, 31);
        params
    }

    fn authority_params(name: &str) -> CertificateParams {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    fn authority(params: CertificateParams) -> Issuer {
        Issuer::self_signed(params, key()).unwrap()
    }

    fn of_etcd(issuer: &Issuer) -> CertificateDer<'static> {
        let certificate = params("etcd").signed_by(&key(), issuer).unwrap();
        certificate.der().clone()
    }

    /// Presents certificates to a verifier that trusts others. Returns the authority, or the text
    /// of the error.
    fn show(
        shown: &[CertificateDer<'static>],
        trusted: &[&str],
        host: &'static str,
    ) -> std::result::Result<Option<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        fs::write(&file, trusted.concat()).unwrap();
        let verifier = Verifier::new(
            Arc::new(Authorities::of_file(&file).unwrap()),
            true,
            aws_lc_rs::default_provider().signature_verification_algorithms,
        );
        let host = ServerName::try_from(host).unwrap();
        match verifier.verify_server_cert(&shown[0], &shown[1..], &host, &[], UnixTime::now()) {
            Ok(_) => Ok(verifier.authority().map(|authority| authority.subject)),
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(other))) => {
                Err(other.to_string())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    #[track_caller]
    fn refused(shown: &[CertificateDer<'static>], trusted: &[&str], parts: &[&str]) {
        let text = show(shown, trusted, "etcd").unwrap_err();
        for part in parts {
            assert!(text.contains(part), "not \"{part}\" in: {text}");
        }
    }

    #[test]
    fn a_certificate_from_an_authority_is_good_for_its_name() {
        let root = authority(authority_params("root"));
        let shown = [of_etcd(&root)];
        let trusted = [root.pem()];
        let trusted = [trusted[0].as_str()];
        assert_eq!(
            show(&shown, &trusted, "etcd"),
            Ok(Some("CN=root".to_owned()))
        );
        let text = show(&shown, &trusted, "other").unwrap_err();
        assert!(text.contains("not valid for name \"other\""), "{text}");
    }

    #[test]
    fn an_authority_that_has_expired_is_refused_unless_it_was_renewed() {
        let mut expired = authority_params("root");
        expired.not_after = date_time_ymd(2021, 12, 31);
        let old = authority(expired);
        let shown = [of_etcd(&old)];
        refused(
            &shown,
            &[&old.pem()],
            &[
                "CN=root",
                "expired at 2021-12-31",
                "ca.pem",
                ETCD_TLS_CA_CERT,
            ],
        );
        let renewed = authority_params("root").self_signed(old.key()).unwrap();
        for trusted in [[old.pem(), renewed.pem()], [renewed.pem(), old.pem()]] {
            let trusted = [trusted[0].as_str(), trusted[1].as_str()];
            assert!(show(&shown, &trusted, "etcd").is_ok());
        }
        let mut future = authority_params("root");
        future.not_before = date_time_ymd(2090, 1, 1);
        let future = authority(future);
        refused(
            &[of_etcd(&future)],
            &[&future.pem()],
            &["CN=root", "not valid before 2090-01-01", "clock"],
        );
    }

    #[test]
    fn what_may_not_sign_has_not_signed() {
        let root = authority(authority_params("root"));
        let intermediate = |usages| {
            let mut params = authority_params("intermediate");
            params.key_usages = usages;
            Issuer::signed_by(params, key(), &root).unwrap()
        };
        let good = intermediate(vec![KeyUsagePurpose::KeyCertSign]);
        let shown = [of_etcd(&good), good.der().clone()];
        assert!(show(&shown, &[&root.pem()], "etcd").is_ok());
        let bad = intermediate(vec![KeyUsagePurpose::DigitalSignature]);
        let shown = [of_etcd(&bad), bad.der().clone()];
        refused(
            &shown,
            &[&root.pem()],
            &["CN=intermediate", "key usage", "keyCertSign"],
        );
        // The certificate itself is trusted, but not other certificates signed with its key.
        let server = authority(params("server"));
        refused(
            &[of_etcd(&server)],
            &[&server.pem()],
            &["CN=server", "CA:TRUE"],
        );
    }

    #[test]
    fn a_certificate_that_is_itself_trusted_is_good_for_its_name_and_time() {
        for of in [params("etcd"), authority_params("etcd")] {
            let itself = authority(of);
            let shown = [itself.der().clone()];
            assert_eq!(show(&shown, &[&itself.pem()], "etcd"), Ok(None));
            let text = show(&shown, &[&itself.pem()], "other").unwrap_err();
            assert!(text.contains("not valid for name"), "{text}");
        }
        let mut expired = params("etcd");
        expired.not_after = date_time_ymd(2021, 12, 31);
        let expired = authority(expired);
        refused(
            &[expired.der().clone()],
            &[&expired.pem()],
            &["expired at 2021-12-31", "ca.pem"],
        );
        let mut for_clients = params("etcd");
        for_clients.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let for_clients = authority(for_clients);
        refused(
            &[for_clients.der().clone()],
            &[&for_clients.pem()],
            &["serverAuth"],
        );
    }

    #[test]
    fn a_weak_key_is_the_reason_and_not_the_authority() {
        let made = |name: &str| {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates");
            fs::read_to_string(folder.join(name)).unwrap()
        };
        let shown = CertificateDer::from_pem_slice(made("rsa-1024.pem").as_bytes()).unwrap();
        refused(
            &[shown],
            &[&made("authority.pem")],
            &["RSA keys of 1024 bits", "2048", "give etcd another"],
        );
    }
}
