//! The supported keys and encryptions, and the names of the others.

use pkcs8::PrivateKeyInfo;
use pkcs8::pkcs5::pbes2::{DES_EDE3_CBC_OID, PBES2_OID};
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use x509_cert::der::asn1::{AnyRef, ContextSpecific, ObjectIdentifier, OctetStringRef, UintRef};
use x509_cert::der::oid::db::{DB, rfc5912, rfc8410};
use x509_cert::der::{self, Decode, Reader, Tag, TagNumber};
use x509_cert::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoOwned};

const SUPPORTED_KEYS: &str =
    "RSA of 2048 to 8192 bits, EC on P-256, P-384 and P-521, and Ed25519 are supported";
/// The length of the initialisation vector of triple DES.
const DES_BLOCK: usize = 8;

/// Algorithms that OpenSSL and others use, but that are missing in the database of names.
const NAMES: [(&str, &str); 5] = [
    ("1.3.132.0.10", "secp256k1"),
    ("1.3.36.3.3.2.8.1.1.7", "brainpoolP256r1"),
    ("1.2.840.113549.1.5.3", "pbeWithMD5AndDES-CBC"),
    (
        "1.2.840.113549.1.12.1.3",
        "pbeWithSHA1And3-KeyTripleDES-CBC",
    ),
    ("1.2.392.200011.61.1.1.1.4", "camellia256-cbc"),
];

/// Returns the usual name of an algorithm or a curve, or its number.
pub(super) fn name(oid: &ObjectIdentifier) -> String {
    let number = oid.to_string();
    let own = NAMES.iter().find(|(known, _)| *known == number);
    match DB.by_oid(oid).or(own.map(|(_, name)| *name)) {
        Some(name) => name.to_owned(),
        None => number,
    }
}

/// Returns why this public key is unusable, or `None` if it is usable or unknown.
pub(super) fn public_key_problem(key: &SubjectPublicKeyInfoOwned) -> Option<String> {
    let algorithm = &key.algorithm;
    if algorithm.oid == rfc5912::RSA_ENCRYPTION {
        let modulus = first_number(key.subject_public_key.raw_bytes(), 0).ok()?;
        rsa_problem(modulus)
    } else if algorithm.oid == rfc5912::ID_EC_PUBLIC_KEY {
        let curve = algorithm.parameters.as_ref()?.decode_as().ok()?;
        curve_problem(&curve)
    } else {
        None
    }
}

/// Returns why this private key cannot sign, or `None` if its kind is supported.
pub(super) fn private_key_problem(key: &PrivateKeyDer<'_>) -> Option<String> {
    match key {
        PrivateKeyDer::Pkcs1(key) => rsa_problem(first_number(key.secret_pkcs1_der(), 1).ok()?),
        PrivateKeyDer::Sec1(key) => curve_problem(&sec1_curve(key.secret_sec1_der()).ok()?),
        PrivateKeyDer::Pkcs8(key) => {
            let key = PrivateKeyInfo::try_from(key.secret_pkcs8_der()).ok()?;
            match key.algorithm.oid {
                rfc5912::RSA_ENCRYPTION => rsa_problem(first_number(key.private_key, 1).ok()?),
                rfc5912::ID_EC_PUBLIC_KEY => {
                    curve_problem(&key.algorithm.parameters?.decode_as().ok()?)
                }
                rfc8410::ID_ED_25519 => None,
                other => Some(format!(
                    "keys of the kind {} are not supported; {SUPPORTED_KEYS}",
                    name(&other)
                )),
            }
        }
        _ => None,
    }
}

fn rsa_problem(modulus: UintRef<'_>) -> Option<String> {
    let bytes = modulus.as_bytes();
    let unused = bytes
        .first()
        .map_or(0, |byte| byte.leading_zeros() as usize);
    match bytes.len() * 8 - unused {
        2048..=8192 => None,
        bits => Some(format!(
            "RSA keys of {bits} bits are not supported; {SUPPORTED_KEYS}"
        )),
    }
}

fn curve_problem(curve: &ObjectIdentifier) -> Option<String> {
    match *curve {
        rfc5912::SECP_256_R_1 | rfc5912::SECP_384_R_1 | rfc5912::SECP_521_R_1 => None,
        other => Some(format!(
            "keys on the curve {} are not supported; {SUPPORTED_KEYS}",
            name(&other)
        )),
    }
}

/// Returns a number of a sequence of numbers. An RSA key begins with its modulus, after the version
/// if it is private.
fn first_number(sequence: &[u8], skipped: usize) -> der::Result<UintRef<'_>> {
    AnyRef::from_der(sequence)?.sequence(|numbers| {
        for _ in 0..skipped {
            UintRef::decode(numbers)?;
        }
        let number = UintRef::decode(numbers)?;
        skip_rest(numbers)?;
        Ok(number)
    })
}

fn sec1_curve(key: &[u8]) -> der::Result<ObjectIdentifier> {
    AnyRef::from_der(key)?.sequence(|fields| {
        u8::decode(fields)?;
        OctetStringRef::decode(fields)?;
        let curve = ContextSpecific::decode_explicit(fields, TagNumber::N0)?;
        skip_rest(fields)?;
        let curve: ContextSpecific<ObjectIdentifier> =
            curve.ok_or_else(|| Tag::ObjectIdentifier.value_error())?;
        Ok(curve.value)
    })
}

fn skip_rest<'a>(reader: &mut impl Reader<'a>) -> der::Result<()> {
    reader.read_slice(reader.remaining_len()).map(|_| ())
}

/// Returns the encryption of a PKCS#8 key, such as PBES2, with its parameters.
fn encryption(encrypted_key: &[u8]) -> der::Result<AlgorithmIdentifierRef<'_>> {
    AnyRef::from_der(encrypted_key)?.sequence(|fields| {
        let scheme = AlgorithmIdentifierRef::decode(fields)?;
        skip_rest(fields)?;
        Ok(scheme)
    })
}

/// Returns the encryption of a PKCS#8 key, unless it is PBES2.
pub(super) fn encryption_before_pbes2(encrypted_key: &[u8]) -> Option<ObjectIdentifier> {
    let scheme = encryption(encrypted_key).ok()?;
    (scheme.oid != PBES2_OID).then_some(scheme.oid)
}

/// Whether the key is encrypted with triple DES and has an initialisation vector that is too short.
/// pkcs5 panics at such a key.
pub(super) fn has_short_vector(encrypted_key: &[u8]) -> bool {
    let cipher = encryption(encrypted_key).and_then(|scheme| {
        let parameters = scheme
            .parameters
            .ok_or_else(|| Tag::Sequence.value_error())?;
        parameters.sequence(|fields| {
            AlgorithmIdentifierRef::decode(fields)?;
            AlgorithmIdentifierRef::decode(fields)
        })
    });
    let Ok(cipher) = cipher else {
        return false;
    };
    let vector = cipher
        .parameters
        .and_then(|vector| vector.decode_as::<OctetStringRef<'_>>().ok());
    cipher.oid == DES_EDE3_CBC_OID
        && vector.is_some_and(|vector| vector.as_bytes().len() < DES_BLOCK)
}
