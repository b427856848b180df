//! Property names and their texts, and the resolution of references between them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::config::names::{self, NATIVE_PREFIX, PROPERTIES};
use crate::config::secret::append;
use crate::config::site_file;
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::log;
use crate::text::Quote;

/// The maximum number of references in one value. It stops references that multiply.
const MAX_REFERENCES: usize = 1000;
/// The maximum number of bytes that the references of one value may expand to.
const MAX_RESOLVED: usize = 1 << 20;
/// The number of unknown names that are logged one by one.
const MAX_UNKNOWN_NAMES: usize = 20;

/// Alluxio property names and their texts, not yet checked.
///
/// A text may refer to other properties as `${name}`. The reference is resolved when the text is
/// used, after all properties were set. An alias and the name that it stands for are one property.
///
/// Any value may be a password. Debug output does not contain values, and their memory is cleared
/// when they are dropped.
#[derive(Clone, Default)]
pub struct Properties {
    values: BTreeMap<String, Zeroizing<String>>,
}

impl Properties {
    /// Creates an empty set of properties.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads an `alluxio-site.properties` file, which has the syntax of `java.util.Properties`.
    /// Drops space around names and values, like Alluxio.
    ///
    /// # Errors
    ///
    /// `NotFound` or `Io` if the file cannot be read, `InvalidConfig` if a line is wrong. All
    /// errors name the file.
    pub fn from_site_file(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map(Zeroizing::new).map_err(|error| {
            let kind = match error.kind() {
                std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                _ => ErrorKind::Io,
            };
            Error::new(
                kind,
                format!(
                    "Failed to read the properties file {}: {error}",
                    path.display()
                ),
            )
        })?;
        let mut properties = Self::new();
        let lines = site_file::parse(&bytes).map_err(|problem| {
            Error::new(
                ErrorKind::InvalidConfig,
                format!(
                    "Failed to read the properties file {}: line {}: {}",
                    path.display(),
                    problem.line,
                    problem.what
                ),
            )
        })?;
        for (name, value) in lines {
            properties.set(java_trim(&name), java_trim(&value));
        }
        Ok(properties)
    }

    /// Returns the path where Alluxio's own programs find their configuration:
    /// `alluxio-site.properties` in `alluxio.conf.dir`. If that property is not set, the
    /// environment variables `ALLUXIO_CONF_DIR` and `ALLUXIO_HOME` define it. The file need not
    /// exist.
    pub fn site_file(&self) -> Result<PathBuf> {
        Ok(Path::new(&self.required(names::CONF_DIR)?).join("alluxio-site.properties"))
    }

    /// Sets a property, and replaces its earlier value. Keeps space around the value, like
    /// Alluxio's `conf.set`.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.values
            .insert(name.into(), Zeroizing::new(value.into()));
    }

    /// Sets everything that is set in `other`.
    pub fn merge(&mut self, other: Properties) {
        self.values.extend(other.values);
    }

    /// Returns the text that was set under this name, with unresolved references.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|value| value.as_str())
    }

    /// Refuses unknown names below this library's own prefix.
    pub(super) fn check_names(&self) -> Result<()> {
        let unknown = self
            .values
            .range(NATIVE_PREFIX.to_owned()..)
            .map(|(name, _)| name)
            .take_while(|name| name.starts_with(NATIVE_PREFIX))
            .find(|name| names::find(name).is_none());
        match unknown {
            None => Ok(()),
            Some(name) => {
                let known: Vec<&str> = PROPERTIES
                    .iter()
                    .map(|property| property.name)
                    .filter(|known| known.starts_with(NATIVE_PREFIX))
                    .collect();
                Err(Error::new(
                    ErrorKind::InvalidConfig,
                    format!(
                        "Unknown property {name}; the known ones are {}",
                        known.join(", ")
                    ),
                ))
            }
        }
    }

    /// Warns about unknown names that look like properties of this library, because they have no
    /// effect.
    pub(super) fn warn_about_unknown_names(&self) {
        let mut unknown = self.values.keys().filter(|name| names::is_unknown(name));
        for name in unknown.by_ref().take(MAX_UNKNOWN_NAMES) {
            match names::nearest(name) {
                Some(known) => log::warn!(
                    "The property {} is unknown and has no effect. Did you mean {known}?",
                    Quote(name)
                ),
                None => log::warn!("The property {} is unknown and has no effect.", Quote(name)),
            }
        }
        let more = unknown.count();
        if more > 0 {
            log::warn!("{more} more properties are unknown and have no effect.");
        }
    }

    /// Returns the resolved text of a property without a default, or `None` if it is not set.
    ///
    /// As in Alluxio, also returns `None` if the text refers to a property without a value.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>> {
        match self.required(name) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::MissingConfig => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the resolved text of a property that must have a value.
    pub(super) fn required(&self, name: &str) -> Result<String> {
        match self.raw(name) {
            Some(text) => self.resolve(name, &text),
            None => Err(no_value(name)),
        }
    }

    /// Returns the resolved default of a property, whether the property is set or not.
    pub(super) fn resolved_default(&self, name: &str) -> Result<String> {
        match default_of(name) {
            Some(text) => self.resolve(name, &text),
            None => Err(no_value(name)),
        }
    }

    /// Returns the unresolved text for a name or an alias: the text that was set, or the default.
    fn raw(&self, name: &str) -> Option<Cow<'_, str>> {
        let Some(property) = names::find(name) else {
            return self.get(name).map(Cow::from);
        };
        self.get(property.name)
            .or_else(|| property.alias.and_then(|alias| self.get(alias)))
            .map(Cow::from)
            .or_else(|| default_of(property.name).map(Cow::from))
    }

    fn resolve(&self, name: &str, text: &str) -> Result<String> {
        Resolution {
            properties: self,
            property: name,
            within: Vec::new(),
            references: 0,
            resolved: 0,
        }
        .resolve(text)
    }
}

