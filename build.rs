//! Generates `include/alluxio_membership.h` from `src/c_api` and names the shared library for the
//! linker.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=cbindgen.toml");
    println!("cargo::rerun-if-changed=src/c_api");
    println!("cargo::rerun-if-changed=include/alluxio_membership.h");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,liballuxio_membership.so.0");
        // The runtime's threads run code of the library until the process ends, so the library must
        // never be unmapped.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
    #[cfg(feature = "c-api")]
    header::generate();
}

/// The C header.
#[cfg(feature = "c-api")]
mod header {
    use std::path::Path;
    use std::{env, fs};

    /// The groups of the C API in the order of the header: the file, and the title of the group.
    const GROUPS: [(&str, &str); 10] = [
        ("version", "Versions"),
        ("error", "Errors"),
        ("config", "Configuration"),
        ("worker", "Workers"),
        ("snapshot", "Snapshots"),
        ("membership", "Memberships"),
        ("subscription", "Changes"),
        ("status", "Status"),
        ("log", "Log messages"),
        ("shutdown", "Shutdown"),
    ];
    const HEADER: &str = "include/alluxio_membership.h";

    pub fn generate() {
        let mut config = cbindgen::Config::from_file("cbindgen.toml")
            .unwrap_or_else(|error| panic!("Failed to read cbindgen.toml: {error}"));
        let mut header = config.header.take().expect("cbindgen.toml has a header");
        let trailer = config.trailer.take().expect("cbindgen.toml has a trailer");
        for name in ["MAJOR", "MINOR", "PATCH"] {
            let number = env::var(format!("CARGO_PKG_VERSION_{name}")).expect("cargo sets it");
            header = header.replace(&format!("@{name}@"), &number);
        }
        for (file, title) in GROUPS {
            let Some(declarations) = declarations(&config, &format!("src/c_api/{file}.rs")) else {
                // The compiler reports this error better.
                return;
            };
            header += &format!(
                "\n/**\n * \\defgroup axm_{file} {title}\n * \\{{\n */\n\n\
                 {declarations}\n\n/** \\}} */\n"
            );
        }
        header += &trailer;
        let header = header.trim_start();
        if fs::read(HEADER).ok().as_deref() != Some(header.as_bytes()) {
            fs::create_dir_all(Path::new(HEADER).parent().expect("the path has a folder"))
                .and_then(|()| fs::write(HEADER, header))
                .unwrap_or_else(|error| panic!("Failed to write {HEADER}: {error}"));
        }
    }

    /// What one file declares. `None` if the file is not Rust.
    fn declarations(config: &cbindgen::Config, file: &str) -> Option<String> {
        let builder = cbindgen::Builder::new()
            .with_config(config.clone())
            .with_src(file);
        let bindings = match builder.generate() {
            Ok(bindings) => bindings,
            Err(cbindgen::Error::ParseSyntaxError { .. }) => return None,
            Err(error) => panic!("Failed to generate {HEADER} from {file}: {error}"),
        };
        let mut text = Vec::new();
        bindings.write(&mut text);
        let mut text = String::from_utf8(text).expect("cbindgen writes UTF-8");
        // C90 has no comments that begin with `//`, and no comma behind the last value of an
        // enumeration. The whole header is one `extern "C"`.
        let lines = text.lines().map(|line| match line.split_once(" //") {
            Some((directive, _)) if directive.starts_with('#') => directive.trim_end(),
            _ => line,
        });
        text = lines.collect::<Vec<_>>().join("\n") + "\n";
        for (written, wanted) in [
            (",\n}", "\n}"),
            ("#ifdef __cplusplus\nextern \"C\" {\n#endif\n", ""),
            ("#ifdef __cplusplus\n}  // extern \"C\"\n#endif\n", ""),
        ] {
            text = text.replace(written, wanted);
        }
        while text.contains("\n\n\n") {
            text = text.replace("\n\n\n", "\n\n");
        }
        Some(text.trim().to_owned())
    }
}
