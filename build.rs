//! Generates `include/alluxio_membership.h` from `src/c_api` and names the shared library for the
//! linker.

use std::path::Path;
use std::{env, fs};

/// The files of the C API, in the order of the header.
const C_API: [&str; 10] = [
    "src/c_api/version.rs",
    "src/c_api/error.rs",
    "src/c_api/config.rs",
    "src/c_api/worker.rs",
    "src/c_api/snapshot.rs",
    "src/c_api/membership.rs",
    "src/c_api/subscription.rs",
    "src/c_api/status.rs",
    "src/c_api/log.rs",
    "src/c_api/shutdown.rs",
];
const HEADER: &str = "include/alluxio_membership.h";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=cbindgen.toml");
    println!("cargo::rerun-if-changed=src/c_api");
    println!("cargo::rerun-if-changed={HEADER}");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,liballuxio_membership.so.0");
        // The runtime's threads run code of the library until the process ends, so the library must
        // never be unmapped.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
    generate_header();
}

fn generate_header() {
    let config = cbindgen::Config::from_file("cbindgen.toml")
        .unwrap_or_else(|error| panic!("Failed to read cbindgen.toml: {error}"));
    let mut builder = cbindgen::Builder::new().with_config(config);
    for file in C_API {
        builder = builder.with_src(file);
    }
    let bindings = match builder.generate() {
        Ok(bindings) => bindings,
        // The compiler reports this error better.
        Err(cbindgen::Error::ParseSyntaxError { .. }) => return,
        Err(error) => panic!("Failed to generate {HEADER}: {error}"),
    };
    let mut header = Vec::new();
    bindings.write(&mut header);
    if fs::read(HEADER).ok().as_ref() != Some(&header) {
        fs::create_dir_all(Path::new(HEADER).parent().expect("the path has a folder"))
            .and_then(|()| fs::write(HEADER, header))
            .unwrap_or_else(|error| panic!("Failed to write {HEADER}: {error}"));
    }
}
