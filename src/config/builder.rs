//! A configuration from typed values, for programs that have no properties file.

use std::path::Path;
use std::time::Duration;

use super::{Config, Properties, ReadMode, names};
use crate::error::{Error, ErrorKind, Result};

/// Builds a [`Config`] from typed values.
///
/// Each method sets the Alluxio property that its description names. Other properties have the
/// defaults of [`names::PROPERTIES`].
#[derive(Debug, Clone)]
#[must_use = "build() makes the configuration"]
pub struct ConfigBuilder {
    properties: Properties,
    /// The first path that is not UTF-8, with its property.
    unusable: Option<String>,
}

impl Config {
    /// Starts the configuration of a cluster in etcd, with the URLs of etcd's members:
    /// `http://host:port`.
    pub fn etcd<I>(endpoints: I) -> ConfigBuilder
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let mut urls = String::new();
        for endpoint in endpoints {
            if !urls.is_empty() {
                urls.push(',');
            }
            urls.push_str(endpoint.as_ref());
        }
        ConfigBuilder::of("ETCD").property(names::ETCD_ENDPOINTS, urls)
    }

    /// Starts the configuration of a cluster whose workers are listed in a hosts file.
    pub fn static_hosts(file: impl AsRef<Path>) -> ConfigBuilder {
        ConfigBuilder::of("STATIC").file(names::STATIC_CONFIG_FILE, file.as_ref())
    }
}

impl ConfigBuilder {
    fn of(membership_type: &str) -> Self {
        ConfigBuilder {
            properties: Properties::new(),
            unusable: None,
        }
        .property(names::MEMBERSHIP_TYPE, membership_type)
    }

