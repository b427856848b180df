//! Configuration from Alluxio's properties.
//!
//! [`Properties`] holds names and texts as they were set. [`Config`] holds the checked values.
//! Names, defaults and formats are Alluxio's own, see [`names`]. The names
//! `alluxio.membership.native.*` belong to this library.

mod builder;
mod endpoints;
#[cfg(test)]
mod growth;
pub mod names;
mod properties;
mod secret;
mod site_file;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::log;

pub use builder::ConfigBuilder;
pub use properties::Properties;
pub use secret::Secret;

/// The values of `alluxio.worker.membership.manager.type` that this library serves. Alluxio's own
/// class serves `MASTER`, the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MembershipType {
    /// The workers of a hosts file.
    Static,
    /// Registered and live workers in etcd.
    Etcd,
    /// Live workers in etcd.
    ServiceRegistry,
}

/// What a listing may return: `alluxio.membership.native.read.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadMode {
    /// The view in memory, which the watch keeps up to date.
    Cached,
    /// A view that shows at least what etcd had at the time of the call.
    Linearizable,
}

/// An etcd user.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// `alluxio.etcd.username`
    pub username: String,
    /// `alluxio.etcd.password`
    pub password: Secret,
}

/// The files for TLS to etcd. They are in PEM format. The library reads them again for every
/// connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TlsConfig {
    /// The authorities that may have signed etcd's certificate. If there is no file, the library
    /// trusts the system's authorities.
    pub ca_file: Option<PathBuf>,
    /// The certificate to present if etcd asks for one.
    pub client_certificate: Option<ClientCertificate>,
    /// Whether etcd's certificate must be valid for the host of the endpoint.
    pub checks_name: bool,
}

/// The certificate of this process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientCertificate {
    /// The certificate, and the intermediate certificates up to an authority that etcd trusts.
    pub certificate_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
    /// The password of the key, if the key is encrypted.
    pub key_password: Option<Secret>,
}

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the cluster's workers are listed.
    pub backend: Backend,
    /// Whether closing the manager that joined a worker ends the worker's registration at once. If
    /// not, the worker is listed as live until its lease ends, as with Alluxio's own class.
    pub leave_on_shutdown: bool,
}

/// Where the cluster's workers are listed.
#[derive(Debug, Clone)]
pub enum Backend {
    /// In a hosts file.
    Static(StaticConfig),
    /// In etcd.
    Etcd(EtcdConfig),
}

/// The configuration of a STATIC cluster: its hosts file, and the values that all of its workers
/// share.
#[derive(Debug, Clone)]
pub struct StaticConfig {
    /// The hosts file.
    pub hosts_file: PathBuf,
    /// Host name of the container; empty if there is none.
    pub container_host: String,
    /// RPC port.
    pub rpc_port: i32,
    /// Data port: the port of the Netty data service, or the RPC port without Netty.
    pub data_port: i32,
    /// Port of the Netty data service, or 0 if Netty is off.
    pub netty_data_port: i32,
    /// Port of the web server.
    pub web_port: i32,
    /// Port of the HTTP server.
    pub http_server_port: i32,
    /// How often the RPC port of each worker is probed. `None` means never, and all workers count
    /// as live.
    pub probe_interval: Option<Duration>,
    /// The longest time of one operation. The first listing waits for the first probes.
    pub operation_timeout: Duration,
}

/// The shortest interval, so that probes do not overload the workers.
const LEAST_PROBE_INTERVAL: Duration = Duration::from_millis(100);

