//! The Java bindings: the native methods of `alluxio.membership.bridge.internal.Natives`.
//!
//! Java chooses ids and holds no pointers. Everything that can wait is an *operation*: one call
//! starts the operation, the caller waits in Java, and Java's poll thread asks which operations
//! have finished. Only Java's poll thread and log thread block in native code, so no virtual thread
//! is pinned.
//!
//! Results and expected errors are bytes (see [`wire`]) in arrays that Java allocates. No native
//! method allocates on the Java heap or throws, because the `jni` crate does not survive a full
//! heap. No thread of this library enters the JVM.

mod log_queue;
mod managers;
mod operations;
mod wire;

use std::any::Any;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ::jni::errors::{ErrorPolicy, Result as JniResult};
use ::jni::objects::{JByteArray, JClass, JLongArray};
use ::jni::sys::{jboolean, jint, jlong};
use ::jni::{Env, EnvUnowned, NativeMethod, native_method};
use zeroize::Zeroizing;

use crate::aside::{bug, panic_text};
use crate::config::{Backend, Config, Properties};
use crate::error::{Error, ErrorKind, Result};
use crate::etcd::{HostLiveness, HostPulse};
use crate::log;
use crate::membership::{JoinOptions, Membership};
use crate::runtime::runtime;
use crate::worker::WorkerIdentity;
use managers::Manager;
use wire::{Reader, Reply};

/// The number of the interface, which equals `Natives.INTERFACE`. It grows with each change of a
/// native method or of the encoding.
const INTERFACE: jint = 4;

/// The place of the session's number in an id, which equals `Natives.SESSION_SHIFT`. Java chooses
/// the lower bits.
const SESSION_SHIFT: u32 = 40;

/// The number of the next session. A session is one class loader that has bound the natives. A JVM
/// may bind one loaded library for several class loaders, one after another, whose ids must differ.
static SESSIONS: AtomicI64 = AtomicI64::new(1);

/// The signs of life of the JVM. A JVM whose threads no longer run must lose its leases, although
/// the threads of this library still run.
static PULSE: LazyLock<(HostPulse, HostLiveness)> = LazyLock::new(HostPulse::new);

/// Whether the JVM is shutting down. No worker joins from then on.
static ENDING: AtomicBool = AtomicBool::new(false);

/// The only exported symbol. Its argument is the class whose natives it binds, so it works for
/// every class loader.
const _: NativeMethod = native_method! {
    java_type = "alluxio.membership.bridge.internal.Natives",
    error_policy = LogBug,
    static extern fn register(interface: jint, reply: jbyte[]) -> jint,
};

const NATIVES: &[NativeMethod] = &[
    native_method! {
        error_policy = LogBug,
        static fn open(operation: jlong, manager: jlong, request: jbyte[]) -> jlong
    },
    native_method! { error_policy = LogBug, static fn discard(manager: jlong) -> void },
    native_method! { static raw fn current_version(manager: jlong) -> jlong },
    native_method! {
        error_policy = LogBug,
        static fn view(operation: jlong, manager: jlong, known_version: jlong) -> jlong
    },
    native_method! {
        error_policy = LogBug,
        static fn wait_for_change(
            operation: jlong,
            manager: jlong,
            version: jlong,
            known_version: jlong,
            millis: jlong
        ) -> jlong
    },
    native_method! {
        error_policy = LogBug,
        static fn join(
            operation: jlong,
            manager: jlong,
            worker: jbyte[],
            k8s_deployment: jint
        ) -> jlong
    },
    native_method! {
        error_policy = LogBug,
        static fn status(manager: jlong, into: jbyte[]) -> jint
    },
    native_method! {
        error_policy = LogBug,
        static fn show_all_members(operation: jlong, manager: jlong) -> jlong
    },
    native_method! {
        error_policy = LogBug,
        static fn leave_worker(operation: jlong, manager: jlong, identity: jbyte[]) -> jlong
    },
    native_method! {
        error_policy = LogBug,
        static fn remove(operation: jlong, manager: jlong, identity: jbyte[]) -> jlong
    },
    native_method! {
        error_policy = LogBug,
        static fn leave(operation: jlong, manager: jlong) -> jlong
    },
    native_method! {
        error_policy = LogBug,
        static fn close(operation: jlong, manager: jlong) -> jlong
    },
    native_method! {
        error_policy = LogBug,
        static fn leave_on_shutdown(operation: jlong) -> jlong
    },
    native_method! {
        error_policy = LogBug,
        static fn poll(session: jlong, finished: jlong[], millis: jint) -> jint
    },
    native_method! {
        error_policy = LogBug,
        static fn fetch(operation: jlong, into: jbyte[]) -> jint
    },
    native_method! { error_policy = LogBug, static fn release(operation: jlong) -> void },
    native_method! { error_policy = LogBug, static fn detach(operation: jlong) -> jboolean },
    native_method! { error_policy = LogBug, static fn is_unused(session: jlong) -> jboolean },
    native_method! { error_policy = LogBug, static fn await_log_records(millis: jint) -> jboolean },
    native_method! { error_policy = LogBug, static fn next_log_records(into: jbyte[]) -> jint },
    native_method! { error_policy = LogBug, static fn set_log_level(level: jint) -> void },
];

