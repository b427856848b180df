//! A release has one version everywhere, and the jar has the metadata for GraalVM.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

/// Returns the files below a folder with this extension.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("read a folder") {
            let path = entry.expect("read an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == extension) {
                found.push(path);
            }
        }
    }
    found
}

/// Returns the text between the first places of two texts.
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = text.split_once(before).expect("the text before");
    rest.split_once(after).expect("the text after").0
}

#[test]
fn the_jar_and_the_chart_have_the_version_of_the_crate() {
    assert_eq!(
        between(&read("java/pom.xml"), "<version>", "</version>"),
        VERSION
    );
    let chart = read("deploy/chart/Chart.yaml");
    assert_eq!(between(&chart, "\nversion: ", "\n"), VERSION);
    assert_eq!(between(&chart, "\nappVersion: ", "\n"), VERSION);
}

#[test]
fn the_documents_name_the_jars_of_this_version() {
    let mut names = 0;
    for page in files("docs", "md").into_iter().chain(["README.md".into()]) {
        let text = read(&page);
        for (at, prefix) in text.match_indices("alluxio-membership-native-") {
            let rest = &text[at + prefix.len()..];
            if rest.starts_with(|c: char| c.is_ascii_digit()) {
                names += 1;
                let next = rest
                    .strip_prefix(VERSION)
                    .and_then(|rest| rest.chars().next());
                assert!(
                    matches!(next, Some('.' | '-')),
                    "{} names a jar of another version",
                    page.display()
                );
            }
        }
    }
    assert!(names > 0, "no page names a jar");
}

#[test]
fn the_tool_shows_its_version_and_build() {
    let shown = |option: &str| {
        let tool = env!("CARGO_BIN_EXE_alluxio-membership");
        let output = Command::new(tool).arg(option).output().expect("run");
        String::from_utf8(output.stdout).expect("text")
    };
    assert_eq!(shown("-V"), format!("alluxio-membership {VERSION}\n"));
    let machine = format!("{}-linux-", std::env::consts::ARCH);
    let long = shown("--version");
    assert!(
        long.starts_with(&format!("alluxio-membership {VERSION} (")) && long.contains(&machine),
        "{long}"
    );
}

/// The parts of GraalVM's reachability-metadata-schema-v1.0.0.json that the jar uses.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    reflection: Vec<Accessed>,
    jni: Vec<Accessed>,
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Accessed {
    #[serde(rename = "reason")]
    _reason: String,
    #[serde(rename = "type")]
    class: String,
    #[serde(default, rename = "allDeclaredMethods")]
    declared: bool,
    #[serde(default, rename = "allPublicMethods")]
    public: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resource {
    #[serde(rename = "reason")]
    _reason: String,
    glob: String,
}

fn metadata() -> Metadata {
    let folder = "java/src/main/resources/META-INF/native-image/io.github.alluxio-membership";
    let file = format!("{folder}/alluxio-membership-native/reachability-metadata.json");
    serde_json::from_str(&read(file)).expect("GraalVM's schema")
}

/// Returns the names of the jar's classes whose source contains this text.
fn classes_with(text: &str) -> Vec<String> {
    let folder = "java/src/main/java";
    let mut names: Vec<String> = files(folder, "java")
        .into_iter()
        .filter(|file| read(file).contains(text))
        .map(|file| {
            let name = file.strip_prefix(folder).expect("below the folder");
            let name = name.with_extension("");
            name.to_str().expect("text").replace('/', ".")
        })
        .collect();
    names.sort();
    names
}

#[test]
fn graalvm_knows_the_native_methods_and_the_management_bean() {
    let metadata = metadata();
    let mut jni = metadata.jni.iter();
    assert!(jni.all(|it| it.declared), "native methods are not public");
    let native: Vec<&str> = metadata.jni.iter().map(|it| it.class.as_str()).collect();
    assert_eq!(native, classes_with("static native "));

    let bean = "alluxio.membership.bridge.MembershipMXBean";
    assert!(metadata.reflection.iter().all(|it| it.public));
    assert!(metadata.reflection.iter().any(|it| it.class == bean));
    let source = read("java/src/main/java/alluxio/membership/bridge/MembershipMXBean.java");
    // The attributes without a simple type.
    let attributes: Vec<&str> = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("List<")?.split_once("> get"))
        .map(|(class, _)| class)
        .collect();
    assert!(!attributes.is_empty());
    for attribute in attributes {
        let known = |it: &Accessed| {
            it.class.ends_with(&format!(".{attribute}"))
                || it.class == format!("{bean}${attribute}")
        };
        assert!(metadata.reflection.iter().any(known), "{attribute}");
    }
}

#[test]
fn graalvm_takes_the_libraries_along() {
    let [resource] = metadata().resources.try_into().ok().expect("one resource");
    // The name by which NativeLibrary looks for the library.
    let source = read("java/src/main/java/alluxio/membership/bridge/internal/NativeLibrary.java");
    let folder = between(&source, "String resource = \"/", "\" + platform()");
    let file = between(&source, "FILE_NAME = \"", "\"");
    assert_eq!(resource.glob, format!("{folder}*/{file}"));
}