/// The configuration of a cluster in etcd.
#[derive(Debug, Clone)]
pub struct EtcdConfig {
    /// Whether the type is SERVICE_REGISTRY: workers have only a live key and are never listed as
    /// lost.
    pub service_registry: bool,
    /// The name of the cluster, which is part of every key.
    pub cluster_name: String,
    /// `http://host:port`, `https://host:port` with TLS, in the order of the property, without
    /// duplicates.
    pub endpoints: Vec<String>,
    /// The user, if one is configured.
    pub credentials: Option<Credentials>,
    /// The TLS configuration. Without it the connections are plain text, even for `https://`
    /// endpoints.
    pub tls: Option<TlsConfig>,
    /// Time to live of a worker's lease, in whole seconds, at least one. etcd raises a value that
    /// is too short for it.
    pub lease_ttl: Duration,
    /// Whether workers may come back under the same identity with another address.
    pub k8s_deployment: bool,
    /// The longest time of one operation.
    pub operation_timeout: Duration,
    /// The greatest age of a view that listings return.
    pub max_staleness: Duration,
    /// What a listing may return.
    pub read_mode: ReadMode,
}

/// etcd refuses longer leases.
const MAX_LEASE_TTL: Duration = Duration::from_secs(9_000_000_000);

impl Config {
    /// Resolves and checks the properties that this library needs. Ignores Alluxio's other
    /// properties.
    ///
    /// # Errors
    ///
    /// `MissingConfig` for a property without a value and a default, `InvalidConfig` for every
    /// other invalid value. The error names the property, its value and the accepted values.
    pub fn from_properties(properties: &Properties) -> Result<Config> {
        properties.check_names()?;
        properties.warn_about_unknown_names();
        let leave_on_shutdown = properties.boolean(names::LEAVE_ON_SHUTDOWN)?;
        let backend = match membership_type(properties)? {
            MembershipType::Static => Backend::Static(static_config(properties)?),
            MembershipType::Etcd => Backend::Etcd(etcd_config(properties, false)?),
            MembershipType::ServiceRegistry => Backend::Etcd(etcd_config(properties, true)?),
        };
        Ok(Config {
            backend,
            leave_on_shutdown,
        })
    }

    /// The longest time of one operation.
    pub(crate) fn operation_timeout(&self) -> Duration {
        match &self.backend {
            Backend::Static(config) => config.operation_timeout,
            Backend::Etcd(config) => config.operation_timeout,
        }
    }

    /// The files that a manager reads when it opens.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        match &self.backend {
            Backend::Static(config) => vec![config.hosts_file.clone()],
            Backend::Etcd(config) => config.tls.as_ref().map_or_else(Vec::new, TlsConfig::files),
        }
    }
}

impl TlsConfig {
    /// The files that are read for each connection.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let own = self.client_certificate.iter();
        let own = own.flat_map(|own| [own.certificate_file.clone(), own.key_file.clone()]);
        self.ca_file.iter().cloned().chain(own).collect()
    }
}

fn membership_type(properties: &Properties) -> Result<MembershipType> {
    let name = names::MEMBERSHIP_TYPE;
    let accepted = [
        ("STATIC", Some(MembershipType::Static)),
        ("ETCD", Some(MembershipType::Etcd)),
        ("SERVICE_REGISTRY", Some(MembershipType::ServiceRegistry)),
        ("MASTER", None),
    ];
    properties.choice(name, &accepted)?.ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidConfig,
            format!(
                "{name} is MASTER, which is also its default, but this library serves only STATIC, \
                 ETCD and SERVICE_REGISTRY. Set it to one of these."
            ),
        )
    })
}

fn static_config(properties: &Properties) -> Result<StaticConfig> {
    let rpc_port = properties.port(names::WORKER_RPC_PORT)?;
    // As in Alluxio, a configured data port of 0 stays 0 while Netty is on.
    let (data_port, netty_data_port) =
        match properties.boolean(names::USER_NETTY_DATA_TRANSMISSION_ENABLED)? {
            true => {
                let port = properties.port(names::WORKER_DATA_PORT)?;
                (port, port)
            }
            false => (rpc_port, 0),
        };
    Ok(StaticConfig {
        hosts_file: hosts_file(properties)?.into(),
        container_host: properties
            .text(names::WORKER_CONTAINER_HOSTNAME)?
            .unwrap_or_default(),
        rpc_port,
        data_port,
        netty_data_port,
        web_port: properties.port(names::WORKER_WEB_PORT)?,
        http_server_port: properties.port(names::WORKER_HTTP_SERVER_PORT)?,
        probe_interval: probe_interval(properties)?,
        operation_timeout: properties.positive_duration(names::OPERATION_TIMEOUT)?,
    })
}