/// Values may be secret, so the output does not contain them.
impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

/// The resolution of all references in one property.
struct Resolution<'a> {
    properties: &'a Properties,
    property: &'a str,
    /// The references that are being resolved.
    within: Vec<String>,
    references: usize,
    /// The number of bytes that the references expanded to so far.
    resolved: usize,
}

impl Resolution<'_> {
    fn resolve(&mut self, text: &str) -> Result<String> {
        let mut resolved = Zeroizing::new(String::with_capacity(text.len()));
        let mut rest = text;
        while let Some((before, reference, after)) = split_reference(rest) {
            append(&mut resolved, before);
            append(&mut resolved, &Zeroizing::new(self.reference(reference)?));
            rest = after;
        }
        append(&mut resolved, rest);
        Ok(std::mem::take(&mut *resolved))
    }

    /// Returns the resolved text of the property of this reference. The errors have Alluxio's
    /// texts.
    fn reference(&mut self, reference: &str) -> Result<String> {
        self.references += 1;
        if self.references > MAX_REFERENCES {
            return Err(self.error(format!(
                "More than {MAX_REFERENCES} references to other properties"
            )));
        }
        if self.within.iter().any(|name| name == reference) {
            return Err(self.error(format!(
                "Circular dependency found while resolving {reference}"
            )));
        }
        let Some(text) = self.properties.raw(reference) else {
            return Err(match names::find(reference) {
                Some(_) => Error::new(
                    ErrorKind::MissingConfig,
                    format!(
                        "Could not resolve key \"{}\": No value set for configuration key \
                         {reference}",
                        self.property
                    ),
                ),
                None => self.error(format!("Invalid property key {reference}")),
            });
        };
        self.resolved += text.len();
        if self.resolved > MAX_RESOLVED {
            return Err(self.error(format!(
                "References to other properties that expand to more than {MAX_RESOLVED} bytes"
            )));
        }
        self.within.push(reference.to_owned());
        let resolved = self.resolve(&text)?;
        self.within.pop();
        Ok(resolved)
    }

    /// The error does not show the value, which may be a password.
    fn error(&self, message: String) -> Error {
        let text = format!("(a reference ${{...}} in the value of {})", self.property);
        Error::with_cause(
            ErrorKind::InvalidConfig,
            message,
            Cause {
                text,
                timed_out: false,
            },
        )
    }
}

/// Splits at the first `${name}`, whose name has no braces.
fn split_reference(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    while let Some(start) = text[from..].find("${").map(|at| from + at) {
        let name = &text[start + 2..];
        match name.find(['{', '}']) {
            Some(end) if name[end..].starts_with('}') => {
                return Some((&text[..start], java_trim(&name[..end]), &name[end + 1..]));
            }
            Some(_) => from = start + 2,
            None => return None,
        }
    }
    None
}

/// Alluxio's scripts pass these two environment variables on as properties.
fn default_of(name: &str) -> Option<String> {
    let variable = match name {
        names::HOME => Some("ALLUXIO_HOME"),
        names::CONF_DIR => Some("ALLUXIO_CONF_DIR"),
        _ => None,
    };
    variable
        .and_then(|variable| std::env::var(variable).ok())
        .filter(|value| !value.is_empty())
        .or_else(|| names::find(name)?.default.map(str::to_owned))
}

/// Trims like Java's `String.trim`.
fn java_trim(text: &str) -> &str {
    text.trim_matches(|c| c <= ' ')
}