fn register<'local>(
    env: &mut Env<'local>,
    class: JClass<'local>,
    interface: jint,
    reply: JByteArray<'local>,
) -> JniResult<jint> {
    if interface != INTERFACE {
        let error = Error::new(
            ErrorKind::Internal,
            format!(
                "The native library is version {} with Java interface {INTERFACE}, the jar needs \
                 interface {interface}. Use the library that belongs to the jar.",
                env!("CARGO_PKG_VERSION")
            ),
        );
        return fill(env, &reply, &wire::error(&error));
    }
    // SAFETY: `native_method!` made each entry from a function of exactly this signature, and all
    // of them are static, as they are in the Java class.
    unsafe { env.register_native_methods(&class, NATIVES)? };
    log_queue::install();
    let session = SESSIONS.fetch_add(1, Ordering::Relaxed);
    fill(
        env,
        &reply,
        &wire::session(session, env!("CARGO_PKG_VERSION")),
    )
}

/// Starts to open a manager under this id. The caller discards the id if opening fails.
fn open<'local>(
    env: &mut Env<'local>,
    _class: JClass<'local>,
    operation: jlong,
    manager: jlong,
    request: JByteArray<'local>,
) -> JniResult<jlong> {
    // The request may contain a password.
    let request = Zeroizing::new(env.convert_byte_array(&request)?);
    managers::reserve(manager);
    let (origin, config) = match read_opening(&request) {
        Ok(opening) => opening,
        Err(error) => {
            operations::fail(operation, error);
            return Ok(0);
        }
    };
    let limit = config.operation_timeout();
    operations::start(operation, async move {
        let what = summary(&config);
        let cluster = cluster_of(&config);
        let runtime = runtime()?;
        let membership = Membership::open_aside(config, runtime.clusters()).await?;
        if !managers::add(manager, Manager::new(membership, cluster, runtime, limit)) {
            return Err(closed());
        }
        log::info!(
            "Opened {what}; alluxio-membership {} from {origin}",
            env!("CARGO_PKG_VERSION")
        );
        Ok(wire::nothing())
    });
    Ok(to_millis(limit))
}

/// Reads where Java loaded the library from, and the configuration.
fn read_opening(request: &[u8]) -> Result<(String, Config)> {
    let mut reader = Reader::new(request);
    let origin = reader.text()?.to_string();
    let mut properties = Properties::new();
    for _ in 0..reader.count()? {
        properties.set(reader.text()?, reader.text()?);
    }
    Ok((origin, Config::from_properties(&properties)?))
}

/// Returns the name of the cluster, or the path of the hosts file.
fn cluster_of(config: &Config) -> String {
    match &config.backend {
        Backend::Static(config) => config.hosts_file.display().to_string(),
        Backend::Etcd(config) => config.cluster_name.clone(),
    }
}

/// Returns a description of the cluster for the log.
fn summary(config: &Config) -> String {
    match &config.backend {
        Backend::Static(config) => format!("the hosts file {}", config.hosts_file.display()),
        Backend::Etcd(config) => {
            let user = config.credentials.as_ref();
            format!(
                "cluster {} at {} ({}, {})",
                config.cluster_name,
                config.endpoints.join(", "),
                user.map_or_else(
                    || "no user".to_string(),
                    |it| format!("user {}", it.username)
                ),
                if config.tls.is_some() {
                    "TLS"
                } else {
                    "no TLS"
                },
            )
        }
    }
}

