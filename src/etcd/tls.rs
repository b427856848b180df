//! TLS to etcd: the files it is made of, and its errors in words that say what to correct.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use base64ct::{Base64, Encoding};
use parking_lot::Mutex;
use pkcs8::EncryptedPrivateKeyInfo;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use tokio_rustls::rustls::crypto::{
    WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{
    CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName, UnixTime,
};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{
    self, AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore,
    SignatureScheme,
};
use x509_cert::der::{Decode, Encode};
use zeroize::Zeroizing;

use crate::aside;
use crate::config::names::{
    ETCD_ENDPOINTS, ETCD_TLS_CA_CERT, ETCD_TLS_CLIENT_CERT, ETCD_TLS_CLIENT_KEY,
    ETCD_TLS_CLIENT_KEY_PASSWORD, ETCD_TLS_NO_ENDPOINT_IDENTIFICATION,
};
use crate::config::{ClientCertificate, Secret, TlsConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::log;

const NO_TLS: &str =
    "does not speak TLS, make etcd listen on https, or set alluxio.etcd.tls.enabled to false";

/// A certificate, as far as operators want to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    /// Whose it is, such as `CN=etcd-0,O=Example`.
    pub subject: String,
    /// The last second it is valid.
    pub expires: SystemTime,
}

/// What was agreed on with an endpoint when it was connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSession {
    /// Such as `TLS 1.3`.
    pub version: &'static str,
    /// etcd's certificate; `None` if it is in an unusual form, good for TLS but not to be shown.
    pub server: Option<CertificateInfo>,
    /// The certificate it is shown if it asks for one, if there is one that can be shown.
    pub client: Option<CertificateInfo>,
}

/// TLS as the configuration wants it. Made once per etcd; the files are read again for each connection, so that they
/// can be exchanged under way.
pub(crate) struct Tls {
    config: TlsConfig,
    /// Of the system; none if the configuration names others. There are many, and they rarely change.
    system_roots: Arc<RootCertStore>,
    files: Mutex<Files>,
}

struct Files {
    last_good: Loaded,
    /// Why they can no longer be used, since it was last logged.
    complaint: Option<String>,
}

#[derive(Clone)]
struct Loaded {
    rustls: Arc<ClientConfig>,
    client: Option<CertificateInfo>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// `NotFound`, `Io` or `InvalidConfig` for a file that cannot be used, with its name and its property.
    pub(crate) fn new(config: &TlsConfig) -> Result<Self> {
        let system_roots = Arc::new(match config.ca_file {
            Some(_) => RootCertStore::empty(),
            None => system_roots()?,
        });
        Ok(Tls {
            files: Mutex::new(Files {
                last_good: load(config, &system_roots)?,
                complaint: None,
            }),
            system_roots,
            config: config.clone(),
        })
    }

