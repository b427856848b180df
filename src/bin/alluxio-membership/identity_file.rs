//! The `worker_identity` file of Alluxio's workers. The first line that is neither empty nor a
//! comment is a UUID.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use alluxio_membership::worker::WorkerIdentity;
use uuid::Uuid;

use crate::output;

/// The identity in the file; a new one, now in the file, if there is no file.
pub fn read_or_create(path: &Path) -> io::Result<WorkerIdentity> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path),
        Err(error) => Err(error),
    }
}

fn parse(text: &str) -> io::Result<WorkerIdentity> {
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let line = text
        .lines()
        .find(|line| !line.starts_with('#') && !line.trim().is_empty())
        .ok_or_else(|| wrong("the file has no line with a UUID".to_owned()))?;
    match WorkerIdentity::parse(&format!("worker-{}", line.trim())) {
        Ok(identity @ WorkerIdentity::V1(_)) => Ok(identity),
        _ => Err(wrong(format!("\"{}\" is not a UUID", line.trim()))),
    }
}

/// Writes a temporary file and renames it, so that the file never exists without its identity. The
/// file is read-only, as Alluxio's workers make it.
fn create(path: &Path) -> io::Result<WorkerIdentity> {
    let uuid = Uuid::new_v4();
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .prefix(".worker_identity.")
        // With the permissions of the process's mask. Temporary files are private.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)?;
    let text = format!(
        "# Worker identity automatically generated at {}\n{uuid}\n",
        output::now()
    );
    file.write_all(text.as_bytes())?;
    let readable = file.as_file().metadata()?.permissions().mode() & !0o222;
    file.as_file()
        .set_permissions(Permissions::from_mode(readable))?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => {
            File::open(folder)?.sync_all()?;
            Ok(WorkerIdentity::V1(uuid))
        }
        // Another process was faster.
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            parse(&std::fs::read_to_string(path)?)
        }
        Err(error) => Err(error.error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "cb157baa-afe0-4b98-8af0-1a4645d38456";

    #[test]
    fn the_first_line_that_says_anything_counts() {
        for text in [
            UUID.to_owned(),
            format!("# comment\n\n  \n {UUID} \r\nworker"),
        ] {
            assert_eq!(parse(&text).unwrap().to_string(), format!("worker-{UUID}"));
        }
        for text in [
            "",
            "# only\n",
            "7",
            "worker-cb157baa-afe0-4b98-8af0-1a4645d38456",
        ] {
            assert_eq!(parse(text).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn a_new_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker_identity");
        let identity = read_or_create(&path).unwrap();
        assert_eq!(read_or_create(&path).unwrap(), identity);
        assert!(std::fs::metadata(&path).unwrap().permissions().readonly());
        let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(files.len(), 1, "nothing else stays: {files:?}");
    }

    #[test]
    fn of_many_at_once_all_have_the_identity_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker_identity");
        let identities: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16)
                .map(|_| scope.spawn(|| read_or_create(&path).unwrap()))
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let in_file = read_or_create(&path).unwrap();
        assert_eq!(identities, [in_file; 16]);
    }
}
