//! TLS to etcd: its files, and errors that say what to correct.

mod algorithms;
mod authorities;
mod certificate;
mod files;
mod identity;

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, AlertDescription, CertificateError, ClientConfig};

use self::authorities::{Authorities, Refusal, Verifier};
use self::certificate::certificate_info;
use self::identity::{Client, Identity};
use crate::aside;
use crate::config::TlsConfig;
use crate::config::names::{
    ETCD_ENDPOINTS, ETCD_TLS_CA_CERT, ETCD_TLS_CLIENT_CERT, ETCD_TLS_CLIENT_KEY,
    ETCD_TLS_NO_ENDPOINT_IDENTIFICATION,
};
use crate::error::Result;
use crate::log;

pub use self::certificate::CertificateInfo;

const NO_TLS: &str =
    "does not speak TLS, make etcd listen on https, or set alluxio.etcd.tls.enabled to false";
/// How long a new connection waits for the files. After that, it uses the content of the last read.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// The TLS session of a connection to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSession {
    /// The version, such as `TLS 1.3`.
    pub version: &'static str,
    /// etcd's certificate; `None` for a certificate in an unusual form, which TLS accepts.
    pub server: Option<CertificateInfo>,
    /// The authority that issued etcd's certificate; `None` if the certificate itself is trusted.
    pub authority: Option<CertificateInfo>,
    /// The client certificate that etcd receives if it asks for one, if it can be displayed.
    pub client: Option<CertificateInfo>,
    /// Whether etcd asked for a certificate.
    pub asks_for_certificate: bool,
}

/// A handshake that failed.
#[derive(Debug)]
pub(crate) struct HandshakeError {
    pub(crate) error: io::Error,
    /// The reason, for an operator.
    pub(crate) explanation: String,
}

/// The TLS configuration of one etcd. The files are read again for each connection, so that they
/// can be replaced at any time.
pub(crate) struct Tls {
    config: TlsConfig,
    /// The system's authorities; `None` if the configuration names others. They are read once,
    /// because they are many and rarely change.
    system: Option<Arc<Authorities>>,
    /// Only one thread at a time reads the files, because a dead mount may block it.
    reading: Arc<Semaphore>,
    files: Mutex<Files>,
}

struct Files {
    last_good: Loaded,
    /// The last logged reason why the files are unusable.
    complaint: Option<String>,
}

#[derive(Clone)]
struct Loaded {
    authorities: Arc<Authorities>,
    identity: Option<Identity>,
}