    /// The handshake. The caller limits the time.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        tcp: TcpStream,
        host: &str,
    ) -> io::Result<(TlsStream<TcpStream>, TlsSession)> {
        // As URLs have it, IPv6 addresses are in brackets.
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let tls = self.clone();
        let reading = aside::start("reading the files of TLS", move || tls.reload());
        let loaded = async { reading?.end().await };
        let loaded = loaded.await.map_err(io::Error::other)?;
        let connector = tokio_rustls::TlsConnector::from(loaded.rustls);
        let stream = connector.connect(name, tcp).await?;
        let (_, connection) = stream.get_ref();
        let server = connection
            .peer_certificates()
            .and_then(|chain| certificate_info(chain.first()?));
        let session = TlsSession {
            version: match connection.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
                _ => "TLS 1.3",
            },
            server,
            client: loaded.client,
        };
        Ok((stream, session))
    }

    /// What the files hold now. Files that cannot be used, perhaps because they are just being exchanged, do not harm
    /// the connections that the old ones still make.
    fn reload(&self) -> Loaded {
        let loaded = load(&self.config, &self.system_roots);
        let mut files = self.files.lock();
        let complaint = match loaded {
            Ok(loaded) => {
                files.last_good = loaded;
                None
            }
            Err(error) => Some(error.to_string()),
        };
        let before = std::mem::replace(&mut files.complaint, complaint.clone());
        let last_good = files.last_good.clone();
        // The logger may be code of the caller's.
        drop(files);
        if let Some(complaint) = complaint
            && before.as_ref() != Some(&complaint)
        {
            log::warn!("{complaint}; what was read before is used on");
        }
        last_good
    }

    /// Why the handshake failed.
    pub(crate) fn explain_handshake(&self, error: &io::Error) -> String {
        match tls_error(error) {
            Some(error) => self.explain(error),
            None if error
                .get_ref()
                .is_some_and(|inner| inner.is::<InvalidDnsNameError>()) =>
            {
                format!("no certificate can be for its host; name another in {ETCD_ENDPOINTS}")
            }
            // An etcd that listens on http closes the connection without an answer.
            None => {
                format!("it ended the connection in the TLS handshake ({error}); if it {NO_TLS}")
            }
        }
    }

    /// Why the connection ended before etcd said anything on it. In TLS 1.3 that is how it refuses a client.
    pub(crate) fn explain_early_end(&self, error: Option<&io::Error>) -> String {
        match error.and_then(tls_error) {
            Some(error) => self.explain(error),
            // Some servers, and proxies above all, refuse a client so.
            None => format!(
                "it closed the connection after the TLS handshake; {}",
                self.if_client_certificate_is_refused()
            ),
        }
    }

    fn explain(&self, error: &rustls::Error) -> String {
        match error {
            rustls::Error::InvalidCertificate(problem) => self.explain_certificate(problem),
            rustls::Error::InvalidMessage(_) => {
                format!("what it answers is not TLS ({error}); if it {NO_TLS}")
            }
            rustls::Error::AlertReceived(alert) => match alert {
                AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateRequired
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied
                | AlertDescription::DecryptError
                | AlertDescription::HandshakeFailure => format!(
                    "it refuses the TLS connection ({alert:?}); {}",
                    self.if_client_certificate_is_refused()
                ),
                _ => format!("it refuses the TLS connection ({alert:?})"),
            },
            _ => format!("TLS: {error}"),
        }
    }

    fn explain_certificate(&self, problem: &CertificateError) -> String {
        let reason = rustls::Error::InvalidCertificate(problem.clone());
        let advice = match problem {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                match &self.config.ca_file {
                    Some(file) => format!(
                        "it is not signed by an authority in {}, the file of {ETCD_TLS_CA_CERT}",
                        file.display()
                    ),
                    None => format!(
                        "it is not signed by an authority that this system trusts; set {ETCD_TLS_CA_CERT} to a file \
                         with etcd's authority"
                    ),
                }
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!(
                    "name a host of the certificate in {ETCD_ENDPOINTS}, or set {ETCD_TLS_NO_ENDPOINT_IDENTIFICATION} \
                     to true if any host with a certificate of this authority may be etcd"
                )
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "renew the certificate of etcd".into()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "check the clocks of etcd's machine and of this one".into()
            }
            _ => "the certificate of etcd cannot be used".into(),
        };
        format!("{reason}; {advice}")
    }

    fn if_client_certificate_is_refused(&self) -> String {
        match &self.config.client_certificate {
            None => format!(
                "if it wants a client certificate, set {ETCD_TLS_CLIENT_CERT} and {ETCD_TLS_CLIENT_KEY}"
            ),
            Some(client) => format!(
                "check whether etcd's trusted authorities have signed the client certificate {} \
                 ({ETCD_TLS_CLIENT_CERT}), and that it has not expired",
                client.certificate_file.display()
            ),
        }
    }
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn load(config: &TlsConfig, system_roots: &Arc<RootCertStore>) -> Result<Loaded> {
    let roots = match &config.ca_file {
        Some(file) => Arc::new(roots(file)?),
        None => system_roots.clone(),
    };
    let provider = Arc::new(ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(ErrorKind::Internal, format!("TLS: {error}")))?;
    let builder = if config.checks_name {
        builder.with_root_certificates(roots)
    } else {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(NameNotChecked { roots, algorithms }))
    };
    let (mut rustls, client) = match &config.client_certificate {
        None => (builder.with_no_client_auth(), None),
        Some(client) => {
            let identity = client_identity(client)?;
            let info = identity.end_entity_cert().ok().and_then(certificate_info);
            let resolver = SingleCertAndKey::from(identity);
            (builder.with_client_cert_resolver(Arc::new(resolver)), info)
        }
    };
    rustls.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would not look at certificates again.
    rustls.resumption = Resumption::disabled();
    Ok(Loaded {
        rustls: Arc::new(rustls),
        client,
    })
}

