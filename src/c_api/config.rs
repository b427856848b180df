//! `axm_config_t`: properties on their way to a membership.

use std::ffi::c_char;
use std::path::Path;

use super::convert::{required, text};
use super::error::{axm_error_t, guard};
use crate::config::Properties;

/// Alluxio properties. Nothing is checked before axm_membership_open, and what Alluxio knows but this library does not
/// need is ignored, so a whole alluxio-site.properties may be given.
#[derive(Default)]
pub struct axm_config_t {
    pub(super) properties: Properties,
}

/// An empty configuration. Never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn axm_config_new() -> Box<axm_config_t> {
    Box::default()
}

/// Sets one property, for example "alluxio.etcd.endpoints" to "http://etcd-0:2379,http://etcd-1:2379". The last value
/// counts.
///
/// Errors: INVALID_ARGUMENT.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn axm_config_set(
    config: Option<&mut axm_config_t>,
    key: *const c_char,
    value: *const c_char,
) -> Option<Box<axm_error_t>> {
    guard(|| {
        let config = required(config, "config")?;
        config
            .properties
            .set(text(key, "key")?, text(value, "value")?);
        Ok(())
    })
}

/// Sets all properties of a file in the format of alluxio-site.properties. Blocks for as long as the file system does.
///
/// Errors: NOT_FOUND, IO, INVALID_CONFIG (what is in the file), INVALID_ARGUMENT.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn axm_config_load_file(
    config: Option<&mut axm_config_t>,
    path: *const c_char,
) -> Option<Box<axm_error_t>> {
    guard(|| {
        let config = required(config, "config")?;
        let path = Path::new(text(path, "path")?);
        config.properties.merge(Properties::from_site_file(path)?);
        Ok(())
    })
}

/// Frees a configuration. Memberships opened with it do not need it any more.
#[unsafe(no_mangle)]
pub extern "C" fn axm_config_free(config: Option<Box<axm_config_t>>) {
    drop(config);
}
