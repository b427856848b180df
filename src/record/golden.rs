//! The golden vectors in `tests/golden`, for tests.

use std::path::Path;

use serde_json::Value;

/// Returns the lines of a file.
pub(crate) fn vectors(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(file);
    std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect()
}

/// Returns the bytes of a vector's input, which is text if it is UTF-8, and hexadecimal otherwise.
pub(crate) fn input_of(row: &Value) -> Vec<u8> {
    if let Some(text) = row["text"].as_str() {
        return text.as_bytes().to_vec();
    }
    let hex = row["hex"].as_str().expect("text or hex");
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"))
        .collect()
}