fn system_roots() -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        log::debug!("A certificate that the system trusts cannot be read: {error}");
    }
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(Error::new(
            ErrorKind::InvalidConfig,
            format!(
                "This system trusts no certificate authority; set {ETCD_TLS_CA_CERT} to a file with etcd's"
            ),
        ));
    }
    Ok(roots)
}

fn roots(file: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ETCD_TLS_CA_CERT, file)? {
        roots
            .add(certificate)
            .map_err(|error| unusable(ETCD_TLS_CA_CERT, file, error))?;
    }
    Ok(roots)
}

/// All certificates of a file, at least one.
fn certificates(property: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let pem = read(property, file)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| unusable(property, file, error))?;
    if certificates.is_empty() {
        return Err(unusable(property, file, "it has no BEGIN CERTIFICATE line"));
    }
    Ok(certificates)
}

fn client_identity(client: &ClientCertificate) -> Result<CertifiedKey> {
    let chain = certificates(ETCD_TLS_CLIENT_CERT, &client.certificate_file)?;
    let file = &client.key_file;
    let key = private_key(file, client.key_password.as_ref())?;
    let key = ring::sign::any_supported_type(&key).map_err(|error| {
        // Java leaves the public key out of EC keys; ring needs it.
        let advice = "openssl ec -in FILE -out FILE2 adds what an EC key may lack";
        unusable(ETCD_TLS_CLIENT_KEY, file, format!("{error}; {advice}"))
    })?;
    // Not `CertifiedKey::keys_match`, which asks more of a certificate than etcd does.
    let of_certificate = chain
        .first()
        .map(public_key)
        .transpose()
        .map_err(|error| unusable(ETCD_TLS_CLIENT_CERT, &client.certificate_file, error))?;
    if of_certificate.as_deref() != key.public_key().as_deref() {
        return Err(unusable(
            ETCD_TLS_CLIENT_KEY,
            file,
            format!(
                "it is not the key of the certificate in {} ({ETCD_TLS_CLIENT_CERT})",
                client.certificate_file.display()
            ),
        ));
    }
    Ok(CertifiedKey::new(chain, key))
}

/// rustls and the crate for certificates each read some that the other does not.
fn public_key(certificate: &CertificateDer<'_>) -> std::result::Result<Vec<u8>, rustls::Error> {
    let key = x509_cert::Certificate::from_der(certificate)
        .and_then(|certificate| certificate.tbs_certificate.subject_public_key_info.to_der());
    key.or_else(|_| {
        let certificate = ParsedCertificate::try_from(certificate)?;
        Ok(certificate.subject_public_key_info().to_vec())
    })
}

const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";
const PKCS8: &str = "PRIVATE KEY";
const PKCS1: &str = "RSA PRIVATE KEY";
const SEC1: &str = "EC PRIVATE KEY";

/// The first private key of the file, in one of these formats.
fn private_key(
    file: &Path,
    password: Option<&Secret>,
) -> Result<Zeroizing<PrivateKeyDer<'static>>> {
    let unusable = |reason: &dyn fmt::Display| unusable(ETCD_TLS_CLIENT_KEY, file, reason);
    let pem = read(ETCD_TLS_CLIENT_KEY, file)?;
    let text = std::str::from_utf8(&pem).map_err(|error| unusable(&error))?;
    if text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(unusable(
            &"it is encrypted in another way than PBES2; convert it by openssl pkcs8 -topk8",
        ));
    }
    let first = [ENCRYPTED, PKCS8, PKCS1, SEC1]
        .into_iter()
        .filter_map(|format| {
            let (before, after) = text.split_once(&format!("-----BEGIN {format}-----"))?;
            Some((before.len(), format, after))
        })
        .min();
    let Some((_, format, rest)) = first else {
        return Err(unusable(&"it has no BEGIN PRIVATE KEY line"));
    };
    let Some((base64, _)) = rest.split_once(&format!("-----END {format}-----")) else {
        return Err(unusable(&format!("it has no END {format} line")));
    };
    let mut der = decode(base64).map_err(|error| unusable(&error))?;
    if format == ENCRYPTED {
        let Some(password) = password else {
            return Err(unusable(&format!(
                "it is encrypted; set {ETCD_TLS_CLIENT_KEY_PASSWORD}"
            )));
        };
        let encrypted = EncryptedPrivateKeyInfo::try_from(der.as_slice()).map_err(|error| {
            unusable(&format!(
                "it is encrypted in another way than PBES2 ({error}); convert it by openssl pkcs8 -topk8"
            ))
        })?;
        let decrypted = encrypted.decrypt(password.expose()).map_err(|error| {
            unusable(&format!(
                "{ETCD_TLS_CLIENT_KEY_PASSWORD} does not decrypt it ({error})"
            ))
        })?;
        der = Zeroizing::new(decrypted.as_bytes().to_vec());
    }
    let der = std::mem::take(&mut *der);
    Ok(Zeroizing::new(match format {
        PKCS1 => PrivateKeyDer::Pkcs1(der.into()),
        SEC1 => PrivateKeyDer::Sec1(der.into()),
        _ => PrivateKeyDer::Pkcs8(der.into()),
    }))
}