    /// Sets a property, with Alluxio's name and in Alluxio's format.
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.set(name, value);
        self
    }

    /// Sets the name of the cluster: `alluxio.cluster.name`.
    pub fn cluster(self, name: impl Into<String>) -> Self {
        self.property(names::CLUSTER_NAME, name)
    }

    /// Sets the TTL of a worker's lease, after which a silent worker is lost:
    /// `alluxio.worker.failure.detection.timeout`. Whole seconds, at least one.
    pub fn lease_ttl(self, ttl: Duration) -> Self {
        self.duration(names::WORKER_FAILURE_DETECTION_TIMEOUT, ttl)
    }

    /// Sets the user of etcd: `alluxio.etcd.username` and `alluxio.etcd.password`.
    pub fn credentials(self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.property(names::ETCD_USERNAME, user)
            .property(names::ETCD_PASSWORD, password)
    }

    /// Enables TLS: `alluxio.etcd.tls.enabled`. Without a file, the library trusts the system's
    /// authorities.
    pub fn tls(self, ca_file: Option<&Path>) -> Self {
        let enabled = self.property(names::ETCD_TLS_ENABLED, "true");
        match ca_file {
            Some(file) => enabled.file(names::ETCD_TLS_CA_CERT, file),
            None => enabled,
        }
    }

    /// Sets the client certificate and its key, both PEM files: `alluxio.etcd.tls.client.cert` and
    /// `alluxio.etcd.tls.client.key`.
    pub fn client_certificate(self, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.file(names::ETCD_TLS_CLIENT_CERT, certificate.as_ref())
            .file(names::ETCD_TLS_CLIENT_KEY, key.as_ref())
    }

    /// Sets whether a worker may come back with another address: `alluxio.k8s.env.deployment`.
    pub fn k8s_deployment(self, is_k8s: bool) -> Self {
        self.property(names::K8S_ENV_DEPLOYMENT, is_k8s.to_string())
    }

    /// Sets the longest time that one operation may take:
    /// `alluxio.membership.native.operation.timeout`.
    pub fn operation_timeout(self, timeout: Duration) -> Self {
        self.duration(names::OPERATION_TIMEOUT, timeout)
    }

    /// Sets the greatest age of a view that listings return:
    /// `alluxio.membership.native.view.max.staleness`.
    pub fn max_staleness(self, age: Duration) -> Self {
        self.duration(names::VIEW_MAX_STALENESS, age)
    }

    /// Sets what listings return: `alluxio.membership.native.read.mode`.
    pub fn read_mode(self, mode: ReadMode) -> Self {
        let name = match mode {
            ReadMode::Cached => "CACHED",
            ReadMode::Linearizable => "LINEARIZABLE",
        };
        self.property(names::READ_MODE, name)
    }

    /// Sets whether closing the manager ends the registrations that it made:
    /// `alluxio.membership.native.leave.on.shutdown`.
    pub fn leave_on_shutdown(self, leaves: bool) -> Self {
        self.property(names::LEAVE_ON_SHUTDOWN, leaves.to_string())
    }

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// The errors of [`Config::from_properties`], and `InvalidConfig` for a path that is not UTF-8.
    pub fn build(self) -> Result<Config> {
        match self.unusable {
            Some(text) => Err(Error::new(ErrorKind::InvalidConfig, text)),
            None => Config::from_properties(&self.properties),
        }
    }

    fn duration(self, name: &str, duration: Duration) -> Self {
        self.property(name, format!("{}ms", duration.as_millis()))
    }

    fn file(mut self, name: &str, file: &Path) -> Self {
        match file.to_str() {
            Some(path) => return self.property(name, path),
            None => {
                let text = format!("{name}: the path {} is not UTF-8", file.display());
                self.unusable.get_or_insert(text);
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::Backend;
    use super::*;

    #[test]
    fn typed_values_become_the_same_configuration_as_properties() {
        let config = Config::etcd(["http://a:1", "http://b:2"])
            .cluster("c")
            .lease_ttl(Duration::from_secs(7))
            .credentials("user", "password")
            .k8s_deployment(true)
            .operation_timeout(Duration::from_millis(1_500))
            .max_staleness(Duration::from_secs(90))
            .read_mode(ReadMode::Linearizable)
            .leave_on_shutdown(false)
            .build()
            .expect("a configuration");
        assert!(!config.leave_on_shutdown);
        let Backend::Etcd(etcd) = config.backend else {
            panic!("in etcd");
        };
        assert_eq!(etcd.endpoints, ["http://a:1", "http://b:2"]);
        assert_eq!(etcd.cluster_name, "c");
        assert_eq!(etcd.lease_ttl, Duration::from_secs(7));
        assert_eq!(etcd.credentials.expect("a user").username, "user");
        assert!(etcd.k8s_deployment);
        assert_eq!(etcd.operation_timeout, Duration::from_millis(1_500));
        assert_eq!(etcd.max_staleness, Duration::from_secs(90));
        assert_eq!(etcd.read_mode, ReadMode::Linearizable);
    }

    #[test]
    fn a_value_that_cannot_be_used_is_an_error_of_its_property() {
        let error = Config::etcd(["a:1"]).build().expect_err("no URL");
        assert!(error.to_string().contains(names::ETCD_ENDPOINTS), "{error}");
        let none: [&str; 0] = [];
        let error = Config::etcd(none).build().expect_err("no endpoint");
        assert!(error.to_string().contains(names::ETCD_ENDPOINTS), "{error}");
        let hosts = Config::static_hosts("/etc/workers").build();
        let Backend::Static(hosts) = hosts.expect("a configuration").backend else {
            panic!("in a file");
        };
        assert_eq!(hosts.hosts_file, Path::new("/etc/workers"));
    }

    #[cfg(unix)]
    #[test]
    fn a_path_that_is_not_utf_8_is_an_error() {
        use std::os::unix::ffi::OsStrExt;
        let path = Path::new(std::ffi::OsStr::from_bytes(b"/\xff"));
        let error = Config::static_hosts(path).build().expect_err("no UTF-8");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.to_string().contains(names::STATIC_CONFIG_FILE));
    }
}