/// Closes a manager without a caller that waits for it.
fn discard<'local>(_env: &mut Env<'local>, _class: JClass<'local>, id: jlong) -> JniResult<()> {
    if let Some(manager) = managers::remove(id)
        && let Ok(runtime) = runtime()
    {
        runtime.spawn(async move {
            if let Err(error) = manager.membership.close().await {
                log::warn!("{error}");
            }
        });
    }
    Ok(())
}

/// Returns the version of the view in memory. Java calls this for each listing, so it needs no
/// environment.
fn current_version<'local>(
    _env: EnvUnowned<'local>,
    _class: JClass<'local>,
    manager: jlong,
) -> jlong {
    catch_unwind(|| managers::current_version(manager)).map_or(0, |version| version as jlong)
}

fn view<'local>(
    _env: &mut Env<'local>,
    _class: JClass<'local>,
    operation: jlong,
    manager: jlong,
    known_version: jlong,
) -> JniResult<jlong> {
    Ok(on_manager(operation, manager, move |manager| async move {
        let view = manager.membership.view().await?;
        Ok(match view.version() == known_version as u64 {
            true => wire::nothing(),
            false => manager.encoded(&view, known_version as u64),
        })
    }))
}

fn wait_for_change<'local>(
    _env: &mut Env<'local>,
    _class: JClass<'local>,
    operation: jlong,
    manager: jlong,
    version: jlong,
    known_version: jlong,
    millis: jlong,
) -> JniResult<jlong> {
    let limit = on_manager(operation, manager, move |manager| async move {
        let timeout = from_millis(millis);
        let changed = manager
            .membership
            .wait_for_change(version as u64, timeout)
            .await?;
        Ok(changed.map_or_else(wire::nothing, |view| {
            manager.encoded(&view, known_version as u64)
        }))
    });
    Ok(limit.saturating_add(millis.max(0)))
}

fn join<'local>(
    env: &mut Env<'local>,
    _class: JClass<'local>,
    operation: jlong,
    manager: jlong,
    worker: JByteArray<'local>,
    k8s_deployment: jint,
) -> JniResult<jlong> {
    let request = env.convert_byte_array(&worker)?;
    // The poll thread has to beat for this worker from now on.
    let host = PULSE.1.clone();
    PULSE.0.beat();
    operations::wake_polls();
    Ok(on_manager(operation, manager, move |manager| async move {
        let worker = Reader::new(&request).worker()?;
        let k8s_deployment = match k8s_deployment {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        };
        let options = JoinOptions {
            k8s_deployment,
            host: Some(host),
        };
        if ENDING.load(Ordering::SeqCst) && manager.membership.leaves_on_shutdown() {
            return Err(Error::new(
                ErrorKind::Closed,
                "The JVM is shutting down, so no worker joins any more",
            ));
        }
        manager.membership.join(&worker, &options).await?;
        Ok(wire::nothing())
    }))
}

/// Writes the status of a manager and returns its length. Writes nothing if the array is too short.
/// A status needs no operation, because it comes from memory.
fn status<'local>(
    env: &mut Env<'local>,
    _class: JClass<'local>,
    manager: jlong,
    into: JByteArray<'local>,
) -> JniResult<jint> {
    let reply = match managers::find(manager) {
        Some(manager) => status_of(&manager).unwrap_or_else(|error| wire::error(&error)),
        None => wire::error(&closed()),
    };
    fill(env, &into, &reply)
}

fn status_of(manager: &Manager) -> Result<Reply> {
    let status = manager.membership.status()?;
    let view = manager.membership.latest_view()?;
    Ok(wire::status(&manager.cluster, &status, view.as_deref()))
}

fn show_all_members<'local>(
    _env: &mut Env<'local>,
    _class: JClass<'local>,
    operation: jlong,
    manager: jlong,
) -> JniResult<jlong> {
    Ok(on_manager(operation, manager, |manager| async move {
        let view = manager.membership.view().await?;
        let table = manager.membership.table_of(&view)?;
        Ok(wire::table(view.version(), &table))
    }))
}