/// Not by rustls' own means: they leave a copy of what they decode in memory.
fn decode(base64: &str) -> std::result::Result<Zeroizing<Vec<u8>>, base64ct::Error> {
    let mut compact = Zeroizing::new(String::with_capacity(base64.len()));
    compact.extend(base64.split_ascii_whitespace());
    Base64::decode_vec(&compact).map(Zeroizing::new)
}

fn read(property: &str, file: &Path) -> Result<Zeroizing<Vec<u8>>> {
    std::fs::read(file).map(Zeroizing::new).map_err(|error| {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Io,
        };
        Error::new(
            kind,
            format!(
                "Failed to read {}, the file of {property}: {error}",
                file.display()
            ),
        )
    })
}

fn unusable(property: &str, file: &Path, reason: impl fmt::Display) -> Error {
    Error::new(
        ErrorKind::InvalidConfig,
        format!(
            "{}, the file of {property}, cannot be used: {reason}",
            file.display()
        ),
    )
}

fn certificate_info(certificate: &CertificateDer<'_>) -> Option<CertificateInfo> {
    let certificate = x509_cert::Certificate::from_der(certificate)
        .ok()?
        .tbs_certificate;
    Some(CertificateInfo {
        subject: certificate.subject.to_string(),
        expires: certificate.validity.not_after.to_system_time(),
    })
}

/// Checks that an authority has signed etcd's certificate, and that it is valid now, but not for which host it is.
#[derive(Debug)]
struct NameNotChecked {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for NameNotChecked {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use pkcs8::{LineEnding, PrivateKeyInfo, SecretDocument};
    use rcgen::{CertificateParams, KeyPair};
    use tempfile::TempDir;

    use super::*;

    /// A certificate and its key in PEM format.
    fn certificate() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["host".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    struct Folder(TempDir);

    impl Folder {
        fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
            let file = self.0.path().join(name);
            fs::write(&file, content).unwrap();
            file
        }

        /// The error of this client certificate, key and password; `None` if there is none.
        fn error(&self, certificate: &str, key: &str, password: Option<&str>) -> Option<Error> {
            let client = ClientCertificate {
                certificate_file: self.write("certificate.pem", certificate),
                key_file: self.write("key.pem", key),
                key_password: password.map(|password| Secret::new(password.to_owned())),
            };
            client_identity(&client).err()
        }
    }

    fn folder() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn in_format(
        key: &str,
        label: &'static str,
        convert: impl Fn(&PrivateKeyInfo) -> Vec<u8>,
    ) -> String {
        let (_, document) = SecretDocument::from_pem(key).unwrap();
        let converted = convert(&PrivateKeyInfo::try_from(document.as_bytes()).unwrap());
        let converted = SecretDocument::try_from(converted).unwrap();
        converted.to_pem(label, LineEnding::LF).unwrap().to_string()
    }

    fn encrypted(key: &str, password: &str) -> String {
        in_format(key, "ENCRYPTED PRIVATE KEY", |key| {
            let parameters =
                pkcs8::pkcs5::pbes2::Parameters::pbkdf2_sha256_aes256cbc(10, b"salt", &[7; 16]);
            let encrypted = key.encrypt_with_params(parameters.unwrap(), password);
            encrypted.unwrap().as_bytes().to_vec()
        })
    }

