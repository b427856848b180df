//! `alluxio-membership` shows the workers of an Alluxio cluster to operators, and registers workers
//! that are not JVMs.

mod aside;
mod check;
mod cli;
mod describe;
mod format;
mod history;
mod identity_file;
mod join;
mod live_table;
mod logging;
mod manual;
mod nodes;
mod output;
mod remove;
mod selection;
mod serve;
mod signals;
mod systemd;
mod table;
mod version;
mod watch;

use std::future::pending;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use alluxio_membership::config::{Backend, Config, Properties, names};
use alluxio_membership::error::{Error, ErrorKind, Result};
use alluxio_membership::etcd::{Clusters, EndpointHealth};
use alluxio_membership::membership::Membership;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use cli::{Cli, Command, ConfigOptions};
use logging::Logging;
use output::{Failure, Outcome, Stop};

fn main() -> ExitCode {
    let cli = Cli::of_process();
    let (logging, runtime) = match start(&cli) {
        Ok(started) => started,
        Err(error) => {
            output::complain(format_args!("cannot start: {error}"));
            return ExitCode::from(Outcome::Failed as u8);
        }
    };
    let result = runtime.block_on(run(cli));
    // Later failures are only effects of the program's end.
    logging.end();
    // Ends the program even if a name server does not answer.
    runtime.shutdown_background();
    match result {
        Ok(outcome) => ExitCode::from(outcome as u8),
        // The reader of the output has closed the pipe.
        Err(Stop::NobodyReads) => ExitCode::SUCCESS,
        Err(Stop::Failed(failure)) => {
            failure.report();
            ExitCode::from(failure.outcome as u8)
        }
    }
}

fn start(cli: &Cli) -> std::io::Result<(Logging, Runtime)> {
    let logging = logging::start(cli)?;
    // On this thread, because Tokio panics if it cannot start threads.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok((logging, runtime))
}

async fn run(cli: Cli) -> std::result::Result<Outcome, Stop> {
    let config = cli.config;
    match cli.command {
        Command::Nodes(options) if options.watch => {
            on_cluster(config, async |context| watch::run(context, &options).await).await
        }
        Command::Nodes(options) => {
            let patient = config.timeout.is_some();
            on_cluster(config, async |context| {
                let listing = nodes::run(context, &options);
                unless_refused(context, patient, listing).await
            })
            .await
        }
        Command::Describe(options) => {
            let patient = config.timeout.is_some();
            on_cluster(config, async |context| {
                let description = describe::run(context, &options);
                unless_refused(context, patient, description).await
            })
            .await
        }
        Command::History(options) => {
            let patient = config.timeout.is_some();
            on_cluster(config, async |context| {
                let history = history::run(context, &options);
                unless_refused(context, patient, history).await
            })
            .await
        }
        Command::Remove(options) => {
            let patient = config.timeout.is_some();
            on_cluster(config, async |context| {
                let removal = remove::run(context, &options);
                unless_refused(context, patient, removal).await
            })
            .await
        }
        Command::Join(options) => {
            on_cluster(config, async |context| join::run(context, &options).await).await
        }
        Command::Check(options) => {
            on_cluster(config, async |context| check::run(context, &options).await).await
        }
        Command::Serve(options) => {
            on_cluster(config, async |context| serve::run(context, &options).await).await
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut cli::command(), cli::NAME, &mut script);
            // Bash's completion mistakes the hyphen in the name for a subcommand
            // (clap-rs/clap#6421).
            let script = String::from_utf8_lossy(&script)
                .replace("alluxio__subcmd__membership", "alluxio__membership");
            output::print(script)?;
            Ok(Outcome::Done)
        }
        Command::Man { folder } => match manual::write(&folder) {
            Ok(()) => Ok(Outcome::Done),
            Err(error) => {
                let text = format!("{}: {error}", folder.display());
                Err(Failure::new(Outcome::Failed, text).into())
            }
        },
    }
}

async fn on_cluster(
    options: ConfigOptions,
    command: impl AsyncFnOnce(&Context) -> std::result::Result<Outcome, Stop>,
) -> std::result::Result<Outcome, Stop> {
    let context = Context::open(options)?;
    let result = command(&context).await;
    result.map_err(|stop| context.explained(stop))
}

/// When a command may notice that every endpoint fails at once. Later, silent endpoints have failed
/// twice too.
const REFUSED: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_millis(3500);

