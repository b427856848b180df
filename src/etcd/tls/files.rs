//! Reads the files that the configuration names.

use std::fmt;
use std::io;
use std::path::Path;

use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};

/// Returns all certificates of a file, at least one.
pub(super) fn certificates(property: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let pem = read(property, file)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| unusable(property, file, error))?;
    if certificates.is_empty() {
        return Err(unusable(property, file, "it has no BEGIN CERTIFICATE line"));
    }
    Ok(certificates)
}

pub(super) fn read(property: &str, file: &Path) -> Result<Zeroizing<Vec<u8>>> {
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

pub(super) fn unusable(property: &str, file: &Path, reason: impl fmt::Display) -> Error {
    Error::new(
        ErrorKind::InvalidConfig,
        format!(
            "{}, the file of {property}, is unusable: {reason}",
            file.display()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::names::ETCD_TLS_CA_CERT;

    #[test]
    fn files_that_cannot_be_read_are_named_with_their_property() {
        let folder = tempfile::tempdir().unwrap();
        let error = |file| certificates(ETCD_TLS_CA_CERT, file).unwrap_err();
        let missing = error(Path::new("/no/such/file"));
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        let unreadable = error(folder.path());
        assert_eq!(unreadable.kind(), ErrorKind::Io);
        for error in [missing, unreadable] {
            assert!(error.to_string().contains(ETCD_TLS_CA_CERT), "{error}");
        }
    }
}
