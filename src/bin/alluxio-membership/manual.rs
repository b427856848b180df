//! The manual pages: one of the program, one of each command.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use clap::Command;
use clap_mangen::Man;

use crate::cli;
use crate::output::EXIT_STATUS;

/// Examples of the program ("") and of each command, and their effects. The options for the cluster
/// come from the configuration file.
const EXAMPLES: &[(&str, &str, &str)] = &[
    (
        "",
        "alluxio-membership nodes",
        "Lists the workers of the cluster.",
    ),
    (
        "",
        "alluxio-membership check",
        "Looks for what keeps the cluster from working.",
    ),
    (
        "nodes",
        "alluxio-membership nodes --state lost --sort age",
        "Lists the workers that are lost.",
    ),
    (
        "nodes",
        "alluxio-membership nodes --watch --host rack1-*",
        "Follows the workers of one rack.",
    ),
    (
        "nodes",
        "alluxio-membership nodes -o json --wide",
        "Prints the workers with their leases, for a program.",
    ),
    (
        "describe",
        "alluxio-membership describe worker-cb157baa-afe0-4b98-8af0-1a4645d38456",
        "Shows all that etcd has of one worker.",
    ),
    (
        "history",
        "alluxio-membership history --after 1000",
        "Shows the changes after revision 1000 of etcd.",
    ),
    (
        "remove",
        "alluxio-membership remove worker-cb157baa-afe0-4b98-8af0-1a4645d38456",
        "Removes one lost worker.",
    ),
    (
        "remove",
        "alluxio-membership remove --lost --lost-for 10m --yes",
        "Removes the workers that are lost and stay lost for ten minutes, without asking.",
    ),
    (
        "join",
        "alluxio-membership join --identity-file /etc/worker_identity --host host1 \
         --rpc-port 29999",
        "Keeps a worker registered until a signal comes.",
    ),
    (
        "check",
        "alluxio-membership check --json",
        "Prints the findings and the numbers, for a program.",
    ),
    (
        "serve",
        "alluxio-membership serve --listen 127.0.0.1:9180",
        "Shows the cluster at http://127.0.0.1:9180/.",
    ),
    (
        "completions",
        "alluxio-membership completions bash",
        "Prints a script for bash to source.",
    ),
];

/// The files of the program ("") and of a command.
const FILES: &[(&str, &str, &str)] = &[
    (
        "",
        "alluxio-site.properties",
        "The configuration, in $ALLUXIO_CONF_DIR, $ALLUXIO_HOME/conf or /opt/alluxio/conf.",
    ),
    (
        "",
        "workers",
        "The hosts file of a STATIC cluster, in the folder of the configuration.",
    ),
    (
        "join",
        "worker_identity",
        "The identity of a worker, as Alluxio's workers have it, where --identity-file says.",
    ),
];

pub fn write(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut program = cli::command().disable_help_subcommand(true);
    program.build();
    for command in program.get_subcommands().filter(|c| !c.is_hide_set()) {
        write_page(command, folder)?;
    }
    write_page(&program, folder)
}

fn write_page(command: &Command, folder: &Path) -> io::Result<()> {
    let source = concat!("alluxio-membership ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).source(source);
    let is_program = command.has_subcommands();
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if is_program {
        man.render_subcommands_section(&mut page)?;
        section(&mut page, "CONFIGURATION", cli::CONFIGURATION)?;
        section(&mut page, "OUTPUT", cli::OUTPUT)?;
    }
    let name = if is_program { "" } else { command.get_name() };
    list(&mut page, "EXAMPLES", EXAMPLES, name)?;
    list(&mut page, "FILES", FILES, name)?;
    writeln!(page, ".SH \"EXIT STATUS\"")?;
    for (status, meaning) in EXIT_STATUS {
        write!(page, ".TP\n{status}\n{}", escaped(meaning))?;
    }
    if is_program {
        let variables =
            "ALLUXIO_CONF_DIR and ALLUXIO_HOME: see CONFIGURATION. NO_COLOR: see OUTPUT.";
        section(&mut page, "ENVIRONMENT", variables)?;
    } else {
        section(&mut page, "SEE ALSO", "alluxio-membership(1)")?;
    }
    fs::write(folder.join(man.get_filename()), page)
}

/// Writes the entries of one page, if it has some.
fn list(
    page: &mut Vec<u8>,
    title: &str,
    entries: &[(&str, &str, &str)],
    name: &str,
) -> io::Result<()> {
    let mut entries = entries.iter().filter(|(of, ..)| *of == name).peekable();
    if entries.peek().is_some() {
        writeln!(page, ".SH {title}")?;
    }
    for (_, what, meaning) in entries {
        write!(
            page,
            ".TP\n\\fB{}\\fR\n{}",
            escaped(what).trim_end(),
            escaped(meaning)
        )?;
    }
    Ok(())
}

fn section(page: &mut Vec<u8>, title: &str, text: &str) -> io::Result<()> {
    write!(page, ".SH \"{title}\"\n{}", escaped(text))
}

/// Escapes text for roff: backslashes, hyphens, and control characters at the beginning of a line.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    text.lines()
        .map(|line| match line.trim_start() {
            line if line.starts_with(['.', '\'']) => format!("\\&{line}\n"),
            line => format!("{line}\n"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_an_example_that_the_command_line_accepts() {
        let mut program = cli::command().disable_help_subcommand(true);
        program.build();
        let commands = program.get_subcommands().filter(|it| !it.is_hide_set());
        for command in commands {
            let mut examples = EXAMPLES.iter();
            let name = command.get_name();
            assert!(examples.any(|(of, ..)| *of == name), "{name}");
        }
        for (_, line, _) in EXAMPLES {
            let parsed = cli::command().try_get_matches_from(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }
}
