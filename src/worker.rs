//! A worker as Alluxio knows it: its identity, its address and its state in a view.

use std::cmp::Ordering;
use std::fmt::{self, Write};
use std::str::FromStr;

use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};

/// The identity of a worker, which it keeps across restarts and address changes
/// (`alluxio.wire.WorkerIdentity`).
///
/// Its text form, `worker-<uuid>` or `worker-<number>`, is the last segment of the worker's keys in
/// etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkerIdentity {
    /// Version 0: a number that a master assigned in early versions of Alluxio.
    V0(i64),
    /// Version 1: a UUID. Every worker uses this version now.
    V1(Uuid),
}

impl WorkerIdentity {
    /// Returns the identity that Alluxio gives a host of a STATIC hosts file: the version 3 UUID of
    /// the bare host name (Java's `UUID.nameUUIDFromBytes`).
    pub fn of_static_host(host: &str) -> Self {
        WorkerIdentity::V1(uuid::Builder::from_md5_bytes(md5_of(host.as_bytes())).into_uuid())
    }

    /// Returns the version number in records and in gRPC messages.
    pub fn version(&self) -> i32 {
        match self {
            WorkerIdentity::V0(_) => 0,
            WorkerIdentity::V1(_) => 1,
        }
    }

    /// Returns the bytes of the identifier: 8 (big-endian) for version 0, 16 for version 1.
    pub fn identifier(&self) -> Vec<u8> {
        match self {
            WorkerIdentity::V0(id) => id.to_be_bytes().to_vec(),
            WorkerIdentity::V1(uuid) => uuid.as_bytes().to_vec(),
        }
    }

    /// Makes an identity from its [`version`](Self::version) and its
    /// [`identifier`](Self::identifier).
    pub fn from_parts(version: i32, identifier: &[u8]) -> Result<Self> {
        let wrong_length = |expected: usize| {
            Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "A worker identity of version {version} has {expected} bytes, not {}",
                    identifier.len()
                ),
            )
        };
        match version {
            0 => identifier
                .try_into()
                .map(|bytes| WorkerIdentity::V0(i64::from_be_bytes(bytes)))
                .map_err(|_| wrong_length(8)),
            1 => identifier
                .try_into()
                .map(|bytes| WorkerIdentity::V1(Uuid::from_bytes(bytes)))
                .map_err(|_| wrong_length(16)),
            other => Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("Unknown worker identity version {other}, expected 0 or 1"),
            )),
        }
    }

    /// Reads the text form, as `WorkerIdentity.fromString` of Alluxio 311 does: the prefix
    /// `worker-`, then a UUID or a decimal number.
    pub fn parse(text: &str) -> Result<Self> {
        text.strip_prefix("worker-")
            .and_then(|id| {
                parse_java_uuid(id)
                    .map(WorkerIdentity::V1)
                    .or_else(|| id.parse().ok().map(WorkerIdentity::V0))
            })
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::InvalidArgument,
                    format!("Unrecognized worker identity string: {text}"),
                )
            })
    }
}

/// The text of an identity, without memory of its own.
pub(crate) struct IdentityText {
    bytes: [u8; Self::LONGEST],
    len: usize,
}

impl IdentityText {
    const PREFIX: &[u8] = b"worker-";
    /// The prefix and a UUID. A number is shorter.
    const LONGEST: usize = Self::PREFIX.len() + uuid::fmt::Hyphenated::LENGTH;

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl fmt::Write for IdentityText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        let place = self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

impl WorkerIdentity {
    /// The last segment of the worker's keys.
    pub(crate) fn text(&self) -> IdentityText {
        let mut text = IdentityText {
            bytes: [0; IdentityText::LONGEST],
            len: 0,
        };
        match self {
            WorkerIdentity::V0(_) => write!(text, "{self}").expect("no number is longer"),
            // Listings need this text twice for each worker, and formatting is slow.
            WorkerIdentity::V1(uuid) => {
                let (prefix, id) = text.bytes.split_at_mut(IdentityText::PREFIX.len());
                prefix.copy_from_slice(IdentityText::PREFIX);
                uuid.as_hyphenated().encode_lower(id);
                text.len = IdentityText::LONGEST;
            }
        }
        text
    }

    /// Compares the keys of two identities in one range, which is the order of their texts.
    pub(crate) fn cmp_keys(&self, other: &Self) -> Ordering {
        match (self, other) {
            (WorkerIdentity::V1(a), WorkerIdentity::V1(b)) => a.cmp(b),
            _ => self.text().as_bytes().cmp(other.text().as_bytes()),
        }
    }
}

/// Parses like [`WorkerIdentity::parse`].
impl FromStr for WorkerIdentity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        WorkerIdentity::parse(text)
    }
}