fn probe_interval(properties: &Properties) -> Result<Option<Duration>> {
    let name = names::STATIC_PROBE_INTERVAL;
    match properties.duration(name)? {
        Duration::ZERO => Ok(None),
        interval if interval >= LEAST_PROBE_INTERVAL => Ok(Some(interval)),
        _ => Err(properties.invalid(name, "0 for never, or at least 100ms")),
    }
}

/// Alluxio's documentation uses another name for this property. The other name has no default, and
/// counts only if the real name is not set. An Alluxio JVM passes all its properties, so a value
/// that equals the default counts as not set.
fn hosts_file(properties: &Properties) -> Result<String> {
    let name = names::STATIC_CONFIG_FILE;
    let file = properties.required(name)?;
    if file != properties.resolved_default(name)? {
        return Ok(file);
    }
    let documented = properties.text(names::STATIC_CONFIG_FILE_DOCUMENTED)?;
    Ok(documented.unwrap_or(file))
}

fn etcd_config(properties: &Properties, service_registry: bool) -> Result<EtcdConfig> {
    let detection_timeout = properties.duration(names::WORKER_FAILURE_DETECTION_TIMEOUT)?;
    if detection_timeout > MAX_LEASE_TTL {
        return Err(properties.invalid(
            names::WORKER_FAILURE_DETECTION_TIMEOUT,
            "at most 9000000000s, the longest lease of etcd",
        ));
    }
    let max_staleness = match properties.text(names::VIEW_MAX_STALENESS)? {
        Some(_) => properties.positive_duration(names::VIEW_MAX_STALENESS)?,
        None => detection_timeout.max(Duration::from_secs(1)),
    };
    let tls = tls(properties)?;
    let cluster_name = cluster_name(properties)?;
    let urls = properties.list(names::ETCD_ENDPOINTS)?;
    let endpoints = endpoints::parse(&urls, tls.is_some())?;
    let credentials = credentials(properties)?;
    if tls.is_none() {
        check_plain_text(properties, &urls, credentials.is_some())?;
    }
    Ok(EtcdConfig {
        service_registry,
        cluster_name,
        endpoints,
        credentials,
        tls,
        lease_ttl: Duration::from_secs(detection_timeout.as_secs().max(1)),
        k8s_deployment: properties.boolean(names::K8S_ENV_DEPLOYMENT)?,
        operation_timeout: properties.positive_duration(names::OPERATION_TIMEOUT)?,
        max_staleness,
        read_mode: properties.choice(
            names::READ_MODE,
            &[
                ("CACHED", ReadMode::Cached),
                ("LINEARIZABLE", ReadMode::Linearizable),
            ],
        )?,
    })
}

/// Returns the name of the cluster. It stands between slashes in the keys. With an empty name, the
/// prefix would match keys of other clusters.
fn cluster_name(properties: &Properties) -> Result<String> {
    let name = properties.required(names::CLUSTER_NAME)?;
    if name.is_empty() {
        return Err(properties.invalid(names::CLUSTER_NAME, "a text that is not empty"));
    }
    Ok(name)
}

