//! The README's programs and the tables in `docs` are correct.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use alluxio_membership::config::names;
use alluxio_membership::error::ErrorKind;
use common::{Etcd, EtcdVersion};
use tempfile::TempDir;

const README: &str = include_str!("../README.md");
const WORKER: &str = "worker-11111111-aaaa-4aaa-8aaa-111111111111";

/// Returns the README's only block of this language.
fn block(language: &str) -> &'static str {
    let (_, rest) = README
        .split_once(&format!("\n```{language}\n"))
        .unwrap_or_else(|| panic!("the README has no ```{language} block"));
    let (block, rest) = rest.split_once("```").expect("the block ends");
    assert!(
        !rest.contains(&format!("\n```{language}\n")),
        "the README has a second ```{language} block, which no test runs"
    );
    block
}

/// Starts an etcd with one registered worker whose lease has ended, and writes the README's
/// configuration for it.
async fn cluster() -> (Etcd, TempDir, PathBuf) {
    let etcd = Etcd::start(EtcdVersion::V3_4).await;
    let id = WORKER.strip_prefix("worker-").unwrap();
    let record = format!(
        concat!(
            r#"{{"Identity":{{"version":1,"identifier":"{}"}},"WorkerNetAddress":{{"#,
            r#""Host":"host1","ContainerHost":"","RpcPort":29999,"DataPort":29997,"#,
            r#""SecureRpcPort":0,"NettyDataPort":29997,"WebPort":30000,"DomainSocketPath":"","#,
            r#""HttpServerPort":28080}},"State":"AUTHORIZED","GenerationNumber":-1,"#,
            r#""ServiceEntityName":"{}"}}"#
        ),
        id.replace('-', ""),
        WORKER
    );
    etcd.put(
        &format!("/DHT/DefaultAlluxioCluster/AUTHORIZED/{WORKER}"),
        record,
    )
    .await;

    let folder = tempfile::tempdir().expect("make a folder");
    let site = folder.path().join("alluxio-site.properties");
    let properties = block("properties");
    assert!(properties.contains("http://127.0.0.1:2379"), "{properties}");
    let properties = properties.replace("http://127.0.0.1:2379", &etcd.endpoint());
    std::fs::write(&site, properties).expect("write the configuration");
    (etcd, folder, site)
}

/// Returns the table of `docs/configuration.md` from the code.
fn properties_table() -> String {
    let mut table = "| property | default | meaning |\n|---|---|---|\n".to_owned();
    for property in names::PROPERTIES {
        let default = property
            .default
            .map_or(String::new(), |default| format!("`{default}` "));
        let alias = property
            .alias
            .map_or(String::new(), |alias| format!(" Alias: `{alias}`."));
        table += &format!(
            "| `{}` | {default}| {}{alias} |\n",
            property.name, property.description
        );
    }
    table
}

#[test]
fn the_page_on_configuration_has_the_table_of_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    let page = std::fs::read_to_string(path).expect("read the page");
    let (before, rest) = page.split_once("<!-- properties -->\n").expect("a start");
    let (table, after) = rest.split_once("<!-- /properties -->\n").expect("an end");
    let wanted = properties_table();
    if std::env::var_os("AXM_RECORD").is_some() {
        let page = format!("{before}<!-- properties -->\n{wanted}<!-- /properties -->\n{after}");
        std::fs::write(path, page).expect("write the page");
    } else {
        assert_eq!(
            table, wanted,
            "AXM_RECORD=1 cargo test --test readme records the table"
        );
    }
}

fn output_of(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{errors}",
        output.status
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[tokio::test]
async fn the_c_program_lists() {
    let (_etcd, folder, site) = cluster().await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // The library beside this test. The copy in the parent folder may be older.
    let test = std::env::current_exe().expect("a path");
    let library = test.parent().unwrap().join("liballuxio_membership.so");
    for name in ["liballuxio_membership.so", "liballuxio_membership.so.0"] {
        std::os::unix::fs::symlink(&library, folder.path().join(name)).expect("link the library");
    }
    let body = block("c").split_once("{\n").expect("a function").1;
    assert_eq!(body.lines().count(), 10 + 1, "ten lines, and a brace");
    let source = folder.path().join("list.c");
    std::fs::write(&source, block("c")).expect("write the program");
    let program = folder.path().join("list");
    output_of(
        Command::new("cc")
            .args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"])
            .arg("-I")
            .arg(root.join("include"))
            .arg(&source)
            .arg("-L")
            .arg(folder.path())
            .args(["-lalluxio_membership", "-o"])
            .arg(&program),
    );

    let run = |site: &Path| {
        let mut command = Command::new(&program);
        command.arg(site).env("LD_LIBRARY_PATH", folder.path());
        command
    };
    assert_eq!(output_of(&mut run(&site)), "host1\n");

    let missing = folder.path().join("missing.properties");
    let output = run(&missing).output().expect("run the program");
    assert_eq!(output.status.code(), Some(ErrorKind::NotFound as i32));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("missing.properties"),
        "{output:?}"
    );
}

#[tokio::test]
async fn the_rust_program_lists() {
    let example = include_str!("../examples/nodes.rs");
    let (_, program) = example
        .split_once("\n\n")
        .expect("the example begins with a line about itself");
    assert_eq!(block("rust,no_run"), program);

    let (_etcd, _folder, site) = cluster().await;
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["run", "--quiet", "--locked", "--example", "nodes", "--"])
        .arg(site);
    // Variables that cargo sets for a test describe its package. Build scripts depend on them, so
    // with these variables cargo would rebuild the dependencies now, and again at the next call
    // without them.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text == "OUT_DIR"
            || text.starts_with("CARGO_PKG_")
            || text.starts_with("CARGO_MANIFEST_")
        {
            cargo.env_remove(name);
        }
    }
    let output = output_of(&mut cargo);
    assert_eq!(output, format!("{WORKER} Lost\n"));
}