/// Parses like [`WorkerIdentity::parse`].
impl TryFrom<&str> for WorkerIdentity {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self> {
        WorkerIdentity::parse(text)
    }
}

impl fmt::Display for WorkerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WorkerIdentity::V0(id) => write!(f, "worker-{id}"),
            WorkerIdentity::V1(uuid) => write!(f, "worker-{}", uuid.as_hyphenated()),
        }
    }
}

/// Parses a UUID like `java.util.UUID.fromString`: five groups of hex digits, each of which may be
/// shorter than in the canonical form.
fn parse_java_uuid(text: &str) -> Option<Uuid> {
    let groups: Vec<&str> = text.split('-').collect();
    let [a, b, c, d, e] = groups.as_slice() else {
        return None;
    };
    if text.len() > 36 {
        return None;
    }
    // Java also accepts a plus sign.
    let hex = |group| i64::from_str_radix(group, 16).ok().map(i64::cast_unsigned);
    // Java also accepts longer groups, and keeps the low bits of each.
    let high = (hex(a)? << 32) | ((hex(b)? & 0xffff) << 16) | (hex(c)? & 0xffff);
    let low = (hex(d)? << 48) | (hex(e)? & 0xffff_ffff_ffff);
    Some(Uuid::from_u64_pair(high, low))
}

/// The address of a worker (`alluxio.wire.WorkerNetAddress`). A missing port is 0, and a missing
/// text is empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct WorkerNetAddress {
    /// Host name or IP address of the worker's services. `None` only if a stored record has `null`.
    pub host: Option<String>,
    /// Host name of the container, if the worker runs in one.
    pub container_host: Option<String>,
    /// RPC port.
    pub rpc_port: i32,
    /// Data port.
    pub data_port: i32,
    /// Port of the secure RPC service. Alluxio leaves it at 0.
    pub secure_rpc_port: i32,
    /// Port of the Netty data service.
    pub netty_data_port: i32,
    /// Port of the web server.
    pub web_port: i32,
    /// Path of the domain socket for short-circuit reads.
    pub domain_socket_path: Option<String>,
    /// Port of the HTTP server.
    pub http_server_port: i32,
}

impl WorkerNetAddress {
    /// Creates an address with this host, empty texts and ports of 0, like Alluxio's constructor.
    pub fn new(host: impl Into<String>) -> Self {
        WorkerNetAddress {
            host: Some(host.into()),
            container_host: Some(String::new()),
            domain_socket_path: Some(String::new()),
            ..Default::default()
        }
    }

    /// Whether all fields except the optional ones (`HttpServerPort`, `NettyDataPort`) are equal.
    /// If so, a worker that joins again counts as the same worker
    /// (`WorkerServiceEntity.equalsIgnoringOptionalFields`).
    pub fn equals_ignoring_optional_fields(&self, other: &Self) -> bool {
        let required = |a: &WorkerNetAddress| WorkerNetAddress {
            netty_data_port: 0,
            http_server_port: 0,
            ..a.clone()
        };
        required(self) == required(other)
    }

    /// Returns the text of `WorkerNetAddress.dumpMainInfo` of Alluxio 308 and later.
    pub fn dump_main_info(&self) -> String {
        format!(
            "WorkerNetAddress{{host={}, containerHost={}, rpcPort={}, dataPort={}, webPort={}, \
             domainSocketPath={}, httpServerPort={}}}",
            java_text(&self.host),
            java_text(&self.container_host),
            self.rpc_port,
            self.data_port,
            self.web_port,
            java_text(&self.domain_socket_path),
            self.http_server_port,
        )
    }

    /// Returns the MD5 of [`dump_main_info`](Self::dump_main_info) in hex. A STATIC
    /// `showAllMembers` prints it as the worker's id.
    pub fn main_info_md5(&self) -> String {
        md5_of(self.dump_main_info().as_bytes())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// Displays the text of `WorkerNetAddress.toString` of Alluxio 308 and later.
impl fmt::Display for WorkerNetAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "WorkerNetAddress{{host={}, containerHost={}, rpcPort={}, dataPort={}, webPort={}, \
             domainSocketPath={}, secureRpcPort={}, httpServerPort={}}}",
            java_text(&self.host),
            java_text(&self.container_host),
            self.rpc_port,
            self.data_port,
            self.web_port,
            java_text(&self.domain_socket_path),
            self.secure_rpc_port,
            self.http_server_port,
        )
    }
}

fn java_text(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or("null")
}

fn md5_of(bytes: &[u8]) -> [u8; 16] {
    use md5::Digest;
    md5::Md5::digest(bytes).into()
}