fn credentials(properties: &Properties) -> Result<Option<Credentials>> {
    let username = properties.text(names::ETCD_USERNAME)?;
    let password = properties.text(names::ETCD_PASSWORD)?.map(Secret::new);
    match (username, password) {
        (None, None) => Ok(None),
        // A template that was given no user leaves an empty name.
        (Some(username), Some(password)) if username.is_empty() && password.expose().is_empty() => {
            Ok(None)
        }
        (Some(username), Some(_)) if username.is_empty() => Err(properties.invalid(
            names::ETCD_USERNAME,
            "the name of an etcd user, because alluxio.etcd.password is set",
        )),
        (Some(username), Some(password)) => Ok(Some(Credentials { username, password })),
        _ => Err(Error::new(
            ErrorKind::InvalidConfig,
            "Need to set both username/password for etcd connection, only one is set.",
        )),
    }
}

fn tls(properties: &Properties) -> Result<Option<TlsConfig>> {
    if !properties.boolean(names::ETCD_TLS_ENABLED)? {
        return Ok(None);
    }
    // A template that was given no file leaves an empty text.
    let text = |name| Ok(properties.text(name)?.filter(|text| !text.is_empty()));
    let (certificate, key) = (names::ETCD_TLS_CLIENT_CERT, names::ETCD_TLS_CLIENT_KEY);
    let client_certificate = match (text(certificate)?, text(key)?) {
        (None, None) => None,
        (Some(certificate_file), Some(key_file)) => Some(ClientCertificate {
            certificate_file: certificate_file.into(),
            key_file: key_file.into(),
            key_password: text(names::ETCD_TLS_CLIENT_KEY_PASSWORD)?.map(Secret::new),
        }),
        (with_certificate, _) => {
            let missing = if with_certificate.is_some() {
                key
            } else {
                certificate
            };
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("{certificate} and {key} belong together, but {missing} is not set"),
            ));
        }
    };
    let ca_file = text(names::ETCD_TLS_CA_CERT)?.map(PathBuf::from);
    let name_not_checked = names::ETCD_TLS_NO_ENDPOINT_IDENTIFICATION;
    let checks_name = !properties.boolean(name_not_checked)?;
    if !checks_name {
        let Some(ca_file) = &ca_file else {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!(
                    "{name_not_checked} is true, but {} is not set: any host with a certificate \
                     of any public authority could be etcd. Set {} to a file with the authority \
                     of etcd alone.",
                    names::ETCD_TLS_CA_CERT,
                    names::ETCD_TLS_CA_CERT,
                ),
            ));
        };
        log::warn!(
            "Any host with a certificate of an authority in {} may be etcd, since \
             {name_not_checked} is true",
            ca_file.display()
        );
    }
    Ok(Some(TlsConfig {
        ca_file,
        client_certificate,
        checks_name,
    }))
}

/// The properties of TLS, except the one that enables it.
const OF_TLS: [&str; 5] = [
    names::ETCD_TLS_CA_CERT,
    names::ETCD_TLS_CLIENT_CERT,
    names::ETCD_TLS_CLIENT_KEY,
    names::ETCD_TLS_CLIENT_KEY_PASSWORD,
    names::ETCD_TLS_NO_ENDPOINT_IDENTIFICATION,
];

