//! Certificates for the tests, created when they are needed.

use std::fs;
use std::path::{Path, PathBuf};

use pkcs8::pkcs5::pbes2::Parameters;
use pkcs8::{LineEnding, PrivateKeyInfo, SecretDocument};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, PKCS_ECDSA_P521_SHA512, RevokedCertParams,
    SerialNumber, date_time_ymd,
};
use tempfile::TempDir;

/// A certificate authority, and a folder with its file and the files of its certificates. All files
/// are in PEM format.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// The files of a certificate and its private key.
#[derive(Debug, Clone)]
pub struct Issued {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Issued {
    pub fn certificate(&self) -> &str {
        self.certificate.to_str().expect("a path in UTF-8")
    }

    pub fn key(&self) -> &str {
        self.key.to_str().expect("a path in UTF-8")
    }

    /// Replaces the contents of these files by the contents of other files.
    pub fn replace_by(&self, other: &Issued) {
        fs::copy(&other.certificate, &self.certificate).expect("replace a certificate");
        fs::copy(&other.key, &self.key).expect("replace a key");
    }

    /// Encrypts the key in its file.
    pub fn encrypt_key(&self, password: &str) {
        let pem = fs::read_to_string(&self.key).expect("read the key");
        let (_, key) = SecretDocument::from_pem(&pem).expect("a key in PEM format");
        let key = PrivateKeyInfo::try_from(key.as_bytes()).expect("a PKCS#8 key");
        let parameters = Parameters::pbkdf2_sha256_aes256cbc(1000, b"some salt", &[7; 16]);
        let encrypted = key
            .encrypt_with_params(parameters.expect("good parameters"), password)
            .expect("encrypt");
        encrypted
            .write_pem_file(&self.key, "ENCRYPTED PRIVATE KEY", LineEnding::LF)
            .expect("write the key");
    }
}

/// Files that OpenSSL made: a certificate from `authority.pem` beside them, and its key.
pub fn made_by_openssl(name: &str) -> Issued {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates");
    Issued {
        certificate: folder.join(format!("{name}.pem")),
        key: folder.join(format!("{name}.key")),
    }
}

impl Authority {
    pub fn new() -> Authority {
        Authority::of(params("authority", &[]))
    }

    /// An authority that has not been valid since the end of 2021.
    pub fn expired() -> Authority {
        let mut params = params("authority", &[]);
        params.not_after = date_time_ymd(2021, 12, 31);
        Authority::of(params)
    }

    /// An authority whose certificate is also the certificate of a server, like with `openssl req
    /// -x509`.
    pub fn that_serves(hosts: &[&str]) -> (Authority, Issued) {
        let authority = Authority::of(params("etcd", hosts));
        let key = authority.folder.path().join("authority.key");
        fs::write(&key, authority.issuer.key().serialize_pem()).expect("write a key");
        let certificate = authority.file().into();
        (authority, Issued { certificate, key })
    }

    fn of(mut params: CertificateParams) -> Authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("make a key");
        let authority = Authority {
            issuer: CertifiedIssuer::self_signed(params, key).expect("make an authority"),
            folder: tempfile::tempdir().expect("make a folder for certificates"),
        };
        fs::write(authority.file(), authority.issuer.pem()).expect("write the authority");
        authority
    }

    /// The authority's own certificate.
    pub fn file(&self) -> String {
        let file = self.folder.path().join("authority.pem");
        file.to_str().expect("a path in UTF-8").to_owned()
    }

    /// A certificate for these host names and addresses.
    pub fn issue(&self, common_name: &str, hosts: &[&str]) -> Issued {
        self.sign(params(common_name, hosts))
    }

    /// A certificate that has not been valid since the end of 2021.
    pub fn issue_expired(&self, common_name: &str, hosts: &[&str]) -> Issued {
        let mut params = params(common_name, hosts);
        params.not_after = date_time_ymd(2021, 12, 31);
        self.sign(params)
    }

    /// A certificate with a number longer than RFC 5280 allows, which some authorities use.
    pub fn issue_with_long_number(&self, common_name: &str, hosts: &[&str]) -> Issued {
        let mut params = params(common_name, hosts);
        params.serial_number = Some(SerialNumber::from(vec![1; 24]));
        self.sign(params)
    }

    /// A revoked certificate, and the authority's revocation list, in DER, which etcd reads.
    pub fn issue_revoked(&self, common_name: &str) -> (Issued, PathBuf) {
        let number = SerialNumber::from(vec![7; 8]);
        let mut params = params(common_name, &[]);
        params.serial_number = Some(number.clone());
        let revoked = RevokedCertParams {
            serial_number: number,
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2021, 1, 1),
            next_update: date_time_ymd(2099, 12, 31),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).expect("sign the list");
        let file = self.folder.path().join("revoked.crl");
        fs::write(&file, list.der()).expect("write the list");
        (self.sign(params), file)
    }

    /// A certificate whose key is on the curve P-521.
    pub fn issue_p_521(&self, common_name: &str, hosts: &[&str]) -> Issued {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).expect("make a key");
        self.sign_key(params(common_name, hosts), &key)
    }

    fn sign(&self, params: CertificateParams) -> Issued {
        self.sign_key(params, &KeyPair::generate().expect("make a key"))
    }

    fn sign_key(&self, mut params: CertificateParams, key: &KeyPair) -> Issued {
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let certificate = params
            .signed_by(key, &self.issuer)
            .expect("sign a certificate");
        let number = fs::read_dir(self.folder.path()).map_or(0, Iterator::count);
        let file = |name: &str| self.folder.path().join(format!("{number}-{name}.pem"));
        let issued = Issued {
            certificate: file("certificate"),
            key: file("key"),
        };
        fs::write(&issued.certificate, certificate.pem()).expect("write a certificate");
        fs::write(&issued.key, key.serialize_pem()).expect("write a key");
        issued
    }
}

fn params(common_name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| host.to_string()).collect();
    let mut params = CertificateParams::new(hosts).expect("good host names");
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2099, 12, 31);
    params
}
