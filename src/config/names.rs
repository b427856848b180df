//! The names of the properties that this library reads, and their defaults.

/// A property: its name, its default and its description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Property {
    /// The name.
    pub name: &'static str,
    /// Another name that Alluxio accepts.
    pub alias: Option<&'static str>,
    /// The default, which may refer to other properties; `None` if the property has no default.
    pub default: Option<&'static str>,
    /// What the property does, in Markdown.
    pub description: &'static str,
}

/// The prefix of this library's own properties.
pub const NATIVE_PREFIX: &str = "alluxio.membership.native.";

/// Where Alluxio is installed. The default is the environment variable `ALLUXIO_HOME`, as in
/// Alluxio's scripts.
pub const HOME: &str = "alluxio.home";
/// Where the configuration files are. The default is the environment variable `ALLUXIO_CONF_DIR`,
/// as in Alluxio's scripts.
pub const CONF_DIR: &str = "alluxio.conf.dir";
/// STATIC, ETCD or SERVICE_REGISTRY.
pub const MEMBERSHIP_TYPE: &str = "alluxio.worker.membership.manager.type";
/// The hosts file of a STATIC cluster.
pub const STATIC_CONFIG_FILE: &str = "alluxio.worker.static.membership.manager.config.file";
/// The hosts file of a STATIC cluster, under the name in Alluxio's documentation. Alluxio itself
/// does not know this name.
pub const STATIC_CONFIG_FILE_DOCUMENTED: &str = "alluxio.worker.static.config.file";
/// The name of the cluster, which is part of every key.
pub const CLUSTER_NAME: &str = "alluxio.cluster.name";
/// URLs of etcd's members, separated by commas.
pub const ETCD_ENDPOINTS: &str = "alluxio.etcd.endpoints";
/// The etcd user.
pub const ETCD_USERNAME: &str = "alluxio.etcd.username";
/// Password of the etcd user.
pub const ETCD_PASSWORD: &str = "alluxio.etcd.password";
/// Whether to use TLS to etcd. The names of the TLS properties are those of Alluxio's enterprise
/// edition.
pub const ETCD_TLS_ENABLED: &str = "alluxio.etcd.tls.enabled";
/// PEM file of the authorities that may have signed etcd's certificate.
pub const ETCD_TLS_CA_CERT: &str = "alluxio.etcd.tls.ca.cert";
/// PEM file of the client certificate.
pub const ETCD_TLS_CLIENT_CERT: &str = "alluxio.etcd.tls.client.cert";
/// PEM file of the private key of the client certificate.
pub const ETCD_TLS_CLIENT_KEY: &str = "alluxio.etcd.tls.client.key";
/// Password of the private key of the client certificate.
pub const ETCD_TLS_CLIENT_KEY_PASSWORD: &str = "alluxio.etcd.tls.client.key.password";
/// Whether etcd's certificate may be for another host.
pub const ETCD_TLS_NO_ENDPOINT_IDENTIFICATION: &str =
    "alluxio.etcd.tls.client.no.endpoint.identification";
/// How long a worker may be silent before it is lost.
pub const WORKER_FAILURE_DETECTION_TIMEOUT: &str = "alluxio.worker.failure.detection.timeout";
/// Whether workers run in Kubernetes, where addresses change and identities stay.
pub const K8S_ENV_DEPLOYMENT: &str = "alluxio.k8s.env.deployment";
/// Host name of the worker's container.
pub const WORKER_CONTAINER_HOSTNAME: &str = "alluxio.worker.container.hostname";
/// RPC port of workers.
pub const WORKER_RPC_PORT: &str = "alluxio.worker.rpc.port";
/// Data port of workers.
pub const WORKER_DATA_PORT: &str = "alluxio.worker.data.port";
/// Web port of workers.
pub const WORKER_WEB_PORT: &str = "alluxio.worker.web.port";
/// HTTP server port of workers.
pub const WORKER_HTTP_SERVER_PORT: &str = "alluxio.worker.http.server.port";
/// Whether workers serve data through Netty, on the data port.
pub const USER_NETTY_DATA_TRANSMISSION_ENABLED: &str =
    "alluxio.user.netty.data.transmission.enabled";
