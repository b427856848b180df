//! Reads `alluxio.etcd.endpoints` as jetcd does: only the host and the port of a URL matter.

use std::collections::HashSet;

use http::Uri;

use crate::config::names::{ETCD_ENDPOINTS, ETCD_PASSWORD, ETCD_TLS_ENABLED, ETCD_USERNAME};
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::log;

const DEFAULT_PORT: u16 = 2379;

/// Returns `http://host:port` of each endpoint, or `https://host:port` with TLS, in their order and
/// without duplicates.
pub(super) fn parse(endpoints: &[String], tls: bool) -> Result<Vec<String>> {
    if endpoints.is_empty() {
        return Err(invalid(
            "Unable to compute target from endpoints: '[]'".to_owned(),
        ));
    }
    let mut normalised = Vec::with_capacity(endpoints.len());
    let mut known = HashSet::with_capacity(endpoints.len());
    let scheme = if tls { "https" } else { "http" };
    for (index, endpoint) in endpoints.iter().enumerate() {
        let host_and_port = host_and_port(endpoint).ok_or_else(|| {
            invalid(format!(
                "Unable to compute target from endpoint: '{}'",
                without_userinfo(endpoint, &endpoints[index + 1..])
            ))
        })?;
        if endpoint.contains('@') {
            log::warn!(
                "The user in {ETCD_ENDPOINTS} for {host_and_port} has no effect; {ETCD_USERNAME} \
                 and {ETCD_PASSWORD} name the user of etcd"
            );
        }
        let target = format!("{scheme}://{host_and_port}");
        match (tls, is_https(endpoint)) {
            (false, true) => log::warn!(
                "{ETCD_ENDPOINTS} has https for {host_and_port}, but everything is sent in plain \
                 text, as with Alluxio; {ETCD_TLS_ENABLED} enables TLS"
            ),
            (true, false) => log::info!(
                "The connection to {host_and_port} of {ETCD_ENDPOINTS} uses TLS, because \
                 {ETCD_TLS_ENABLED} is true"
            ),
            (false, false) | (true, true) => {}
        }
        if known.insert(target.clone()) {
            normalised.push(target);
        }
    }
    Ok(normalised)
}

/// Returns the endpoint as an error may show it: without the user and password of a URL, whatever
/// characters they have. A comma in a password splits one URL into two endpoints.
fn without_userinfo(endpoint: &str, following: &[String]) -> String {
    let (scheme, rest) = match endpoint.find("//") {
        Some(slashes) => endpoint.split_at(slashes + 2),
        None => ("", endpoint),
    };
    let is_end_of_url = |it: &String| it.contains('@') && !it.contains("//");
    match rest.rsplit_once('@') {
        _ if following.iter().any(is_end_of_url) => format!("{scheme}..."),
        Some((_, host)) => format!("{scheme}{host}"),
        None => endpoint.to_owned(),
    }
}

pub(super) fn is_https(endpoint: &str) -> bool {
    endpoint
        .get(..6)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"))
}

fn host_and_port(endpoint: &str) -> Option<String> {
    // Java also parses URLs without a scheme.
    let uri: Uri = match endpoint.strip_prefix("//") {
        Some(_) => format!("http:{endpoint}").parse(),
        None => endpoint.parse(),
    }
    .ok()?;
    uri.scheme()?;
    let host = uri.host().filter(|host| is_host(host))?;
    let (_, port) = uri.authority()?.as_str().rsplit_once(host)?;
    let port = match port.strip_prefix(':') {
        None | Some("") => DEFAULT_PORT,
        Some(port) => port.parse().ok()?,
    };
    Some(format!("{}:{port}", host.to_ascii_lowercase()))
}

/// Whether the text is a name, an IPv4 address, or an IPv6 address in brackets. Unlike Java, this
/// accepts `_` in names.
fn is_host(host: &str) -> bool {
    match host.strip_prefix('[') {
        Some(ipv6) => ipv6
            .strip_suffix(']')
            .is_some_and(|ipv6| ipv6.parse::<std::net::Ipv6Addr>().is_ok()),
        None => {
            !host.is_empty()
                && !host.starts_with('-')
                && host
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        }
    }
}

