//! The client certificate that etcd receives, and its private key.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64ct::{Base64, Encoding};
use pkcs8::EncryptedPrivateKeyInfo;
use pkcs8::der::ErrorKind as DerErrorKind;
use pkcs8::pkcs5;
use tokio_rustls::rustls::client::ResolvesClientCert;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, SignatureScheme};
use x509_cert::der::Encode;
use zeroize::Zeroizing;

use super::algorithms;
use super::certificate::{Certificate, CertificateInfo, certificate_info};
use super::files::{certificates, read, unusable};
use crate::config::names::{
    ETCD_TLS_CLIENT_CERT, ETCD_TLS_CLIENT_KEY, ETCD_TLS_CLIENT_KEY_PASSWORD,
};
use crate::config::{ClientCertificate, Secret};
use crate::error::Result;

/// How often the two files are read before a mismatch is an error.
const READINGS: usize = 5;

/// The client certificate and its key.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    certified: Arc<CertifiedKey>,
    /// The parts to display; `None` for a certificate in an unusual form, which TLS accepts.
    pub(super) info: Option<CertificateInfo>,
}

impl Identity {
    /// Reads both files, and reads them again if they do not belong together. They may be replaced
    /// between the two reads, as Kubernetes replaces secrets.
    ///
    /// # Errors
    ///
    /// `NotFound`, `Io` or `InvalidConfig`, with the name of the file and its property.
    pub(super) fn read(client: &ClientCertificate) -> Result<Self> {
        for _ in 0..READINGS {
            if let Some(identity) = Identity::read_once(client)? {
                return Ok(identity);
            }
        }
        Err(unusable(
            ETCD_TLS_CLIENT_KEY,
            &client.key_file,
            format!(
                "it is not the key of the certificate in {} ({ETCD_TLS_CLIENT_CERT})",
                client.certificate_file.display()
            ),
        ))
    }

    /// Returns `None` if the key does not belong to the certificate.
    fn read_once(client: &ClientCertificate) -> Result<Option<Self>> {
        let chain = certificates(ETCD_TLS_CLIENT_CERT, &client.certificate_file)?;
        let key = private_key(&client.key_file, client.key_password.as_ref())?;
        let key = aws_lc_rs::sign::any_supported_type(&key).map_err(|error| {
            let problem = algorithms::private_key_problem(&key)
                .unwrap_or_else(|| format!("it is damaged ({error})"));
            unusable(ETCD_TLS_CLIENT_KEY, &client.key_file, problem)
        })?;
        // `CertifiedKey::keys_match` would require more of a certificate than etcd does.
        let of_certificate = (chain.first().map(public_key).transpose())
            .map_err(|error| unusable(ETCD_TLS_CLIENT_CERT, &client.certificate_file, error))?;
        if of_certificate.as_deref() != key.public_key().as_deref() {
            return Ok(None);
        }
        Ok(Some(Identity {
            info: chain.first().and_then(certificate_info),
            certified: Arc::new(CertifiedKey::new(chain, key)),
        }))
    }
}

/// rustls and the certificate crate each accept certificates that the other refuses.
fn public_key(certificate: &CertificateDer<'_>) -> std::result::Result<Vec<u8>, rustls::Error> {
    let key = Certificate::read(certificate).and_then(|it| it.public_key().to_der());
    key.or_else(|_| {
        let certificate = ParsedCertificate::try_from(certificate)?;
        Ok(certificate.subject_public_key_info().to_vec())
    })
}

/// Presents the client certificate on one connection, if etcd asks for one.
#[derive(Debug)]
pub(super) struct Client {
    identity: Option<Identity>,
    was_asked: AtomicBool,
}

impl Client {
    pub(super) fn new(identity: Option<Identity>) -> Self {
        Client {
            identity,
            was_asked: AtomicBool::new(false),
        }
    }

    /// Whether etcd asked for a certificate.
    pub(super) fn was_asked(&self) -> bool {
        self.was_asked.load(Ordering::Relaxed)
    }
}

impl ResolvesClientCert for Client {
    fn resolve(
        &self,
        _authorities: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.was_asked.store(true, Ordering::Relaxed);
        Some(self.identity.as_ref()?.certified.clone())
    }

    fn has_certs(&self) -> bool {
        self.identity.is_some()
    }
}

const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";
const PKCS8: &str = "PRIVATE KEY";
const PKCS1: &str = "RSA PRIVATE KEY";
const SEC1: &str = "EC PRIVATE KEY";