    #[test]
    fn keys_are_read_in_every_format() {
        let (certificate, key) = certificate();
        let folder = folder();
        assert!(folder.error(&certificate, &key, None).is_none());
        let with_text = format!("A key\n{key}and\n{certificate}");
        assert!(folder.error(&certificate, &with_text, None).is_none());
        let other_lines = key.replace('\n', " \r\n\r\n");
        assert!(folder.error(&certificate, &other_lines, None).is_none());
        let sec1 = in_format(&key, "EC PRIVATE KEY", |key| key.private_key.to_vec());
        assert!(folder.error(&certificate, &sec1, None).is_none());
        let encrypted = encrypted(&key, "password");
        let error = folder.error(&certificate, &encrypted, Some("password"));
        assert!(error.is_none(), "{error:?}");
    }

    #[test]
    fn files_that_cannot_be_used_are_named_with_their_property() {
        let (one, key) = certificate();
        let (other, _) = certificate();
        let folder = folder();
        let encrypted = encrypted(&key, "password");
        let legacy = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n";
        for (certificate, key, password, property, reason) in [
            (
                "",
                key.as_str(),
                None,
                ETCD_TLS_CLIENT_CERT,
                "no BEGIN CERT",
            ),
            (&key, &key, None, ETCD_TLS_CLIENT_CERT, "no BEGIN CERT"),
            (&one, "", None, ETCD_TLS_CLIENT_KEY, "no BEGIN PRIVATE KEY"),
            (
                &one,
                &one,
                None,
                ETCD_TLS_CLIENT_KEY,
                "no BEGIN PRIVATE KEY",
            ),
            (
                &one,
                key.split_once("-----END").unwrap().0,
                None,
                ETCD_TLS_CLIENT_KEY,
                "no END PRIVATE KEY",
            ),
            (&one, legacy, None, ETCD_TLS_CLIENT_KEY, "openssl pkcs8"),
            (&other, &key, None, ETCD_TLS_CLIENT_KEY, "not the key of"),
            (
                &one,
                &encrypted,
                None,
                ETCD_TLS_CLIENT_KEY_PASSWORD,
                "is encrypted",
            ),
            (
                &one,
                &encrypted,
                Some("x-secret"),
                ETCD_TLS_CLIENT_KEY_PASSWORD,
                "not decrypt",
            ),
        ] {
            let error = folder.error(certificate, key, password).unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            let text = error.to_string();
            for part in [property, reason, ".pem"] {
                assert!(text.contains(part), "not \"{part}\" in: {text}");
            }
            assert!(!text.contains("x-secret"), "{text}");
        }
        let missing = roots(Path::new("/no/such/file")).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        let unreadable = roots(folder.0.path()).unwrap_err();
        assert_eq!(unreadable.kind(), ErrorKind::Io);
        for error in [missing, unreadable] {
            assert!(error.to_string().contains(ETCD_TLS_CA_CERT), "{error}");
        }
    }

    fn trusting(ca_file: &Path) -> Tls {
        let config = TlsConfig {
            ca_file: Some(ca_file.to_owned()),
            client_certificate: None,
            checks_name: true,
        };
        Tls::new(&config).unwrap()
    }

    #[test]
    fn a_host_that_no_certificate_is_for_is_the_error() {
        let folder = folder();
        let tls = trusting(&folder.write("ca.pem", certificate().0));
        let error = ServerName::try_from("a..b").unwrap_err();
        let text = tls.explain_handshake(&io::Error::other(error));
        assert!(text.contains(ETCD_ENDPOINTS), "{text}");
    }

    #[test]
    fn files_that_become_unusable_do_not_count() {
        let folder = folder();
        let (one, _) = certificate();
        let ca_file = folder.write("ca.pem", &one);
        let tls = trusting(&ca_file);
        let last_read = tls.reload();
        fs::write(&ca_file, "half of").unwrap();
        let kept = tls.reload();
        assert!(Arc::ptr_eq(&last_read.rustls, &kept.rustls));
        assert!(tls.files.lock().complaint.is_some());
        fs::write(&ca_file, &one).unwrap();
        assert!(!Arc::ptr_eq(&kept.rustls, &tls.reload().rustls));
        assert!(tls.files.lock().complaint.is_none());
    }
}