fn leave_worker<'local>(
    env: &mut Env<'local>,
    _class: JClass<'local>,
    operation: jlong,
    manager: jlong,
    identity: JByteArray<'local>,
) -> JniResult<jlong> {
    let identity = env.convert_byte_array(&identity)?;
    Ok(on_manager(operation, manager, move |manager| async move {
        manager
            .membership
            .leave_worker(&identity_from(&identity)?)
            .await?;
        Ok(wire::nothing())
    }))
}

fn remove<'local>(
    env: &mut Env<'local>,
    _class: JClass<'local>,
    operation: jlong,
    manager: jlong,
    identity: JByteArray<'local>,
) -> JniResult<jlong> {
    let identity = env.convert_byte_array(&identity)?;
    Ok(on_manager(operation, manager, move |manager| async move {
        manager
            .membership
            .remove(&identity_from(&identity)?)
            .await?;
        Ok(wire::nothing())
    }))
}

fn leave<'local>(
    _env: &mut Env<'local>,
    _class: JClass<'local>,
    operation: jlong,
    manager: jlong,
) -> JniResult<jlong> {
    Ok(on_manager(operation, manager, |manager| async move {
        manager.membership.leave().await?;
        Ok(wire::nothing())
    }))
}

/// Forgets the id and closes the manager. Has no effect for an unknown manager.
fn close<'local>(
    _env: &mut Env<'local>,
    _class: JClass<'local>,
    operation: jlong,
    manager: jlong,
) -> JniResult<jlong> {
    let manager = managers::remove(manager);
    let limit = manager
        .as_ref()
        .map_or(Duration::ZERO, |manager| manager.limit);
    operations::start(operation, async move {
        if let Some(manager) = manager {
            manager.membership.close().await?;
        }
        Ok(wire::nothing())
    });
    Ok(to_millis(limit))
}

/// Ends the registrations of the managers that leave when the process ends. The managers stay open,
/// so that other shutdown hooks can list workers.
fn leave_on_shutdown<'local>(
    _env: &mut Env<'local>,
    _class: JClass<'local>,
    operation: jlong,
) -> JniResult<jlong> {
    ENDING.store(true, Ordering::SeqCst);
    let mut leaving = managers::all();
    leaving.retain(|manager| manager.membership.leaves_on_shutdown());
    let limits = leaving.iter().map(|manager| manager.limit);
    let limit = limits.max().unwrap_or_default();
    operations::start(operation, async move {
        // Without a manager there may be no runtime, and the end of the JVM starts none.
        if !leaving.is_empty() {
            let deadline = tokio::time::Instant::now() + limit;
            runtime()?.clusters().process_ends(deadline).await?;
        }
        Ok(wire::nothing())
    });
    Ok(to_millis(limit))
}

/// Returns whether the library keeps a worker of this JVM registered, or is joining one.
fn has_workers() -> bool {
    // `PULSE` itself is one listener.
    PULSE.0.listeners() > 1
}

/// Waits for finished operations, and counts as a sign of life of the JVM. Waits for at most this
/// time, or longer without a registered worker, because then no lease needs signs of life. Returns
/// the number of ids that it wrote.
fn poll<'local>(
    env: &mut Env<'local>,
    _class: JClass<'local>,
    session: jlong,
    finished: JLongArray<'local>,
    millis: jint,
) -> JniResult<jint> {
    PULSE.0.beat();
    let mut ids = [0; 64];
    let room = finished.len(env)?.min(ids.len());
    let limit = match has_workers() {
        true => from_millis(millis.into()),
        false => from_millis(millis.into()) * 5,
    };
    let found = operations::poll(session, &mut ids[..room], limit);
    finished.set_region(env, 0, &ids[..found])?;
    Ok(found as jint)
}

/// Writes the reply of an operation and returns its length, or -1 while the operation is running.
/// Writes nothing if the array is too short.
fn fetch<'local>(
    env: &mut Env<'local>,
    _class: JClass<'local>,
    operation: jlong,
    into: JByteArray<'local>,
) -> JniResult<jint> {
    match operations::reply(operation) {
        Some(reply) => fill(env, &into, &reply),
        None => Ok(-1),
    }
}

