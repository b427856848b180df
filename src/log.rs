//! The library's log: the macros of the `log` crate, with messages that are safe to show.
//!
//! A message is one line of at most 4 KiB, and contains nothing that acts on a terminal. A module
//! imports these macros with `use crate::log;`.

use std::fmt::Arguments;

use ::log::{Level, Record};

use crate::text::Message;

macro_rules! at {
    ($level:ident, $($message:tt)+) => {{
        let level = ::log::Level::$level;
        if level <= ::log::STATIC_MAX_LEVEL && level <= ::log::max_level() {
            let message = format_args!($($message)+);
            $crate::log::write(level, module_path!(), file!(), line!(), message);
        }
    }};
}

macro_rules! error_ {
    ($($message:tt)+) => { $crate::log::at!(Error, $($message)+) };
}

macro_rules! warn_ {
    ($($message:tt)+) => { $crate::log::at!(Warn, $($message)+) };
}

macro_rules! info_ {
    ($($message:tt)+) => { $crate::log::at!(Info, $($message)+) };
}

macro_rules! debug_ {
    ($($message:tt)+) => { $crate::log::at!(Debug, $($message)+) };
}

/// Logs a line that can repeat. Lines beyond the [`LogLimit`](crate::log_limit::LogLimit) of their
/// kind are logged at debug level.
macro_rules! limited {
    ($limit:expr, $kind:expr, $level:ident, $($message:tt)+) => {
        match $limit.admit(&$kind) {
            Some(withheld) => $crate::log::at!($level, "{}{withheld}", format_args!($($message)+)),
            None => $crate::log::at!(Debug, $($message)+),
        }
    };
}

pub(crate) use {at, debug_ as debug, error_ as error, info_ as info, limited, warn_ as warn};

/// Passes a message to the logger of the process.
pub(crate) fn write(
    level: Level,
    target: &'static str,
    file: &'static str,
    line: u32,
    message: Arguments,
) {
    ::log::logger().log(
        &Record::builder()
            .level(level)
            .target(target)
            .module_path_static(Some(target))
            .file_static(Some(file))
            .line(Some(line))
            .args(format_args!("{}", Message(message)))
            .build(),
    );
}

/// The lines that a test logs on its own thread.
#[cfg(test)]
pub(crate) mod captured {
    use std::cell::RefCell;
    use std::sync::Once;

    use ::log::{LevelFilter, Log, Metadata, Record};

    thread_local! {
        static LINES: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
    }

    struct Capture;

    impl Log for Capture {
        fn enabled(&self, _: &Metadata) -> bool {
            LINES.with_borrow(Option::is_some)
        }

        fn log(&self, record: &Record) {
            LINES.with_borrow_mut(|lines| {
                if let Some(lines) = lines {
                    lines.push(record.args().to_string());
                }
            });
        }

        fn flush(&self) {}
    }

    /// Begins to capture what this thread logs, down to the level Info.
    pub(crate) fn start() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            ::log::set_logger(&Capture).expect("no other logger");
            ::log::set_max_level(LevelFilter::Info);
        });
        LINES.set(Some(Vec::new()));
    }

    /// Returns the captured lines, and ends the capture.
    pub(crate) fn end() -> Vec<String> {
        LINES.take().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }

    /// The lines of a source file before its tests, without comments.
    fn lines(source: &str) -> impl Iterator<Item = &str> {
        source
            .lines()
            .take_while(|line| *line != "#[cfg(test)]")
            .filter(|line| !line.trim_start().starts_with("//"))
    }

    #[test]
    fn no_message_bypasses_this_module() {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        sources(&src, &mut files);
        assert!(files.len() > 50, "{}", src.display());
        let macros = ["error!", "warn!", "info!", "debug!", "trace!", "log!"];
        let is_for_tests =
            ["etcd/histories.rs", "etcd/roster/state/simulation.rs"].map(str::to_owned);
        for file in files {
            let place = file
                .strip_prefix(&src)
                .unwrap()
                .to_string_lossy()
                .into_owned();
            if place == "log.rs" {
                continue;
            }
            let source = fs::read_to_string(&file).unwrap();
            for line in lines(&source) {
                // The tool's logger escapes the tool's own messages.
                let is_tool = place.starts_with("bin/");
                let mut logs = macros.iter();
                let logs = !is_tool && logs.any(|name| line.contains(&format!("log::{name}")));
                assert!(
                    !logs || lines(&source).any(|line| line == "use crate::log;"),
                    "{place} logs without `use crate::log;`: {line}"
                );
                let mut imported = line
                    .strip_prefix("use log::")
                    .unwrap_or_default()
                    .split(|c: char| !c.is_ascii_alphanumeric());
                let imports = imported.any(|word| macros.contains(&format!("{word}!").as_str()));
                assert!(!imports, "{place} takes a macro of the log crate: {line}");
                let prints = ["println!(", "print!(", "dbg!(", "stdout()", "stderr()"]
                    .iter()
                    .any(|name| line.contains(name));
                let is_printer = ["output.rs", "logging.rs"]
                    .iter()
                    .any(|name| place == format!("bin/alluxio-membership/{name}"));
                assert!(
                    !prints || is_printer || is_for_tests.contains(&place),
                    "{place} prints by itself: {line}"
                );
            }
        }
    }
}