fn no_value(name: &str) -> Error {
    Error::new(
        ErrorKind::MissingConfig,
        format!("No value set for configuration key {name}"),
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::record::golden::vectors;

    /// Independent of the machine's environment.
    fn with_home() -> Properties {
        let mut properties = Properties::new();
        properties.set("alluxio.home", "/opt/alluxio");
        properties.set("alluxio.conf.dir", "${alluxio.home}/conf");
        properties
    }

    #[test]
    fn references_are_resolved_as_the_real_class_resolves_them() {
        let rows = vectors("references.jsonl");
        assert!(rows.len() >= 28);
        for row in rows {
            let mut properties = with_home();
            for (name, value) in row["properties"].as_object().unwrap() {
                // The vectors contain values from a file.
                properties.set(name, java_trim(value.as_str().unwrap()));
            }
            match properties.required("alluxio.cluster.name") {
                Ok(resolved) => assert_eq!(Some(resolved.as_str()), row["resolved"].as_str()),
                Err(error) => assert_eq!(Some(error.message()), row["error"].as_str(), "{row}"),
            }
        }
    }

    #[test]
    fn references_that_multiply_or_nest_deeply_end() {
        let mut properties = Properties::new();
        for i in 0..100 {
            properties.set(format!("p{i}"), format!("${{p{0}}}${{p{0}}}", i + 1));
        }
        properties.set("p100", "");
        let error = properties.required("p0").unwrap_err();
        assert!(error.message().contains("1000"), "{error}");

        for i in 0..100_000 {
            properties.set(format!("q{i}"), format!("${{q{}}}", i + 1));
        }
        let error = properties.required("q0").unwrap_err();
        assert!(error.message().contains("1000"), "{error}");
        assert!(error.to_string().contains("q0"), "{error}");
    }

    #[test]
    fn references_to_long_values_end() {
        let mut properties = Properties::new();
        properties.set("long", "x".repeat(600_000));
        properties.set("once", "${long}");
        assert_eq!(properties.required("once").unwrap().len(), 600_000);
        for times in [2, 990] {
            properties.set("often", "${long}".repeat(times));
            let error = properties.required("often").unwrap_err();
            assert!(error.message().contains("1048576 bytes"), "{error}");
            assert!(error.to_string().contains("often"), "{error}");
        }
    }

    #[test]
    fn space_around_a_value_that_is_set_belongs_to_it() {
        let mut properties = Properties::new();
        properties.set("alluxio.etcd.password", " p ");
        assert_eq!(properties.required("alluxio.etcd.password").unwrap(), " p ");
    }

    #[test]
    fn the_name_wins_over_its_alias() {
        let mut properties = Properties::new();
        properties.set("alluxio.worker.port", "1");
        assert_eq!(properties.required("alluxio.worker.rpc.port").unwrap(), "1");
        properties.set("alluxio.worker.rpc.port", "2");
        assert_eq!(properties.required("alluxio.worker.rpc.port").unwrap(), "2");
        assert_eq!(properties.required("alluxio.worker.port").unwrap(), "2");
    }

    #[test]
    fn a_reference_to_nothing_leaves_an_optional_property_unset() {
        let mut properties = Properties::new();
        properties.set("alluxio.etcd.username", "${alluxio.etcd.password}");
        assert_eq!(properties.text("alluxio.etcd.username").unwrap(), None);
        properties.set("alluxio.etcd.username", "${no.such.name}");
        assert!(properties.text("alluxio.etcd.username").is_err());
    }

    #[test]
    fn values_are_in_no_debug_output() {
        let mut properties = Properties::new();
        properties.set("alluxio.etcd.password", "secret");
        let debug = format!("{properties:?}");
        assert!(
            debug.contains("alluxio.etcd.password") && !debug.contains("secret"),
            "{debug}"
        );
    }

    #[test]
    fn site_files_are_read() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(
            file,
            "# C:\\users\nalluxio.cluster.name = a \\\n   b  \n alluxio.k8s.env.deployment:true"
        )
        .unwrap();
        let properties = Properties::from_site_file(file.path()).unwrap();
        assert_eq!(properties.get("alluxio.cluster.name"), Some("a b"));
        assert_eq!(properties.get("alluxio.k8s.env.deployment"), Some("true"));
        assert_eq!(properties.get("alluxio.home"), None);
    }

    #[test]
    fn site_file_errors_name_the_file_and_the_line() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "a=b\n\nc=\\u12\n").unwrap();
        let error = Properties::from_site_file(file.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert_eq!(
            error.to_string(),
            format!(
                "Failed to read the properties file {}: line 3: Malformed \\uxxxx encoding.",
                file.path().display()
            )
        );
        let missing = Properties::from_site_file(Path::new("/no/such/file")).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        assert!(missing.message().contains("/no/such/file"), "{missing}");
        let directory = tempfile::tempdir().unwrap();
        let unreadable = Properties::from_site_file(directory.path()).unwrap_err();
        assert_eq!(unreadable.kind(), ErrorKind::Io);
    }
}