/// A worker: its identity and its address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Worker {
    /// The identity.
    pub identity: WorkerIdentity,
    /// The address.
    pub address: WorkerNetAddress,
}

/// The state of a worker in a view. Views use these two values of `alluxio.wire.WorkerState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum WorkerState {
    /// Registered and renewing its lease.
    Live = 1,
    /// Registered, but its lease has ended.
    Lost = 2,
}

impl WorkerState {
    /// Returns the word that `alluxio info nodes` prints: `ONLINE` or `OFFLINE`.
    pub fn status(self) -> &'static str {
        match self {
            WorkerState::Live => "ONLINE",
            WorkerState::Lost => "OFFLINE",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::golden::vectors;

    #[test]
    fn static_identity_is_javas_name_uuid() {
        assert_eq!(
            WorkerIdentity::of_static_host("worker1").to_string(),
            "worker-ebad6414-9cc7-37ba-a6ef-069819279fd5"
        );
    }

    #[test]
    fn identities_survive_their_text_and_their_parts() {
        for text in [
            "worker-0",
            "worker--7",
            "worker-9223372036854775807",
            "worker-cb157baa-afe0-4b98-8af0-1a4645d38456",
        ] {
            let identity = WorkerIdentity::parse(text).expect(text);
            assert_eq!(identity.to_string(), text);
            let again =
                WorkerIdentity::from_parts(identity.version(), &identity.identifier()).expect(text);
            assert_eq!(again, identity);
        }
    }

    #[test]
    fn keys_are_in_the_order_of_their_texts() {
        let uuid = |byte| WorkerIdentity::V1(Uuid::from_bytes([byte; 16]));
        let mut identities = [i64::MIN, -10, -9, 0, 1, 2, 10, 11, 100, i64::MAX]
            .map(WorkerIdentity::V0)
            .to_vec();
        identities.extend([0, 0x0a, 0x10, 0x12, 0x99, 0xa0, 0xff].map(uuid));
        for a in &identities {
            assert_eq!(a.text().as_bytes(), a.to_string().as_bytes());
            for b in &identities {
                let expected = a.to_string().cmp(&b.to_string());
                assert_eq!(a.cmp_keys(b), expected, "{a} {b}");
            }
        }
    }

    #[test]
    fn identity_texts_are_read_as_the_real_class_reads_them() {
        let rows = vectors("identities.jsonl");
        assert!(rows.len() >= 39);
        for row in rows {
            match WorkerIdentity::parse(row["text"].as_str().unwrap()) {
                Ok(identity) => assert_eq!(
                    Some(identity.to_string().as_str()),
                    row["identity"].as_str(),
                    "{row}"
                ),
                Err(error) => assert_eq!(Some(error.message()), row["error"].as_str(), "{row}"),
            }
        }
    }

    #[test]
    fn identity_text_is_as_lenient_as_javas() {
        assert_eq!(
            WorkerIdentity::parse("worker-1-2-3-4-5")
                .unwrap()
                .to_string(),
            "worker-00000001-0002-0003-0004-000000000005"
        );
        for bad in ["", "worker-", "7", "worker-x", "worker-1-2-3-4", "Worker-7"] {
            let error = WorkerIdentity::parse(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert_eq!(
                error.message(),
                format!("Unrecognized worker identity string: {bad}")
            );
        }
    }

    #[test]
    fn wrong_identity_parts_are_refused() {
        assert!(WorkerIdentity::from_parts(0, &[0; 16]).is_err());
        assert!(WorkerIdentity::from_parts(1, &[0; 8]).is_err());
        assert!(WorkerIdentity::from_parts(2, b"any").is_err());
    }

    #[test]
    fn static_listing_id_is_alluxios() {
        let address = WorkerNetAddress {
            container_host: Some("containerhostname1".into()),
            rpc_port: 1000,
            data_port: 1001,
            web_port: 1011,
            http_server_port: 1021,
            domain_socket_path: Some("/var/lib/domain.sock".into()),
            ..WorkerNetAddress::new("worker1")
        };
        assert_eq!(address.main_info_md5(), "1c09a98270a8cb3e54850684023b537b");
    }

    #[test]
    fn optional_fields_do_not_make_another_worker() {
        let address = WorkerNetAddress::new("h");
        let other_ports = WorkerNetAddress {
            http_server_port: 1,
            netty_data_port: 2,
            ..address.clone()
        };
        assert!(address.equals_ignoring_optional_fields(&other_ports));
        assert!(!address.equals_ignoring_optional_fields(&WorkerNetAddress::new("i")));
    }
}
