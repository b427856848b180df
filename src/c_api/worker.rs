//! `axm_worker_t`: a worker that a C program registers.

use std::ffi::c_char;
use std::mem::size_of;

use super::convert::{invalid, optional_text, text, to_identity};
use crate::error::Result;
use crate::worker::{Worker, WorkerNetAddress};

/// A worker to register. Start with AXM_WORKER_INIT, then set what applies; texts that stay NULL are stored as empty
/// texts. Later versions may add fields at the end.
///
/// ```c
/// axm_worker_t worker = AXM_WORKER_INIT;
/// worker.identity = "worker-6f8e7f2c-8f0e-4a53-a8ff-f37d8e2d4f0d";
/// worker.host = "host1";
/// worker.rpc_port = 29999;
/// ```
#[repr(C)]
#[derive(Clone, Copy)]
pub struct axm_worker_t {
    /// sizeof(axm_worker_t), which AXM_WORKER_INIT sets.
    pub struct_size: usize,
    /// "worker-" and a UUID that is the worker's own: the same at every start, and no other worker's. Required.
    pub identity: *const c_char,
    /// The host name or IP address of the worker's services. Required, and not empty.
    pub host: *const c_char,
    /// The host name of the worker's container.
    pub container_host: *const c_char,
    /// The path of the domain socket for short-circuit reads.
    pub domain_socket_path: *const c_char,
    /// The port of the RPC service, 1 to 65535; 0, as for all ports, if there is none.
    pub rpc_port: i32,
    /// The port of the data service.
    pub data_port: i32,
    /// The port of the secure RPC service.
    pub secure_rpc_port: i32,
    /// The port of the Netty data service.
    pub netty_data_port: i32,
    /// The port of the web server.
    pub web_port: i32,
    /// The port of the HTTP server.
    pub http_server_port: i32,
}

/// No version of the struct will be larger; what claims to be was not initialized.
const MAX_STRUCT_SIZE: usize = 4096;

/// The worker a caller describes. Fields the caller knows and this version does not must be 0.
pub(super) fn to_worker(pointer: *const axm_worker_t) -> Result<Worker> {
    if pointer.is_null() {
        return Err(invalid("worker is NULL"));
    }
    let known = size_of::<axm_worker_t>();
    // SAFETY: the caller passes a struct that begins with its size, whatever version of it the caller knows.
    let size = unsafe { (&raw const (*pointer).struct_size).read() };
    if !(known..=MAX_STRUCT_SIZE).contains(&size) {
        return Err(invalid(format!(
            "worker.struct_size is {size}, expected {known}: initialize the worker with AXM_WORKER_INIT"
        )));
    }
    // SAFETY: the caller's struct has `size` bytes, of which the first `known` were checked to exist.
    let unknown =
        unsafe { std::slice::from_raw_parts(pointer.cast::<u8>().add(known), size - known) };
    if unknown.iter().any(|&byte| byte != 0) {
        return Err(invalid(
            "worker has a field that this version of the library does not know",
        ));
    }
    // SAFETY: as above, and any bytes are valid for the fields, which are numbers and unchecked pointers.
    let worker = unsafe { pointer.read() };
    let text_or_empty = |pointer, name| {
        optional_text(pointer, name).map(|text| Some(text.unwrap_or_default().to_owned()))
    };
    let host = text(worker.host, "worker.host")?;
    if host.is_empty() {
        return Err(invalid("worker.host is empty"));
    }
    for (port, name) in [
        (worker.rpc_port, "rpc_port"),
        (worker.data_port, "data_port"),
        (worker.secure_rpc_port, "secure_rpc_port"),
        (worker.netty_data_port, "netty_data_port"),
        (worker.web_port, "web_port"),
        (worker.http_server_port, "http_server_port"),
    ] {
        if !(0..=65535).contains(&port) {
            return Err(invalid(format!(
                "worker.{name} is {port}, expected 0 to 65535"
            )));
        }
    }
    Ok(Worker {
        identity: to_identity(worker.identity, "worker.identity")?,
        address: WorkerNetAddress {
            host: Some(host.to_owned()),
            container_host: text_or_empty(worker.container_host, "worker.container_host")?,
            domain_socket_path: text_or_empty(
                worker.domain_socket_path,
                "worker.domain_socket_path",
            )?,
            rpc_port: worker.rpc_port,
            data_port: worker.data_port,
            secure_rpc_port: worker.secure_rpc_port,
            netty_data_port: worker.netty_data_port,
            web_port: worker.web_port,
            http_server_port: worker.http_server_port,
        },
    })
}