/// Returns the first private key of the file, in one of these formats.
fn private_key(
    file: &Path,
    password: Option<&Secret>,
) -> Result<Zeroizing<PrivateKeyDer<'static>>> {
    let unusable = |reason: &dyn fmt::Display| unusable(ETCD_TLS_CLIENT_KEY, file, reason);
    let pem = read(ETCD_TLS_CLIENT_KEY, file)?;
    let text = std::str::from_utf8(&pem).map_err(|error| unusable(&error))?;
    if text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(unusable(
            &"its encryption is not PBES2; convert it with openssl pkcs8 -topk8",
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
        let decrypted = decrypt(&der, password).map_err(|problem| unusable(&problem))?;
        der = Zeroizing::new(decrypted.as_bytes().to_vec());
    }
    let der = std::mem::take(&mut *der);
    Ok(Zeroizing::new(match format {
        PKCS1 => PrivateKeyDer::Pkcs1(der.into()),
        SEC1 => PrivateKeyDer::Sec1(der.into()),
        _ => PrivateKeyDer::Pkcs8(der.into()),
    }))
}

fn decrypt(der: &[u8], password: &Secret) -> std::result::Result<pkcs8::SecretDocument, String> {
    let damaged = |reason: &dyn fmt::Display| format!("it is damaged ({reason})");
    let unsupported = |algorithm| {
        format!(
            "it is encrypted with {}, which is not supported; convert it with openssl pkcs8 -topk8",
            algorithms::name(&algorithm)
        )
    };
    if let Some(other) = algorithms::encryption_before_pbes2(der) {
        return Err(unsupported(other));
    }
    if algorithms::has_short_vector(der) {
        return Err(damaged(&"its initialisation vector is too short"));
    }
    let encrypted = EncryptedPrivateKeyInfo::try_from(der).map_err(|error| match error {
        pkcs8::Error::Asn1(error) => match error.kind() {
            DerErrorKind::OidUnknown { oid } => unsupported(oid),
            _ => damaged(&error),
        },
        error => damaged(&error),
    })?;
    encrypted
        .decrypt(password.expose())
        .map_err(|error| match error {
            // With a wrong password, the decrypted bytes are no key.
            pkcs8::Error::EncryptedPrivateKey(
                pkcs5::Error::DecryptFailed | pkcs5::Error::EncryptFailed,
            )
            | pkcs8::Error::Asn1(_) => {
                format!("{ETCD_TLS_CLIENT_KEY_PASSWORD} does not decrypt it ({error})")
            }
            error => damaged(&error),
        })
}

