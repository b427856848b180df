//! `axm_worker_t`: a worker that a C program registers.

use std::ffi::c_char;

use super::convert::{SizedStruct, invalid, optional_text, read_struct, text, to_identity};
use crate::error::Result;
use crate::worker::{Worker, WorkerNetAddress};

/// A worker: its identity and its address.
///
/// A worker to register starts as #AXM_WORKER_INIT. Texts that stay NULL are stored as empty texts.
/// In a worker that the library hands out, no text is NULL. Later versions may add fields at the
/// end.
///
/// \code{.c}
/// axm_worker_t worker = AXM_WORKER_INIT;
/// worker.identity = "worker-6f8e7f2c-8f0e-4a53-a8ff-f37d8e2d4f0d";
/// worker.host = "host1";
/// worker.rpc_port = 29999;
/// \endcode
#[repr(C)]
#[derive(Clone, Copy)]
pub struct axm_worker_t {
    /// sizeof(axm_worker_t), which #AXM_WORKER_INIT sets.
    pub struct_size: usize,
    /// "worker-" and a UUID. A worker has the same identity at every start, and no other worker has
    /// it. Required. Workers of old releases are listed as "worker-" and a number.
    pub identity: *const c_char,
    /// The host name or IP address of the worker's services. Required, and not empty.
    pub host: *const c_char,
    /// The host name of the worker's container.
    pub container_host: *const c_char,
    /// The path of the domain socket for short-circuit reads.
    pub domain_socket_path: *const c_char,
    /// The port of the RPC service, 1 to 65535. Here and below, 0 means that there is no port.
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

// SAFETY: the fields are numbers and unchecked pointers.
unsafe impl SizedStruct for axm_worker_t {
    const NAME: &str = "worker";
    const INIT: &str = "AXM_WORKER_INIT";
}

/// The worker a caller describes.
pub(super) fn to_worker(pointer: *const axm_worker_t) -> Result<Worker> {
    let worker = read_struct(pointer)?;
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