/// Refuses a configuration without TLS that seems to intend TLS, unless it disables TLS explicitly.
/// The password would be readable on the way to etcd.
fn check_plain_text(properties: &Properties, urls: &[String], has_password: bool) -> Result<()> {
    let is_set = |name: &str| properties.get(name).is_some_and(|text| !text.is_empty());
    let of_tls = OF_TLS.into_iter().filter(|name| is_set(name));
    let of_tls = of_tls.collect::<Vec<_>>().join(", ");
    let meant = match (has_password, of_tls.as_str()) {
        (true, _) => names::ETCD_PASSWORD,
        (false, of_tls) => of_tls,
    };
    let enabled = names::ETCD_TLS_ENABLED;
    if properties.get(enabled).is_none()
        && !meant.is_empty()
        && urls.iter().any(|url| endpoints::is_https(url))
    {
        return Err(Error::new(
            ErrorKind::InvalidConfig,
            format!(
                "{enabled} is not set, but {} has an https:// URL, and {meant} is set. Set \
                 {enabled} to true for TLS, or to false to send everything to etcd in plain text, \
                 as Alluxio's own class does.",
                names::ETCD_ENDPOINTS,
            ),
        ));
    }
    if !of_tls.is_empty() {
        log::warn!(
            "{of_tls} has no effect, since {enabled} is not true: everything is sent to etcd in \
             plain text"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    fn properties(values: &[(&str, &str)]) -> Properties {
        let mut properties = Properties::new();
        for (name, value) in values {
            properties.set(*name, *value);
        }
        properties
    }

    fn config(values: &[(&str, &str)]) -> Result<Config> {
        Config::from_properties(&properties(values))
    }

    fn etcd(values: &[(&str, &str)]) -> Result<EtcdConfig> {
        let mut all = vec![
            (names::MEMBERSHIP_TYPE, "ETCD"),
            (names::ETCD_ENDPOINTS, "http://h"),
        ];
        all.extend(values);
        config(&all).map(|config| match config.backend {
            Backend::Etcd(etcd) => etcd,
            other => panic!("{other:?}"),
        })
    }

    fn static_of(values: &[(&str, &str)]) -> Result<StaticConfig> {
        let mut all = vec![(names::MEMBERSHIP_TYPE, "STATIC")];
        all.extend(values);
        config(&all).map(|config| match config.backend {
            Backend::Static(hosts) => hosts,
            other => panic!("{other:?}"),
        })
    }

    fn invalid<T: fmt::Debug>(result: Result<T>) -> String {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
        error.to_string()
    }

    #[test]
    fn defaults_of_etcd() {
        let etcd = etcd(&[]).unwrap();
        assert!(!etcd.service_registry);
        assert_eq!(etcd.cluster_name, "DefaultAlluxioCluster");
        assert_eq!(etcd.endpoints, ["http://h:2379"]);
        assert_eq!(etcd.credentials, None);
        assert_eq!(etcd.lease_ttl, Duration::from_secs(120));
        assert!(!etcd.k8s_deployment);
        assert_eq!(etcd.operation_timeout, Duration::from_secs(10));
        assert_eq!(etcd.max_staleness, Duration::from_secs(120));
        assert_eq!(etcd.read_mode, ReadMode::Cached);
        let config = config(&[
            (names::MEMBERSHIP_TYPE, "service_registry"),
            (names::ETCD_ENDPOINTS, "http://h"),
        ])
        .unwrap();
        assert!(config.leave_on_shutdown);
        assert!(matches!(config.backend, Backend::Etcd(etcd) if etcd.service_registry));
    }

    #[test]
    fn everything_of_etcd_can_be_set() {
        let etcd = etcd(&[
            ("alluxio.cluster.name", "ns-alluxio"),
            ("alluxio.etcd.endpoints", " https://a:1 , http://b ,, "),
            ("alluxio.etcd.username", "root"),
            ("alluxio.etcd.password", "secret"),
            ("alluxio.worker.failure.detection.timeout", "15999ms"),
            ("alluxio.k8s.env.deployment", "TRUE"),
            ("alluxio.membership.native.operation.timeout", "3s"),
            ("alluxio.membership.native.view.max.staleness", "1min"),
            ("alluxio.membership.native.read.mode", "linearizable"),
            ("alluxio.etcd.tls.enabled", "TRUE"),
            ("alluxio.etcd.tls.ca.cert", "/ca.pem"),
            ("alluxio.etcd.tls.client.cert", "/client.pem"),
            ("alluxio.etcd.tls.client.key", "/key.pem"),
            ("alluxio.etcd.tls.client.key.password", "secret"),
            ("alluxio.etcd.tls.client.no.endpoint.identification", "true"),
            ("some.other.property", "${not.resolved}"),
        ])
        .unwrap();
        assert_eq!(etcd.cluster_name, "ns-alluxio");
        assert_eq!(etcd.endpoints, ["https://a:1", "https://b:2379"]);
        assert_eq!(
            etcd.tls,
            Some(TlsConfig {
                ca_file: Some("/ca.pem".into()),
                client_certificate: Some(ClientCertificate {
                    certificate_file: "/client.pem".into(),
                    key_file: "/key.pem".into(),
                    key_password: Some(Secret::new("secret".into())),
                }),
                checks_name: false,
            })
        );
        assert_eq!(etcd.lease_ttl, Duration::from_secs(15));
        assert!(etcd.k8s_deployment);
        assert_eq!(etcd.operation_timeout, Duration::from_secs(3));
        assert_eq!(etcd.max_staleness, Duration::from_secs(60));
        assert_eq!(etcd.read_mode, ReadMode::Linearizable);
        assert_eq!(
            etcd.credentials
                .as_ref()
                .map(|c| (c.username.as_str(), c.password.expose())),
            Some(("root", "secret"))
        );
        assert!(!format!("{etcd:?}").contains("secret"));
    }

    #[test]
    fn staleness_follows_the_detection_timeout() {
        let etcd = |timeout| etcd(&[(names::WORKER_FAILURE_DETECTION_TIMEOUT, timeout)]).unwrap();
        assert_eq!(etcd("15s").max_staleness, Duration::from_secs(15));
        assert_eq!(etcd("0").lease_ttl, Duration::from_secs(1));
        assert_eq!(etcd("-5s").lease_ttl, Duration::from_secs(1));
        assert_eq!(etcd("999").lease_ttl, Duration::from_secs(1));
        assert_eq!(etcd("0").max_staleness, Duration::from_secs(1));
    }

    #[test]
    fn credentials_come_in_pairs() {
        let only_one = "Need to set both username/password for etcd connection, only one is set.";
        assert_eq!(
            invalid(etcd(&[("alluxio.etcd.username", "root")])),
            only_one
        );
        assert_eq!(
            invalid(etcd(&[("alluxio.etcd.password", "secret")])),
            only_one
        );
        let none = [("alluxio.etcd.username", ""), ("alluxio.etcd.password", "")];
        assert_eq!(etcd(&none).unwrap().credentials, None);
        let nameless = [
            ("alluxio.etcd.username", ""),
            ("alluxio.etcd.password", "secret"),
        ];
        let message = invalid(etcd(&nameless));
        assert!(message.contains("alluxio.etcd.username"), "{message}");
        assert!(!message.contains("secret"), "{message}");
    }

    #[test]
    fn missing_endpoints_are_reported_as_alluxio_does() {
        for values in [
            &[(names::MEMBERSHIP_TYPE, "ETCD")][..],
            &[
                (names::MEMBERSHIP_TYPE, "ETCD"),
                ("alluxio.etcd.username", "root"),
            ],
        ] {
            let error = config(values).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::MissingConfig);
            assert_eq!(
                error.message(),
                "No value set for configuration key alluxio.etcd.endpoints"
            );
        }
    }

    #[test]
    fn tls_is_switched_on_by_its_property_alone() {
        let tls = |values: &[(&str, &str)]| etcd(values).unwrap().tls;
        let ca = ("alluxio.etcd.tls.ca.cert", "/ca.pem");
        assert_eq!(tls(&[(names::ETCD_ENDPOINTS, "https://h")]), None);
        assert_eq!(tls(&[ca]), None);
        let on = ("alluxio.etcd.tls.enabled", "true");
        let plain = TlsConfig {
            ca_file: None,
            client_certificate: None,
            checks_name: true,
        };
        assert_eq!(tls(&[on]), Some(plain.clone()));
        // The result of a template without values.
        let empty = [
            on,
            ("alluxio.etcd.tls.ca.cert", ""),
            ("alluxio.etcd.tls.client.cert", ""),
            ("alluxio.etcd.tls.client.key", ""),
            ("alluxio.etcd.tls.client.key.password", ""),
        ];
        assert_eq!(tls(&empty), Some(plain));
    }

    #[test]
    fn plain_text_where_tls_may_be_meant_must_be_asked_for() {
        let https = (names::ETCD_ENDPOINTS, "http://a,HTTPS://b");
        let user = [
            ("alluxio.etcd.username", "u"),
            ("alluxio.etcd.password", "x-secret"),
        ];
        for meant in [
            &user[..],
            &[("alluxio.etcd.tls.ca.cert", "/ca.pem")],
            &[(
                "alluxio.etcd.tls.client.no.endpoint.identification",
                "false",
            )],
        ] {
            let unset = [&[https], meant].concat();
            let message = invalid(etcd(&unset));
            for part in [
                "alluxio.etcd.tls.enabled is not set",
                meant[meant.len() - 1].0,
                "false",
            ] {
                assert!(message.contains(part), "not \"{part}\" in: {message}");
            }
            assert!(!message.contains("secret"), "{message}");
            let off = [&unset[..], &[("alluxio.etcd.tls.enabled", "false")]].concat();
            let plain = etcd(&off).unwrap();
            assert_eq!((plain.tls, &*plain.endpoints[1]), (None, "http://b:2379"));
            // Without https, nothing shows that TLS is intended.
            assert_eq!(etcd(meant).unwrap().tls, None);
        }
        // The result of a template without values.
        let empty = [https, ("alluxio.etcd.tls.ca.cert", "")];
        assert_eq!(etcd(&empty).unwrap().tls, None);
    }

    #[test]
    fn any_public_authority_is_not_enough_where_the_name_does_not_count() {
        let on = ("alluxio.etcd.tls.enabled", "true");
        let unchecked = ("alluxio.etcd.tls.client.no.endpoint.identification", "true");
        let message = invalid(etcd(&[on, unchecked]));
        assert!(
            message.contains("alluxio.etcd.tls.ca.cert is not set"),
            "{message}"
        );
        let own = [on, unchecked, ("alluxio.etcd.tls.ca.cert", "/ca.pem")];
        assert!(!etcd(&own).unwrap().tls.unwrap().checks_name);
    }

    #[test]
    fn client_certificate_and_key_come_in_pairs() {
        let (certificate, key) = (
            "alluxio.etcd.tls.client.cert",
            "alluxio.etcd.tls.client.key",
        );
        for (set, missing) in [(certificate, key), (key, certificate)] {
            let message = invalid(etcd(&[("alluxio.etcd.tls.enabled", "true"), (set, "/f")]));
            assert!(
                message.ends_with(&format!("{missing} is not set")),
                "{message}"
            );
        }
    }

    #[test]
    fn errors_name_the_property_the_value_and_what_would_do() {
        for (name, value, accepted) in [
            (
                "alluxio.worker.membership.manager.type",
                "NOOP",
                "STATIC, ETCD, SERVICE_REGISTRY or MASTER",
            ),
            ("alluxio.k8s.env.deployment", "yes", "true or false"),
            (
                "alluxio.membership.native.leave.on.shutdown",
                "0",
                "true or false",
            ),
            (
                "alluxio.membership.native.read.mode",
                "FAST",
                "CACHED or LINEARIZABLE",
            ),
            (
                "alluxio.membership.native.operation.timeout",
                "0",
                "longer than 0",
            ),
            (
                "alluxio.membership.native.operation.timeout",
                "-1s",
                "longer than 0",
            ),
            (
                "alluxio.membership.native.view.max.staleness",
                "1.5s",
                "such as 500ms",
            ),
            (
                "alluxio.worker.failure.detection.timeout",
                "99999999999d",
                "9000000000s",
            ),
            (
                "alluxio.worker.failure.detection.timeout",
                "2 min",
                "such as 500ms",
            ),
            ("alluxio.cluster.name", "", "not empty"),
            (
                "alluxio.etcd.endpoints",
                "http://h:99999",
                "http://host:2379",
            ),
        ] {
            let message = invalid(etcd(&[(name, value)]));
            assert!(message.contains(name), "{message}");
            assert!(message.contains(value), "{message}");
            assert!(message.contains(accepted), "{message}");
        }
        for value in ["x", "65536", "-1", "1.0", ""] {
            let message = invalid(static_of(&[("alluxio.worker.web.port", value)]));
            assert!(message.contains("alluxio.worker.web.port"), "{message}");
            assert!(message.contains("0 to 65535"), "{message}");
        }
    }

    #[test]
    fn stock_text_of_a_bad_duration_is_kept() {
        let error = etcd(&[(names::WORKER_FAILURE_DETECTION_TIMEOUT, "5x")]).unwrap_err();
        assert_eq!(error.message(), "Fail to parse 5x to milliseconds");
    }

    #[test]
    fn types_that_alluxio_keeps_itself() {
        for values in [&[][..], &[(names::MEMBERSHIP_TYPE, "master")]] {
            let message = invalid(config(values));
            assert!(
                message.contains("STATIC, ETCD and SERVICE_REGISTRY"),
                "{message}"
            );
        }
    }

    #[test]
    fn typos_in_our_own_names_are_reported() {
        let message = invalid(etcd(&[("alluxio.membership.native.read.mod", "CACHED")]));
        assert!(
            message.contains("alluxio.membership.native.read.mod"),
            "{message}"
        );
        assert!(
            message.contains("alluxio.membership.native.read.mode"),
            "{message}"
        );
    }

    #[test]
    fn defaults_of_static() {
        let hosts = static_of(&[("alluxio.home", "/opt/a")]).unwrap();
        assert_eq!(hosts.hosts_file, PathBuf::from("/opt/a/conf/workers"));
        assert_eq!(hosts.container_host, "");
        assert_eq!(hosts.rpc_port, 29999);
        assert_eq!((hosts.data_port, hosts.netty_data_port), (29997, 29997));
        assert_eq!((hosts.web_port, hosts.http_server_port), (30000, 28080));
    }

    #[test]
    fn everything_of_static_can_be_set() {
        let hosts = static_of(&[
            ("alluxio.conf.dir", "/c"),
            ("alluxio.worker.port", "1"),
            ("alluxio.worker.data.port", "2"),
            ("alluxio.worker.web.port", "+3"),
            ("alluxio.worker.http.server.port", "4"),
            ("alluxio.worker.container.hostname", "box"),
            ("alluxio.user.netty.data.transmission.enabled", "false"),
        ])
        .unwrap();
        assert_eq!(hosts.hosts_file, PathBuf::from("/c/workers"));
        assert_eq!(hosts.container_host, "box");
        assert_eq!(
            (hosts.rpc_port, hosts.data_port, hosts.netty_data_port),
            (1, 1, 0)
        );
        assert_eq!((hosts.web_port, hosts.http_server_port), (3, 4));
    }

    #[test]
    fn a_data_port_of_0_stays_0_while_netty_is_on() {
        let hosts = static_of(&[("alluxio.worker.data.port", "0")]).unwrap();
        assert_eq!((hosts.data_port, hosts.netty_data_port), (0, 0));
    }

    #[test]
    fn both_names_of_the_hosts_file_work() {
        let real = "alluxio.worker.static.membership.manager.config.file";
        let documented = "alluxio.worker.static.config.file";
        let file = |values: &[(&str, &str)]| static_of(values).unwrap().hosts_file;
        assert_eq!(file(&[(documented, "/d")]), PathBuf::from("/d"));
        assert_eq!(
            file(&[(real, "/r"), (documented, "/d")]),
            PathBuf::from("/r")
        );
        // The properties as an Alluxio JVM passes them.
        let handed_over = [
            ("alluxio.home", "/a"),
            (real, "/a/conf/workers"),
            (documented, "/d"),
        ];
        assert_eq!(file(&handed_over), PathBuf::from("/d"));
    }
}
