//! Encodes records byte for byte as Alluxio does, because Alluxio compares the bytes before it
//! decodes them.

use std::io;

use serde::Serialize;
use serde_json::ser::Formatter;

use crate::worker::{Worker, WorkerIdentity, WorkerNetAddress};

/// Returns the bytes that `WorkerServiceEntity.serialize()` writes for this worker: compact JSON in
/// UTF-8, with the order and the escapes of Gson.
pub fn encode(worker: &Worker) -> Vec<u8> {
    let entity = Entity {
        identity: (&worker.identity).into(),
        address: (&worker.address).into(),
        state: "AUTHORIZED",
        generation_number: -1,
        service_entity_name: worker.identity.to_string(),
    };
    let mut bytes = Vec::with_capacity(512);
    entity
        .serialize(&mut serde_json::Serializer::with_formatter(
            &mut bytes, Gson,
        ))
        .expect("texts and numbers can always be written to memory");
    bytes
}

/// The class `WorkerServiceEntity`: the fields of the subclass come first.
#[derive(Serialize)]
struct Entity<'a> {
    #[serde(rename = "Identity")]
    identity: Identity,
    #[serde(rename = "WorkerNetAddress")]
    address: Address<'a>,
    #[serde(rename = "State")]
    state: &'static str,
    #[serde(rename = "GenerationNumber")]
    generation_number: i32,
    #[serde(rename = "ServiceEntityName")]
    service_entity_name: String,
}

#[derive(Serialize)]
struct Identity {
    version: i32,
    identifier: String,
}

impl From<&WorkerIdentity> for Identity {
    fn from(identity: &WorkerIdentity) -> Self {
        Identity {
            version: identity.version(),
            identifier: match identity {
                WorkerIdentity::V0(id) => format!("{id:016x}"),
                WorkerIdentity::V1(uuid) => uuid.simple().to_string(),
            },
        }
    }
}

/// Gson omits null fields.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Address<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_host: Option<&'a str>,
    rpc_port: i32,
    data_port: i32,
    secure_rpc_port: i32,
    netty_data_port: i32,
    web_port: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain_socket_path: Option<&'a str>,
    http_server_port: i32,
}

impl<'a> From<&'a WorkerNetAddress> for Address<'a> {
    fn from(address: &'a WorkerNetAddress) -> Self {
        Address {
            host: address.host.as_deref(),
            container_host: address.container_host.as_deref(),
            rpc_port: address.rpc_port,
            data_port: address.data_port,
            secure_rpc_port: address.secure_rpc_port,
            netty_data_port: address.netty_data_port,
            web_port: address.web_port,
            domain_socket_path: address.domain_socket_path.as_deref(),
            http_server_port: address.http_server_port,
        }
    }
}

/// Gson's HTML-safe escapes, in addition to those that serde_json writes in the same way.
struct Gson;

impl Formatter for Gson {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        let mut rest = fragment;
        while let Some(at) = rest.find(['=', '<', '>', '&', '\'', '\u{2028}', '\u{2029}']) {
            writer.write_all(&rest.as_bytes()[..at])?;
            let mut chars = rest[at..].chars();
            if let Some(special) = chars.next() {
                write!(writer, "\\u{:04x}", u32::from(special))?;
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::decode;
    use crate::record::decode::tests::address_of;
    use crate::record::golden::vectors;

    #[test]
    fn bytes_are_those_of_the_real_class() {
        let rows = vectors("encode.jsonl");
        assert!(rows.len() >= 50);
        for row in rows {
            let worker = Worker {
                identity: WorkerIdentity::parse(row["identity"].as_str().unwrap()).unwrap(),
                address: address_of(&row["address"]),
            };
            let bytes = encode(&worker);
            assert_eq!(
                String::from_utf8(bytes.clone()).unwrap(),
                row["bytes"].as_str().unwrap()
            );
            // Fields that the setters never leave null are read as they were written.
            if worker.address.host.is_some() {
                let record = decode(&bytes).unwrap();
                assert_eq!(record.identity, Some(worker.identity));
                assert_eq!(record.address, Some(worker.address));
                assert_eq!(
                    record.service_entity_name,
                    Some(worker.identity.to_string())
                );
            }
        }
    }
}