fn invalid(message: String) -> Error {
    Error::with_cause(
        ErrorKind::InvalidConfig,
        message,
        Cause {
            text: format!(
                "({ETCD_ENDPOINTS} must be URLs such as http://host:2379, separated by commas)"
            ),
            timed_out: false,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::growth::assert_linear;

    fn parse(endpoints: &[&str]) -> Result<Vec<String>> {
        let endpoints: Vec<String> = endpoints.iter().map(|e| (*e).to_owned()).collect();
        super::parse(&endpoints, false)
    }

    #[test]
    fn tls_shows_in_every_url() {
        let endpoints = ["http://a:1".to_owned(), "https://b:2".to_owned()];
        assert_eq!(
            super::parse(&endpoints, true).unwrap(),
            ["https://a:1", "https://b:2"]
        );
    }

    #[test]
    fn only_host_and_port_count() {
        for (endpoint, target) in [
            ("http://h", "http://h:2379"),
            ("http://h:", "http://h:2379"),
            ("https://h:1", "http://h:1"),
            ("ftp://h:1", "http://h:1"),
            ("//h:1", "http://h:1"),
            ("http://h:1/path?query", "http://h:1"),
            ("http://h:1#fragment", "http://h:1"),
            ("http://user@h:1", "http://h:1"),
            ("http://user:7@h", "http://h:2379"),
            ("http://1.2.3.4:5", "http://1.2.3.4:5"),
            ("http://[::1]:5", "http://[::1]:5"),
            ("http://[2001:DB8::1]", "http://[2001:db8::1]:2379"),
            ("http://my_etcd:1", "http://my_etcd:1"),
            (
                "http://etcd-0.etcd.ns.svc.cluster.local:2379",
                "http://etcd-0.etcd.ns.svc.cluster.local:2379",
            ),
        ] {
            assert_eq!(parse(&[endpoint]).unwrap(), [target], "{endpoint}");
        }
    }

    #[test]
    fn errors_show_no_user_and_no_password() {
        for (endpoints, shown) in [
            (&["http://root:s3cret@etcd:99999"][..], "http://etcd:99999"),
            (&["http://root:s3/c#r@et@etcd:1/%%"], "http://etcd:1/%%"),
            (&["root:s3cret@etcd:1"], "etcd:1"),
            (&["http://root:s3 cret@etcd:1"], "http://etcd:1"),
            (&["http://root:s3", "cret@etcd:1"], "http://..."),
            (&["http://root:s3,cr", "e", "t@etcd:1"], "http://..."),
            (&["x", "http://root:s3cret@etcd:1"], "x"),
        ] {
            let error = parse(endpoints).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3"), "{error}");
            assert_eq!(
                error.message(),
                format!("Unable to compute target from endpoint: '{shown}'")
            );
        }
    }

    #[test]
    fn order_is_kept_and_duplicates_are_dropped() {
        assert_eq!(
            parse(&[
                "http://b:2",
                "https://a:1",
                "http://B:2/x",
                "http://c:2379",
                "http://c"
            ])
            .unwrap(),
            ["http://b:2", "http://a:1", "http://c:2379"]
        );
    }

    /// A search through all earlier endpoints at each one would make the cost quadratic.
    #[test]
    fn many_endpoints_are_read_in_linear_time() {
        let endpoints = |count| -> Vec<String> {
            let endpoint = |number| format!("http://h{number}:1");
            (0..count).map(endpoint).collect()
        };
        assert_linear(2_000, endpoints, |endpoints| {
            let read = super::parse(endpoints, false).unwrap();
            assert_eq!(read.len(), endpoints.len());
        });
    }

    #[test]
    fn endpoints_without_a_usable_host_are_refused_as_by_jetcd() {
        for endpoint in [
            "localhost:2379",
            "h",
            "1.2.3.4:2379",
            "http://",
            "http:h:1",
            "http:///x",
            "dns:///h:1",
            "http://h:99999",
            "http://h:x",
            "http://h:-1",
            "http://-h:1",
            "http://h h",
            "http://ex\u{e4}mple:1",
            "http://[::1",
            "http://[x]:1",
            "http://::1:2379",
            "[::1]:2379",
            "/h",
            "*",
        ] {
            let error = parse(&[endpoint]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert_eq!(
                error.message(),
                format!("Unable to compute target from endpoint: '{endpoint}'")
            );
            assert!(
                error.to_string().contains("alluxio.etcd.endpoints"),
                "{error}"
            );
        }
        assert_eq!(
            parse(&[]).unwrap_err().message(),
            "Unable to compute target from endpoints: '[]'"
        );
    }
}