/// rustls' own decoder leaves a copy of the key in memory.
fn decode(base64: &str) -> std::result::Result<Zeroizing<Vec<u8>>, base64ct::Error> {
    let mut compact = Zeroizing::new(String::with_capacity(base64.len()));
    compact.extend(base64.split_ascii_whitespace());
    Base64::decode_vec(&compact).map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use pkcs8::{LineEnding, PrivateKeyInfo, SecretDocument};
    use rcgen::{CertificateParams, KeyPair};
    use tempfile::TempDir;

    use super::*;
    use crate::error::{Error, ErrorKind};

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

        /// Returns the error of this client certificate, key and password, or `None` without an
        /// error.
        fn error(&self, certificate: &str, key: &str, password: Option<&str>) -> Option<Error> {
            let client = ClientCertificate {
                certificate_file: self.write("certificate.pem", certificate),
                key_file: self.write("key.pem", key),
                key_password: password.map(|password| Secret::new(password.to_owned())),
            };
            Identity::read(&client).err()
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
    }

    /// Returns a file of `tests/certificates`.
    fn made_by_openssl(name: &str) -> String {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates");
        fs::read_to_string(folder.join(name)).unwrap()
    }

    #[test]
    fn keys_are_decrypted_as_openssl_encrypts_them() {
        let folder = folder();
        let certificate = made_by_openssl("p-256.pem");
        for way in ["sha1", "3des", "sha1-3des", "sha512", "scrypt"] {
            let key = made_by_openssl(&format!("p-256-{way}.key"));
            let error = folder.error(&certificate, &key, Some("password"));
            assert!(error.is_none(), "{way}: {error:?}");
            let error = folder.error(&certificate, &key, Some("wrong")).unwrap();
            let text = error.to_string();
            assert!(
                text.contains("password does not decrypt it"),
                "{way}: {text}"
            );
        }
        for (way, algorithm) in [
            ("camellia", "camellia256-cbc"),
            ("pbes1", "pbeWithSHA1And3-KeyTripleDES-CBC"),
        ] {
            let key = made_by_openssl(&format!("p-256-{way}.key"));
            let error = folder.error(&certificate, &key, Some("password")).unwrap();
            let text = error.to_string();
            for part in [algorithm, "not supported", "openssl pkcs8 -topk8"] {
                assert!(text.contains(part), "{way}: not \"{part}\" in: {text}");
            }
        }
    }

    #[test]
    fn a_vector_that_is_too_short_is_an_error() {
        let value = |tag: u8, parts: &[&[u8]]| {
            let content = parts.concat();
            [&[tag, u8::try_from(content.len()).unwrap()], &*content].concat()
        };
        let sequence = |parts: &[&[u8]]| value(0x30, parts);
        let bytes = |content: &[u8]| value(0x04, &[content]);
        let [pbes2, pbkdf2, des] = [
            pkcs5::pbes2::PBES2_OID,
            pkcs5::pbes2::PBKDF2_OID,
            pkcs5::pbes2::DES_EDE3_CBC_OID,
        ]
        .map(|oid| oid.to_der().unwrap());
        let derivation = sequence(&[&pbkdf2, &sequence(&[&bytes(b"salt"), &[2, 1, 1]])]);
        let cipher = sequence(&[&des, &bytes(b"short")]);
        let scheme = sequence(&[&pbes2, &sequence(&[&derivation, &cipher])]);
        let key = Base64::encode_string(&sequence(&[&scheme, &bytes(&[0; 16])]));
        let pem = format!("-----BEGIN {ENCRYPTED}-----\n{key}\n-----END {ENCRYPTED}-----\n");
        let error = folder().error(&certificate().0, &pem, Some("password"));
        let text = error.unwrap().to_string();
        assert!(text.contains("vector is too short"), "{text}");
    }

    #[test]
    fn keys_of_any_usual_size_and_curve_are_taken() {
        let folder = folder();
        let p_256 = made_by_openssl("p-256.pem");
        let without_public = made_by_openssl("p-256-without-public.key");
        let rsa = ["rsa-8192.pem", "rsa-8192.key"].map(made_by_openssl);
        let p_521 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
        let params = CertificateParams::new(vec!["host".to_owned()]).unwrap();
        let of_p_521 = params.self_signed(&p_521).unwrap().pem();
        let sec1 = in_format(&p_521.serialize_pem(), "EC PRIVATE KEY", |key| {
            key.private_key.to_vec()
        });
        for (certificate, key) in [
            (&p_256, &without_public),
            (&rsa[0], &rsa[1]),
            (&of_p_521, &p_521.serialize_pem()),
            (&of_p_521, &sec1),
        ] {
            let error = folder.error(certificate, key, None);
            assert!(error.is_none(), "{error:?}");
        }
        for (key, problem) in [
            ("rsa-1024.key", "RSA keys of 1024 bits are not supported"),
            (
                "secp256k1.key",
                "keys on the curve secp256k1 are not supported",
            ),
        ] {
            let error = folder.error(&p_256, &made_by_openssl(key), None).unwrap();
            let text = error.to_string();
            for part in [problem, "2048", ETCD_TLS_CLIENT_KEY] {
                assert!(text.contains(part), "not \"{part}\" in: {text}");
            }
        }
    }

    /// Kubernetes replaces files like this: each file is reached through one symbolic link to a
    /// folder.
    #[test]
    fn a_certificate_and_key_that_are_exchanged_together_belong_together() {
        const READINGS: usize = 300;
        let folder = folder();
        let root = folder.0.path();
        for version in ["0", "1"] {
            fs::create_dir(root.join(version)).unwrap();
            let (certificate, key) = certificate();
            folder.write(&format!("{version}/tls.crt"), certificate);
            folder.write(&format!("{version}/tls.key"), key);
        }
        symlink("0", root.join("data")).unwrap();
        let client = ClientCertificate {
            certificate_file: root.join("data/tls.crt"),
            key_file: root.join("data/tls.key"),
            key_password: None,
        };
        let read = AtomicUsize::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                for version in ["1", "0"].iter().cycle() {
                    // The files are replaced every few reads, so that many replacements happen
                    // between the reads of the two files.
                    let before = read.load(Ordering::Relaxed);
                    while read.load(Ordering::Relaxed) < (before + 3).min(READINGS) {
                        thread::yield_now();
                    }
                    if read.load(Ordering::Relaxed) >= READINGS {
                        return;
                    }
                    symlink(version, root.join("new")).unwrap();
                    fs::rename(root.join("new"), root.join("data")).unwrap();
                }
            });
            let results: Vec<_> = (0..READINGS)
                .map(|_| {
                    let identity = Identity::read(&client);
                    read.fetch_add(1, Ordering::Relaxed);
                    identity.map(|_| ())
                })
                .collect();
            let failed = results.iter().find_map(|result| result.as_ref().err());
            assert!(failed.is_none(), "{failed:?}");
        });
    }
}