/// Whether closing the manager that joined a worker ends its registration at once.
pub const LEAVE_ON_SHUTDOWN: &str = "alluxio.membership.native.leave.on.shutdown";
/// The longest time of one operation.
pub const OPERATION_TIMEOUT: &str = "alluxio.membership.native.operation.timeout";
/// The greatest age of a view that listings return.
pub const VIEW_MAX_STALENESS: &str = "alluxio.membership.native.view.max.staleness";
/// How often the workers of a hosts file are probed.
pub const STATIC_PROBE_INTERVAL: &str = "alluxio.membership.native.static.probe.interval";
/// CACHED or LINEARIZABLE.
pub const READ_MODE: &str = "alluxio.membership.native.read.mode";

const fn property(
    name: &'static str,
    default: Option<&'static str>,
    description: &'static str,
) -> Property {
    Property {
        name,
        alias: None,
        default,
        description,
    }
}

/// Every property this library knows.
pub const PROPERTIES: &[Property] = &[
    property(
        HOME,
        Some("/opt/alluxio"),
        "Where Alluxio is installed. The environment variable `ALLUXIO_HOME` replaces the default.",
    ),
    property(
        CONF_DIR,
        Some("${alluxio.home}/conf"),
        "The folder of the configuration files. The environment variable `ALLUXIO_CONF_DIR` \
         replaces the default.",
    ),
    property(
        MEMBERSHIP_TYPE,
        Some("MASTER"),
        "`STATIC`, `ETCD` or `SERVICE_REGISTRY`. Alluxio's own class serves `MASTER`.",
    ),
    property(
        STATIC_CONFIG_FILE,
        Some("${alluxio.conf.dir}/workers"),
        "STATIC: the hosts file, one host per line. Other lines are listed with a warning.",
    ),
    property(
        STATIC_CONFIG_FILE_DOCUMENTED,
        None,
        "STATIC: the hosts file, under the name in Alluxio's documentation. It counts if \
         `alluxio.worker.static.membership.manager.config.file` is not set.",
    ),
    property(
        CLUSTER_NAME,
        Some("DefaultAlluxioCluster"),
        "The name of the cluster. It is part of every key in etcd.",
    ),
    property(
        ETCD_ENDPOINTS,
        None,
        "URLs of etcd's members, `http://host:port`, separated by commas. `https://` alone does \
         not enable TLS.",
    ),
    property(ETCD_USERNAME, None, "The etcd user. It needs a password."),
    property(ETCD_PASSWORD, None, "The password of the etcd user."),
    property(
        ETCD_TLS_ENABLED,
        Some("false"),
        "Whether to use TLS, also for `http://` endpoints.",
    ),
    property(
        ETCD_TLS_CA_CERT,
        None,
        "PEM file of the authorities that may have issued etcd's certificate. Without it, the \
         library trusts the system's authorities.",
    ),
    property(
        ETCD_TLS_CLIENT_CERT,
        None,
        "PEM file of the client certificate.",
    ),
    property(
        ETCD_TLS_CLIENT_KEY,
        None,
        "PEM file of the client certificate's private key: PKCS#8, PKCS#1 or SEC1.",
    ),
    property(
        ETCD_TLS_CLIENT_KEY_PASSWORD,
        None,
        "Password of the private key, if the key is encrypted (PKCS#8, PBES2).",
    ),
    property(
        ETCD_TLS_NO_ENDPOINT_IDENTIFICATION,
        Some("false"),
        "Whether etcd's certificate may be for another host than the endpoint's. It needs \
         `alluxio.etcd.tls.ca.cert`.",
    ),
    property(
        WORKER_FAILURE_DETECTION_TIMEOUT,
        Some("2min"),
        "How long a worker may be silent before it is lost: the TTL of its lease.",
    ),
    property(
        K8S_ENV_DEPLOYMENT,
        Some("false"),
        "Whether a worker may come back with another address, as in Kubernetes.",
    ),
    property(
        WORKER_CONTAINER_HOSTNAME,
        None,
        "STATIC: the host name of the workers' container.",
    ),
    Property {
        alias: Some("alluxio.worker.port"),
        ..property(
            WORKER_RPC_PORT,
            Some("29999"),
            "STATIC: the RPC port of every worker.",
        )
    },
    property(
        WORKER_DATA_PORT,
        Some("29997"),
        "STATIC: the data port of every worker.",
    ),
    property(
        WORKER_WEB_PORT,
        Some("30000"),
        "STATIC: the web port of every worker.",
    ),
    property(
        WORKER_HTTP_SERVER_PORT,
        Some("28080"),
        "STATIC: the HTTP server port of every worker.",
    ),
    property(
        USER_NETTY_DATA_TRANSMISSION_ENABLED,
        Some("true"),
        "STATIC: whether workers serve data through Netty on the data port. If not, the RPC port \
         is the data port.",
    ),
    property(
        LEAVE_ON_SHUTDOWN,
        Some("true"),
        "Whether closing the manager, or the exit of a JVM, ends a worker's registration at once. \
         If not, the worker stays live until its lease ends.",
    ),
    property(
        OPERATION_TIMEOUT,
        Some("10s"),
        "The longest time that one operation may take.",
    ),
    property(
        VIEW_MAX_STALENESS,
        None,
        "The greatest age of a view that listings return. The default is \
         `alluxio.worker.failure.detection.timeout`.",
    ),
    property(
        STATIC_PROBE_INTERVAL,
        Some("0"),
        "STATIC: how often the RPC port of each worker is probed, at least `100ms`. A live worker \
         that fails two probes in a row is lost, and so is one that fails its first probe. A \
         worker that was not probed yet counts as live. With `0` no worker is probed, and all \
         count as live.",
    ),
    property(
        READ_MODE,
        Some("CACHED"),
        "`CACHED` lists from memory. `LINEARIZABLE` asks etcd at each listing, and lists at least \
         what etcd had when the call began.",
    ),
];