impl Loaded {
    fn read(config: &TlsConfig, system: Option<&Arc<Authorities>>) -> Result<Self> {
        let authorities = match (&config.ca_file, system) {
            (Some(file), _) => Arc::new(Authorities::of_file(file)?),
            (None, Some(system)) => system.clone(),
            (None, None) => Arc::new(Authorities::of_system()?),
        };
        let identity = config.client_certificate.as_ref().map(Identity::read);
        Ok(Loaded {
            authorities,
            identity: identity.transpose()?,
        })
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// `NotFound`, `Io` or `InvalidConfig` for an unusable file, with its name and its property.
    pub(crate) fn new(config: &TlsConfig) -> Result<Self> {
        let loaded = Loaded::read(config, None)?;
        let system = config.ca_file.is_none().then(|| loaded.authorities.clone());
        Ok(Tls {
            config: config.clone(),
            system,
            reading: Arc::new(Semaphore::new(1)),
            files: Mutex::new(Files {
                last_good: loaded,
                complaint: None,
            }),
        })
    }

    /// Returns the authorities of the configured file, as last read. Empty if the system's
    /// authorities are trusted.
    pub(crate) fn authorities(&self) -> Vec<CertificateInfo> {
        self.files.lock().last_good.authorities.infos()
    }

    /// Performs the handshake. The caller limits the time.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        tcp: TcpStream,
        host: &str,
    ) -> std::result::Result<(TlsStream<TcpStream>, TlsSession), HandshakeError> {
        // In URLs, IPv6 addresses are in brackets.
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(name.to_owned()).map_err(|error| HandshakeError {
            error: io::Error::other(error),
            explanation: format!(
                "no certificate can be valid for its host; name another host in {ETCD_ENDPOINTS}"
            ),
        })?;
        let loaded = self.current().await;
        let info = loaded.identity.as_ref().and_then(|it| it.info.clone());
        let client = Arc::new(Client::new(loaded.identity));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Arc::new(Verifier::new(
            loaded.authorities,
            self.config.checks_name,
            provider.signature_verification_algorithms,
        ));
        let connected = async {
            let mut config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(io::Error::other)?
                .dangerous()
                .with_custom_certificate_verifier(verifier.clone())
                .with_client_cert_resolver(client.clone());
            config.alpn_protocols = vec![b"h2".to_vec()];
            // A resumed session would skip the check of the certificates.
            config.resumption = Resumption::disabled();
            let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
            connector.connect(name, tcp).await
        };
        // Boxed, because a handshake is large, and every future that awaits a connection would be
        // as large.
        let stream = Box::pin(connected).await.map_err(|error| HandshakeError {
            explanation: match tls_error(&error) {
                Some(error) => self.explain(error, client.was_asked(), info.as_ref()),
                // An etcd that listens on http closes the connection without an answer.
                None => format!(
                    "it ended the connection in the TLS handshake ({error}); if it {NO_TLS}"
                ),
            },
            error,
        })?;
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
            authority: verifier.authority(),
            client: info,
            asks_for_certificate: client.was_asked(),
        };
        Ok((stream, session))
    }

    /// Returns the present content of the files, or the last usable content.
    async fn current(self: &Arc<Self>) -> Loaded {
        let tls = self.clone();
        let reading = async move {
            let permit = tls.reading.clone().acquire_owned().await;
            let reading = aside::start("reading the files of TLS", move || {
                let _permit = permit;
                tls.reload()
            });
            reading?.end().await
        };
        match tokio::time::timeout(READ_TIMEOUT, reading).await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(error)) => self.keep(format!("Failed to read the files for TLS: {error}")),
            Err(_) => {
                let files = self.config.files();
                let files = files.iter().map(|file| file.display().to_string());
                self.keep(format!(
                    "Reading {} takes longer than {} s",
                    files.collect::<Vec<_>>().join(", "),
                    READ_TIMEOUT.as_secs()
                ))
            }
        }
    }

    /// Reads the files. If they are unusable, perhaps because they are being replaced, the old
    /// content stays in use.
    fn reload(&self) -> Loaded {
        match Loaded::read(&self.config, self.system.as_ref()) {
            Ok(loaded) => {
                let mut files = self.files.lock();
                files.complaint = None;
                files.last_good = loaded.clone();
                loaded
            }
            Err(error) => self.keep(error.to_string()),
        }
    }

    /// Logs once why the files are unusable, and returns the last usable content.
    fn keep(&self, complaint: String) -> Loaded {
        let mut files = self.files.lock();
        let before = files.complaint.replace(complaint.clone());
        let last_good = files.last_good.clone();
        // The logger may be the caller's code.
        drop(files);
        if before.as_ref() != Some(&complaint) {
            log::warn!("{complaint}; new connections use the previous content");
        }
        last_good
    }

    /// Explains why the connection ended before etcd sent anything. TLS 1.3 servers refuse a client
    /// like that.
    pub(crate) fn explain_early_end(
        &self,
        error: Option<&io::Error>,
        session: Option<&TlsSession>,
    ) -> String {
        let was_asked = session.is_some_and(|session| session.asks_for_certificate);
        let shown = session.and_then(|session| session.client.as_ref());
        match error.and_then(tls_error) {
            Some(error) => self.explain(error, was_asked, shown),
            // Some servers, and many proxies, refuse a client like this.
            None => format!(
                "it closed the connection after the TLS handshake; {}",
                self.advice(was_asked, shown)
            ),
        }
    }

    fn explain(
        &self,
        error: &rustls::Error,
        was_asked: bool,
        shown: Option<&CertificateInfo>,
    ) -> String {
        match error {
            rustls::Error::InvalidCertificate(problem) => self.explain_certificate(problem),
            rustls::Error::InvalidMessage(_) => {
                format!("its answer is not TLS ({error}); if it {NO_TLS}")
            }
            rustls::Error::AlertReceived(alert) => match alert {
                AlertDescription::HandshakeFailure if !was_asked => format!(
                    "it refuses the TLS connection ({alert:?}): it has no cipher or no kind of \
                     key in common with this library, which takes RSA keys of 2048 to 8192 bits, \
                     EC keys on P-256, P-384 and P-521, and Ed25519"
                ),
                _ => format!(
                    "it refuses the TLS connection ({alert:?}); {}",
                    self.advice(was_asked, shown)
                ),
            },
            _ => format!("TLS: {error}"),
        }
    }

    fn explain_certificate(&self, problem: &CertificateError) -> String {
        if let CertificateError::Other(other) = problem {
            if let Some(refusal) = other.0.downcast_ref::<Refusal>() {
                return refusal.to_string();
            }
            if let Some(webpki::Error::CaUsedAsEndEntity) = other.0.downcast_ref() {
                return format!(
                    "its certificate is marked as an authority (CA:TRUE), and is not itself among \
                     the trusted ones; issue one without that mark, or put the certificate itself \
                     into the file of {ETCD_TLS_CA_CERT}"
                );
            }
        }
        let reason = rustls::Error::InvalidCertificate(problem.clone());
        let advice = match problem {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                match &self.config.ca_file {
                    Some(file) => format!(
                        "it is not signed by an authority in {}, the file of {ETCD_TLS_CA_CERT}",
                        file.display()
                    ),
                    None => format!(
                        "it is not signed by an authority that this system trusts; set \
                         {ETCD_TLS_CA_CERT} to a file with etcd's authority"
                    ),
                }
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!(
                    "name a host of the certificate in {ETCD_ENDPOINTS}, or set \
                     {ETCD_TLS_NO_ENDPOINT_IDENTIFICATION} to true and {ETCD_TLS_CA_CERT} to the \
                     file of an authority if any host with a certificate of that authority may be \
                     etcd"
                )
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "renew the certificate of etcd".into()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "check the clocks of etcd's machine and of this machine".into()
            }
            _ => "the certificate of etcd is unusable".into(),
        };
        format!("{reason}; {advice}")
    }

    /// Returns possible problems of the client certificate, if etcd asked for one.
    fn advice(&self, was_asked: bool, shown: Option<&CertificateInfo>) -> String {
        if !was_asked {
            return "etcd's log has the reason".to_owned();
        }
        let Some(client) = &self.config.client_certificate else {
            return format!(
                "it asks for a client certificate; set {ETCD_TLS_CLIENT_CERT} and \
                 {ETCD_TLS_CLIENT_KEY}"
            );
        };
        let file = client.certificate_file.display();
        if shown.is_some_and(|certificate| certificate.expires < SystemTime::now()) {
            return format!("the client certificate {file} ({ETCD_TLS_CLIENT_CERT}) has expired");
        }
        format!(
            "check whether etcd's trusted authorities have signed the client certificate {file} \
             ({ETCD_TLS_CLIENT_CERT}), that it is neither expired nor revoked, and that it is for \
             clients (clientAuth); etcd's log has the reason"
        )
    }
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use rcgen::{CertificateParams, KeyPair};
    use tokio::net::TcpListener;

    use super::*;

    fn trusting(ca_file: &Path) -> Arc<Tls> {
        let config = TlsConfig {
            ca_file: Some(ca_file.to_owned()),
            client_certificate: None,
            checks_name: true,
        };
        Arc::new(Tls::new(&config).unwrap())
    }

    fn certificate() -> String {
        let params = CertificateParams::new(vec!["host".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().pem()
    }

    #[tokio::test]
    async fn a_host_that_no_certificate_is_for_is_the_error() {
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.pem");
        fs::write(&ca_file, certificate()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let failed = trusting(&ca_file).connect(tcp, "a..b").await.unwrap_err();
        let text = failed.explanation;
        assert!(text.contains(ETCD_ENDPOINTS), "{text}");
    }

    #[test]
    fn files_that_become_unusable_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.pem");
        fs::write(&ca_file, certificate()).unwrap();
        let tls = trusting(&ca_file);
        let last_read = tls.reload();
        let good = fs::read(&ca_file).unwrap();
        fs::write(&ca_file, "half of").unwrap();
        let kept = tls.reload();
        assert!(Arc::ptr_eq(&last_read.authorities, &kept.authorities));
        assert!(tls.files.lock().complaint.is_some());
        fs::write(&ca_file, good).unwrap();
        assert!(!Arc::ptr_eq(&kept.authorities, &tls.reload().authorities));
        assert!(tls.files.lock().complaint.is_none());
    }

    /// At most one thread reads a file on a mount that hangs, and connections use the last content.
    #[tokio::test(start_paused = true)]
    async fn files_that_hang_keep_one_thread_and_no_connection() {
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.pem");
        fs::write(&ca_file, certificate()).unwrap();
        let tls = trusting(&ca_file);
        let last_read = tls.reload();
        let hangs = tls.reading.clone().try_acquire_owned().unwrap();
        let (one, other) = tokio::join!(tls.current(), tls.current());
        for kept in [one, other] {
            assert!(Arc::ptr_eq(&last_read.authorities, &kept.authorities));
        }
        let complaint = tls.files.lock().complaint.clone().unwrap();
        assert!(complaint.contains("ca.pem"), "{complaint}");
        drop(hangs);
        // A paused clock would run ahead of the thread that reads.
        tokio::time::resume();
        let read = tls.current().await;
        assert!(!Arc::ptr_eq(&last_read.authorities, &read.authorities));
    }
}
