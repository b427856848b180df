//! `axm_config_t`: the properties that a membership is opened with.

use std::ffi::c_char;
use std::path::Path;

use super::convert::{required, text};
use super::error::{axm_error_t, guard};
use crate::config::Properties;

/// Alluxio properties.
///
/// axm_membership_open checks them. The library ignores other properties of Alluxio, so a whole
/// alluxio-site.properties may be loaded. One thread at a time may use a configuration.
#[derive(Default)]
pub struct axm_config_t {
    pub(super) properties: Properties,
}

/// Makes an empty configuration.
///
/// \return The configuration, for axm_config_free; never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn axm_config_new() -> Box<axm_config_t> {
    Box::default()
}

/// Sets one property.
///
/// \param config A configuration.
/// \param key A name, such as "alluxio.etcd.endpoints".
/// \param value A value, such as "http://etcd-0:2379,http://etcd-1:2379". It replaces an earlier
/// value.
/// \return NULL, or an error: AXM_ERROR_INVALID_ARGUMENT.
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

/// Sets all properties of a file. Blocks for as long as the file system blocks.
///
/// \param config A configuration.
/// \param path A file in the format of alluxio-site.properties.
/// \return NULL, or an error: AXM_ERROR_NOT_FOUND or AXM_ERROR_IO for the file,
/// AXM_ERROR_INVALID_CONFIG for its content, AXM_ERROR_INVALID_ARGUMENT.
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

/// Frees a configuration. Memberships that were opened with the configuration do not need it.
///
/// \param config A configuration, or NULL.
#[unsafe(no_mangle)]
pub extern "C" fn axm_config_free(config: Option<Box<axm_config_t>>) {
    drop(config);
}
