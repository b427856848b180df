//! Lists of workers for programs: JSON, YAML and CSV.

use alluxio_membership::text::Safe;
use serde::Serialize;
use serde_json::Value;

use crate::output::{self, Failure, Outcome, Stop};

/// The members of a worker's JSON object, in the order of CSV's columns.
const COLUMNS: [&str; 11] = [
    "id",
    "status",
    "host",
    "rpcPort",
    "dataPort",
    "secureRpcPort",
    "nettyDataPort",
    "webPort",
    "httpServerPort",
    "containerHost",
    "domainSocketPath",
];
/// The fields that --wide adds, with their paths in JSON.
const WIDE_COLUMNS: [(&str, &str); 3] = [
    ("leaseLeftSeconds", "/lease/leftSeconds"),
    ("leaseGrantedSeconds", "/lease/grantedSeconds"),
    ("sinceRevision", "/sinceRevision"),
];

/// Prints a JSON object as YAML.
pub fn print_yaml(value: &impl Serialize) -> Result<(), Stop> {
    let value = serde_json::to_value(value).map_err(|error| failed(&error))?;
    let text = serde_saphyr::to_string(&safe(value)).map_err(|error| failed(&error))?;
    output::print(text)
}

/// Prints workers, which are JSON objects, as CSV.
pub fn print_csv(workers: impl Iterator<Item = Value>, wide: bool) -> Result<(), Stop> {
    let extra = WIDE_COLUMNS.iter().filter(|_| wide);
    let mut out = csv::Writer::from_writer(Vec::new());
    let header = COLUMNS.iter().chain(extra.clone().map(|(name, _)| name));
    out.write_record(header).map_err(|error| failed(&error))?;
    for worker in workers {
        let cells = COLUMNS.iter().map(|name| worker.get(name));
        let extra = extra.clone().map(|(_, path)| worker.pointer(path));
        let row = cells.chain(extra).map(cell);
        out.write_record(row).map_err(|error| failed(&error))?;
    }
    output::print(out.into_inner().map_err(|error| failed(error.error()))?)
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => Safe(text).to_string(),
        Some(other) => other.to_string(),
    }
}

/// The escapes of both formats leave some characters that act on terminals.
fn safe(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(Safe(text).to_string()),
        Value::Array(items) => items.into_iter().map(safe).collect(),
        Value::Object(members) => {
            let members = members.into_iter();
            members.map(|(name, value)| (name, safe(value))).collect()
        }
        other => other,
    }
}

fn failed(error: &dyn std::error::Error) -> Failure {
    Failure::new(Outcome::Failed, format!("standard output: {error}"))
}
