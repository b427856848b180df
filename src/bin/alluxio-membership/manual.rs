//! The manual pages: one of the program, one of each command.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::cli::{self, Cli};
use crate::output::EXIT_STATUS;

pub fn write(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut program = Cli::command().disable_help_subcommand(true);
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

fn section(page: &mut Vec<u8>, title: &str, text: &str) -> io::Result<()> {
    write!(page, ".SH \"{title}\"\n{}", escaped(text))
}

/// Text for roff: a backslash is an escape, a hyphen is to stay one, and a line must not begin with a control character.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    text.lines()
        .map(|line| match line.trim_start() {
            line if line.starts_with(['.', '\'']) => format!("\\&{line}\n"),
            line => format!("{line}\n"),
        })
        .collect()
}