fn release<'local>(
    _env: &mut Env<'local>,
    _class: JClass<'local>,
    operation: jlong,
) -> JniResult<()> {
    operations::release(operation);
    Ok(())
}

fn detach<'local>(
    _env: &mut Env<'local>,
    _class: JClass<'local>,
    operation: jlong,
) -> JniResult<jboolean> {
    Ok(operations::detach(operation))
}

/// Returns whether the session has no manager and no operation, and the process keeps no worker
/// registered.
fn is_unused<'local>(
    _env: &mut Env<'local>,
    _class: JClass<'local>,
    session: jlong,
) -> JniResult<jboolean> {
    Ok(!managers::any(session) && !operations::any(session) && !has_workers())
}

fn await_log_records<'local>(
    _env: &mut Env<'local>,
    _class: JClass<'local>,
    millis: jint,
) -> JniResult<jboolean> {
    Ok(log_queue::wait(from_millis(millis.into())))
}

/// Writes log records and returns their length.
fn next_log_records<'local>(
    env: &mut Env<'local>,
    _class: JClass<'local>,
    into: JByteArray<'local>,
) -> JniResult<jint> {
    let records = log_queue::next(into.len(env)?);
    fill(env, &into, &records)
}

fn set_log_level<'local>(
    _env: &mut Env<'local>,
    _class: JClass<'local>,
    level: jint,
) -> JniResult<()> {
    log_queue::set_level(level);
    Ok(())
}

/// Starts an operation on an open manager. With an unknown id, the operation fails with `Closed`.
/// Returns the time limit of the operation in milliseconds.
fn on_manager<F, Fut>(operation: jlong, id: jlong, work: F) -> jlong
where
    F: FnOnce(Arc<Manager>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Reply>> + Send + 'static,
{
    // Looked up before the operation starts: a close after this call must not hide the manager from
    // the operation.
    match managers::find(id) {
        Some(manager) => {
            let limit = manager.limit;
            // Within the task, so that a panic in `work` becomes the error of the operation.
            operations::start(operation, async move { work(manager).await });
            to_millis(limit)
        }
        None => {
            operations::fail(operation, closed());
            0
        }
    }
}

/// Copies the bytes into the array if it is long enough. Returns the number of bytes.
fn fill(env: &Env<'_>, into: &JByteArray<'_>, bytes: &[u8]) -> JniResult<jint> {
    if bytes.len() <= into.len(env)? {
        // SAFETY: a byte is a valid `i8`, whatever its bits, and of the same size and alignment.
        let signed = unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) };
        into.set_region(env, 0, signed)?;
    }
    Ok(bytes.len() as jint)
}

fn session_of(id: i64) -> i64 {
    id >> SESSION_SHIFT
}

fn to_millis(duration: Duration) -> jlong {
    jlong::try_from(duration.as_millis()).unwrap_or(jlong::MAX)
}

fn from_millis(millis: jlong) -> Duration {
    Duration::from_millis(millis.max(0) as u64)
}

fn identity_from(bytes: &[u8]) -> Result<WorkerIdentity> {
    WorkerIdentity::parse(&String::from_utf8_lossy(bytes))
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "The membership manager is closed")
}

/// Logs a failed JNI call, or a panic on the calling thread, because throwing would need memory of
/// the JVM. An operation that was not started does not exist, which its caller learns from `fetch`.
struct LogBug;

impl<T: Default, E: std::error::Error> ErrorPolicy<T, E> for LogBug {
    type Captures<'unowned_env_local: 'native_method, 'native_method> = ();

    fn on_error<'unowned_env_local: 'native_method, 'native_method>(
        _env: &mut Env<'unowned_env_local>,
        _captures: &mut Self::Captures<'unowned_env_local, 'native_method>,
        error: E,
    ) -> JniResult<T> {
        log::error!("{}", bug(&error.to_string()));
        Ok(T::default())
    }

    fn on_panic<'unowned_env_local: 'native_method, 'native_method>(
        _env: &mut Env<'unowned_env_local>,
        _captures: &mut Self::Captures<'unowned_env_local, 'native_method>,
        payload: Box<dyn Any + Send + 'static>,
    ) -> JniResult<T> {
        log::error!("{}", bug(panic_text(&*payload)));
        Ok(T::default())
    }
}
