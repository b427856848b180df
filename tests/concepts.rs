//! Each name in the table of `docs/concepts.md` exists.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Returns the texts of all files below a folder with this extension.
fn sources(folder: &Path, extension: &str) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).expect("read a folder") {
        let path = entry.expect("read an entry").path();
        if path.is_dir() {
            text += &sources(&path, extension);
        } else if path.extension().is_some_and(|it| it == extension) {
            text += &fs::read_to_string(&path).expect("read a source");
        }
    }
    text
}

/// Returns the declarations of a source without its comments.
fn code(source: &str) -> String {
    let comment = |line: &&str| {
        let line = line.trim_start();
        line.starts_with("//") || line.starts_with('*') || line.starts_with("/*")
    };
    let lines: Vec<&str> = source.lines().filter(|line| !comment(line)).collect();
    lines.join("\n")
}

fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(part) && !text[at + word.len()..].starts_with(part))
}

/// Returns the help of the tool and of each of its commands.
fn help() -> String {
    let run = |arguments: &[&str]| {
        let tool = env!("CARGO_BIN_EXE_alluxio-membership");
        let output = Command::new(tool).args(arguments).output().expect("run");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let main = run(&["--help"]);
    [
        "nodes", "describe", "history", "check", "serve", "join", "remove",
    ]
    .iter()
    .fold(main, |text, command| text + &run(&[command, "--help"]))
}

#[test]
fn every_language_has_the_names_of_the_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).expect("read a file");
    let page = read("docs/concepts.md");
    let c = code(&read("include/alluxio_membership.h"));
    let rust = code(&sources(&root.join("src"), "rs"));
    let bridge = root.join("java/src/main/java/alluxio/membership/bridge");
    let texts = [
        ("Rust", rust),
        ("C", c.clone()),
        ("C++", code(&read("include/alluxio_membership.hpp")) + &c),
        ("Java", code(&sources(&bridge, "java"))),
        ("the tool", help()),
    ];

    let (_, table) = page
        .split_once("|---|---|---|---|---|---|---|\n")
        .expect("a table");
    let rows: Vec<&str> = table.lines().take_while(|it| it.starts_with('|')).collect();
    assert!(rows.len() >= 22, "{} concepts", rows.len());
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [concept, meaning, names @ ..] = cells.as_slice() else {
            panic!("{row}");
        };
        assert!(meaning.ends_with('.'), "{concept} has no sentence");
        assert_eq!(names.len(), texts.len(), "{row}");
        for (name, (language, text)) in names.iter().zip(&texts) {
            let name = name.trim_matches('`');
            let declared = match *language {
                "Rust" => ["pub struct", "pub enum", "pub fn", "pub async fn"]
                    .iter()
                    .any(|kind| has_word(text, &format!("{kind} {name}"))),
                _ => has_word(text, name),
            };
            assert!(
                !name.is_empty() && declared,
                "{language} has no {name} for {concept}"
            );
        }
    }

    let (_, states) = page
        .split_once("| state | meaning |\n|---|---|\n")
        .expect("a table");
    let rows = states.lines().take_while(|it| it.starts_with('|'));
    let states: Vec<&str> = rows.filter_map(|row| row.split('|').nth(1)).collect();
    assert_eq!(states.len(), 6);
    for state in states.iter().map(|state| state.trim()) {
        let constant = state.to_uppercase();
        let variant = constant[..1].to_owned() + &state[1..];
        for (language, name) in [
            ("Rust", format!("RegistrationState::{variant}")),
            ("C", format!("AXM_REGISTRATION_{constant}")),
            ("C++", format!("{variant} = AXM_REGISTRATION_{constant}")),
            ("Java", constant.clone()),
        ] {
            let (_, text) = texts.iter().find(|it| it.0 == language).expect("a text");
            assert!(has_word(text, &name), "{language} has no {name}");
        }
    }
}