/// Returns the property with this name or alias.
pub fn find(name: &str) -> Option<&'static Property> {
    PROPERTIES
        .iter()
        .find(|property| property.name == name || property.alias == Some(name))
}

/// The prefixes that only the membership's properties have. Every property of Alluxio 308 to 313
/// with such a prefix is in [`PROPERTIES`]; `names_and_defaults_are_alluxios` compares them.
const PREFIXES: [&str; 4] = [
    "alluxio.etcd",
    "alluxio.cluster",
    "alluxio.worker.membership",
    "alluxio.worker.static",
];

/// Whether a name looks like a property of the membership but is not one.
pub(super) fn is_unknown(name: &str) -> bool {
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && find(name).is_none()
}

/// Returns the most similar property name, if one is similar enough.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    PROPERTIES
        .iter()
        .map(|property| (strsim::jaro_winkler(property.name, name), property.name))
        .filter(|(similarity, _)| *similarity > 0.9)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::golden::vectors;

    #[test]
    fn misspelt_names_have_a_nearest_one() {
        for (name, known) in [
            ("alluxio.etcd.tls.enable", Some(ETCD_TLS_ENABLED)),
            ("alluxio.etcd.endpoint", Some(ETCD_ENDPOINTS)),
            ("alluxio.etcd.user", Some(ETCD_USERNAME)),
            ("alluxio.clustername", Some(CLUSTER_NAME)),
            ("alluxio.worker.membership.type", Some(MEMBERSHIP_TYPE)),
            (
                "alluxio.worker.static.config",
                Some(STATIC_CONFIG_FILE_DOCUMENTED),
            ),
        ] {
            assert!(is_unknown(name), "{name}");
            assert_eq!(nearest(name), known, "{name}");
        }
        assert!(is_unknown("alluxio.etcdx"));
        for property in PROPERTIES {
            assert!(!is_unknown(property.name), "{}", property.name);
        }
        // Properties of Alluxio that this library does not read.
        for name in [
            "alluxio.worker.rpc.port.x",
            "alluxio.worker.identity.uuid",
            "alluxio.user.x",
        ] {
            assert!(!is_unknown(name), "{name}");
        }
    }

    #[test]
    fn names_and_defaults_are_alluxios() {
        let rows = vectors("defaults.jsonl");
        for row in &rows {
            let property = find(row["name"].as_str().unwrap()).expect("known");
            assert_eq!(Some(property.name), row["stands_for"].as_str());
            assert_eq!(property.default, row["default"].as_str(), "{row}");
        }
        // Every other property is this library's own, or one that Alluxio does not know.
        let own = PROPERTIES
            .iter()
            .filter(|property| rows.iter().all(|row| row["name"] != property.name));
        for property in own {
            assert!(
                property.name.starts_with(NATIVE_PREFIX)
                    || property.name.starts_with("alluxio.etcd.tls.")
                    || property.name == STATIC_CONFIG_FILE_DOCUMENTED,
                "{}",
                property.name
            );
        }
    }
}