/// Runs a command, and ends it early if every endpoint keeps failing at once, because a person
/// waits for the answer. Silent endpoints have their full time. With `patient` the user has named a
/// timeout, which is kept.
async fn unless_refused<T>(
    context: &Context,
    patient: bool,
    command: impl Future<Output = std::result::Result<T, Stop>>,
) -> std::result::Result<T, Stop> {
    let began = Instant::now();
    let refused = async {
        let mut looks =
            tokio::time::interval_at(began + *REFUSED.start(), Duration::from_millis(100));
        loop {
            looks.tick().await;
            if !REFUSED.contains(&began.elapsed()) {
                return pending().await;
            }
            let endpoints = context.membership.status().map(|status| status.endpoints);
            let endpoints = endpoints.unwrap_or_default();
            let fails = |it: &EndpointHealth| !it.healthy && it.answered == 0 && it.failed > 1;
            if !endpoints.is_empty() && endpoints.iter().all(fails) {
                return;
            }
        }
    };
    tokio::select! {
        result = command => result,
        () = refused, if !patient => {
            let text = format!("every endpoint of {} fails at once", names::ETCD_ENDPOINTS);
            Err(Failure::new(Outcome::Unavailable, text).into())
        }
    }
}

/// The manager and the configuration of most commands.
struct Context {
    config: Config,
    membership: Membership,
}

impl Context {
    fn open(options: ConfigOptions) -> std::result::Result<Context, Stop> {
        let mut properties = Properties::new();
        for (name, value) in &options.properties {
            properties.set(name, value);
        }
        if let Some(timeout) = &options.timeout {
            properties.set(names::OPERATION_TIMEOUT, timeout);
        }
        let (file, missing) = site_file(&options, &properties)?;
        if let Some(file) = file {
            let set_by_options = properties;
            properties = Properties::from_site_file(&file)?;
            properties.merge(set_by_options);
            if options.conf.is_some() {
                look_beside(&file, &mut properties);
            }
        }
        let context = Config::from_properties(&properties).and_then(|config| {
            Ok(Context {
                membership: Membership::open_in(&config, &Clusters::default())?,
                config,
            })
        });
        context.map_err(|error| {
            let mut failure = Failure::from(error);
            if failure.outcome == Outcome::ConfigUnusable
                && let Some(missing) = missing
            {
                failure.add(format_args!(
                    "There is no {}. Name the configuration with --conf FILE, or its properties \
                     with -D key=value.",
                    missing.display()
                ));
            }
            failure.into()
        })
    }
}

impl Context {
    /// Returns whether the state of a worker is known. It is unknown for the workers of a hosts file
    /// without probes.
    fn knows_states(&self) -> bool {
        match &self.config.backend {
            Backend::Static(config) => config.probe_interval.is_some(),
            Backend::Etcd(_) => true,
        }
    }

    /// Adds the problem of each endpoint, and the remedy.
    fn explained(&self, stop: Stop) -> Stop {
        let Stop::Failed(mut failure) = stop else {
            return stop;
        };
        if failure.outcome == Outcome::Unavailable
            && let Ok(status) = self.membership.status()
            && !status.endpoints.is_empty()
        {
            let silent = status.endpoints.iter().filter(|endpoint| !endpoint.healthy);
            for reason in silent.filter_map(|endpoint| endpoint.last_error.as_ref()) {
                failure.add(reason);
            }
            failure.add(format_args!(
                "\"{} check\" looks at each endpoint of {}.",
                cli::NAME,
                names::ETCD_ENDPOINTS
            ));
        }
        failure.into()
    }
}

/// Makes the folder of a configuration file Alluxio's configuration folder, if a hosts file is
/// there and no property names another folder: Alluxio finds both files in one folder.
fn look_beside(file: &Path, properties: &mut Properties) {
    let Ok(file) = std::path::absolute(file) else {
        return;
    };
    if let Some(folder) = file.parent().and_then(Path::to_str)
        && properties.get(names::CONF_DIR).is_none()
        && Path::new(folder).join("workers").exists()
    {
        properties.set(names::CONF_DIR, folder);
    }
}

/// The configuration file to read, or the one that would be read if it were there.
fn site_file(
    options: &ConfigOptions,
    properties: &Properties,
) -> Result<(Option<PathBuf>, Option<PathBuf>)> {
    if let Some(file) = &options.conf {
        return Ok((Some(file.clone()), None));
    }
    let file = properties.site_file()?;
    match file.try_exists() {
        Ok(true) => Ok((Some(file), None)),
        Ok(false) => Ok((None, Some(file))),
        Err(error) => Err(Error::new(
            ErrorKind::Io,
            format!("Failed to look for {}: {error}", file.display()),
        )),
    }
}
