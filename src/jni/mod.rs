//! The Java door: the native methods of `alluxio.membership.bridge.internal.Natives`.
//!
//! Java holds ids, never pointers. Everything that can wait is an *operation*: started by one call, waited for by
//! others in short slices, so that an interrupted Java thread comes back soon. Results and expected errors cross as one
//! byte array (see [`wire`]); exceptions are made in Java. No thread of this library ever enters the JVM.

mod log_queue;
mod managers;
mod operations;
mod wire;

use std::any::Any;
use std::panic::catch_unwind;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ::jni::errors::{ErrorPolicy, Result as JniResult};
use ::jni::objects::{JByteArray, JClass};
use ::jni::sys::{jint, jlong};
use ::jni::{Env, EnvUnowned, NativeMethod, jni_str, native_method};
use zeroize::Zeroizing;

use crate::config::{Config, Properties};
use crate::error::{Error, ErrorKind, Result};
use crate::etcd::{HostLiveness, HostPulse};
use crate::membership::JoinOptions;
use crate::runtime::runtime;
use crate::worker::WorkerIdentity;
use managers::Manager;
use wire::{Reader, Reply};

/// Must equal `Natives.INTERFACE`. Counts up with every change of a native method or of the byte encoding.
const INTERFACE: jint = 1;

/// A JVM whose threads no longer run must lose its leases, though this library's threads would go on.
static PULSE: LazyLock<(HostPulse, HostLiveness)> = LazyLock::new(HostPulse::new);

/// The only exported symbol. It gets the class whose natives it binds, so it works for every class loader.
const _: NativeMethod = native_method! {
    java_type = "alluxio.membership.bridge.internal.Natives",
    error_policy = ThrowDefect,
    static extern fn register(interface: jint) -> jbyte[],
};

const NATIVES: &[NativeMethod] = &[
    native_method! { error_policy = ThrowDefect, static fn open(properties: jbyte[]) -> jbyte[] },
    native_method! { static raw fn current_version(manager: jlong) -> jlong },
    native_method! { error_policy = ThrowDefect, static fn view(manager: jlong, known_version: jlong) -> jlong },
    native_method! { error_policy = ThrowDefect, static fn wait_for_change(manager: jlong, version: jlong, millis: jlong) -> jlong },
    native_method! { error_policy = ThrowDefect, static fn join(manager: jlong, worker: jbyte[], k8s_deployment: jint) -> jlong },
    native_method! { error_policy = ThrowDefect, static fn show_all_members(manager: jlong) -> jlong },
    native_method! { error_policy = ThrowDefect, static fn stop_heart_beat(manager: jlong, identity: jbyte[]) -> jlong },
    native_method! { error_policy = ThrowDefect, static fn decommission(manager: jlong, identity: jbyte[]) -> jlong },
    native_method! { error_policy = ThrowDefect, static fn leave(manager: jlong) -> jlong },
    native_method! { error_policy = ThrowDefect, static fn close(manager: jlong) -> jlong },
    native_method! { error_policy = ThrowDefect, static fn leave_on_shutdown() -> jlong },
    native_method! { error_policy = ThrowDefect, static fn beat() -> void },
    native_method! { error_policy = ThrowDefect, static fn await_result(operation: jlong, millis: jint) -> jbyte[] },
    native_method! { error_policy = ThrowDefect, static fn abandon(operation: jlong) -> void },
    native_method! { error_policy = ThrowDefect, static fn next_log_records(millis: jint) -> jbyte[] },
    native_method! { error_policy = ThrowDefect, static fn set_log_level(level: jint) -> void },
];

fn register<'local>(
    env: &mut Env<'local>,
    class: JClass<'local>,
    interface: jint,
) -> JniResult<JByteArray<'local>> {
    if interface != INTERFACE {
        let error = Error::new(
            ErrorKind::Internal,
            format!(
                "The native library is version {} with Java interface {INTERFACE}, the jar needs interface {interface}. \
                 Use the library that belongs to the jar.",
                env!("CARGO_PKG_VERSION")
            ),
        );
        return env.byte_array_from_slice(&wire::error(&error));
    }
    // SAFETY: `native_method!` made each entry from a function of exactly this signature, and all of them are static,
    // as they are in the Java class.
    unsafe { env.register_native_methods(&class, NATIVES)? };
    log_queue::install();
    env.byte_array_from_slice(&wire::text(env!("CARGO_PKG_VERSION")))
}

fn open<'local>(
    env: &mut Env<'local>,
    _class: JClass<'local>,
    properties: JByteArray<'local>,
) -> JniResult<JByteArray<'local>> {
    // A password may be in it.
    let request = Zeroizing::new(env.convert_byte_array(&properties)?);
    let reply = match open_manager(&request) {
        Ok(id) => wire::id(id),
        Err(error) => wire::error(&error),
    };
    env.byte_array_from_slice(&reply)
}

fn open_manager(request: &[u8]) -> Result<i64> {
    let mut reader = Reader::new(request);
    let mut properties = Properties::new();
    for _ in 0..reader.count()? {
        properties.set(reader.text()?, reader.text()?);
    }
    let config = Config::from_properties(&properties)?;
    let runtime = runtime()?;
    // On the runtime, because opening may start tasks, and a panic in there must stay an error.
    let manager = runtime.block_on(Manager::open(config, runtime.clusters()))?;
    Ok(managers::add(manager))
}

/// Called for every listing in Java, so it does without an environment; nothing but a number crosses.
fn current_version<'local>(
    _env: EnvUnowned<'local>,
    _class: JClass<'local>,
    manager: jlong,
) -> jlong {
    catch_unwind(|| {
        managers::find(manager).map_or(0, |manager| manager.membership.current_version())
    })
    .map_or(0, |version| version as jlong)
}

fn view<'local>(
    _env: &mut Env<'local>,
    _class: JClass<'local>,
    manager: jlong,
    known_version: jlong,
) -> JniResult<jlong> {
    Ok(on_manager(manager, move |manager| async move {
        let view = manager.membership.view().await?;
        Ok(manager.encoded(&view, known_version as u64))
    }))
}

fn wait_for_change<'local>(
    _env: &mut Env<'local>,
    _class: JClass<'local>,
    manager: jlong,
    version: jlong,
    millis: jlong,
) -> JniResult<jlong> {
    Ok(on_manager(manager, move |manager| async move {
        let timeout = Duration::from_millis(millis.max(0) as u64);
        let changed = manager
            .membership
            .wait_for_change(version as u64, timeout)
            .await?;
        Ok(changed.map_or_else(wire::nothing, |view| manager.encoded(&view, version as u64)))
    }))
}

fn join<'local>(
    env: &mut Env<'local>,
    _class: JClass<'local>,
    manager: jlong,
    worker: JByteArray<'local>,
    k8s_deployment: jint,
) -> JniResult<jlong> {
    let request = env.convert_byte_array(&worker)?;
    Ok(on_manager(manager, move |manager| async move {
        let worker = Reader::new(&request).worker()?;
        let k8s_deployment = match k8s_deployment {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        };
        let options = JoinOptions {
            k8s_deployment,
            host: Some(PULSE.1.clone()),
        };
        manager.membership.join(&worker, &options).await?;
        Ok(wire::nothing())
    }))
}

fn show_all_members<'local>(
    _env: &mut Env<'local>,
    _class: JClass<'local>,
    manager: jlong,
) -> JniResult<jlong> {
    Ok(on_manager(manager, |manager| async move {
        Ok(wire::text(&manager.membership.show_all_members().await?))
    }))
}

fn stop_heart_beat<'local>(
    env: &mut Env<'local>,
    _class: JClass<'local>,
    manager: jlong,
    identity: JByteArray<'local>,
) -> JniResult<jlong> {
    let identity = env.convert_byte_array(&identity)?;
    Ok(on_manager(manager, move |manager| async move {
        manager
            .membership
            .stop_heartbeat(&identity_from(&identity)?)
            .await?;
        Ok(wire::nothing())
    }))
}

fn decommission<'local>(
    env: &mut Env<'local>,
    _class: JClass<'local>,
    manager: jlong,
    identity: JByteArray<'local>,
) -> JniResult<jlong> {
    let identity = env.convert_byte_array(&identity)?;
    Ok(on_manager(manager, move |manager| async move {
        manager
            .membership
            .decommission(&identity_from(&identity)?)
            .await?;
        Ok(wire::nothing())
    }))
}

fn leave<'local>(
    _env: &mut Env<'local>,
    _class: JClass<'local>,
    manager: jlong,
) -> JniResult<jlong> {
    Ok(on_manager(manager, |manager| async move {
        manager.membership.leave().await?;
        Ok(wire::nothing())
    }))
}

/// From here on the id is unknown; closing an unknown manager does nothing.
fn close<'local>(
    _env: &mut Env<'local>,
    _class: JClass<'local>,
    manager: jlong,
) -> JniResult<jlong> {
    let manager = managers::remove(manager);
    Ok(operations::start(async move {
        if let Some(manager) = manager {
            manager.membership.close().await?;
        }
        Ok(wire::nothing())
    }))
}

/// A sign of life of the JVM.
fn beat<'local>(_env: &mut Env<'local>, _class: JClass<'local>) -> JniResult<()> {
    PULSE.0.beat();
    Ok(())
}

fn leave_on_shutdown<'local>(_env: &mut Env<'local>, _class: JClass<'local>) -> JniResult<jlong> {
    Ok(operations::start(async {
        let mut leaving = tokio::task::JoinSet::new();
        for manager in managers::all()
            .into_iter()
            .filter(|manager| manager.membership.leaves_on_shutdown())
        {
            leaving.spawn(async move { manager.membership.leave().await });
        }
        let mut first_error = Ok(wire::nothing());
        while let Some(result) = leaving.join_next().await {
            if let Ok(Err(error)) = result
                && first_error.is_ok()
            {
                first_error = Err(error);
            }
        }
        first_error
    }))
}

/// The result of the operation, once; null while it is under way.
fn await_result<'local>(
    env: &mut Env<'local>,
    _class: JClass<'local>,
    operation: jlong,
    millis: jint,
) -> JniResult<JByteArray<'local>> {
    match operations::wait(operation, Duration::from_millis(millis.max(0) as u64)) {
        Some(reply) => env.byte_array_from_slice(&reply),
        None => Ok(JByteArray::null()),
    }
}

fn abandon<'local>(
    _env: &mut Env<'local>,
    _class: JClass<'local>,
    operation: jlong,
) -> JniResult<()> {
    operations::abandon(operation);
    Ok(())
}

/// Log records as soon as there are any; null when the time is over.
fn next_log_records<'local>(
    env: &mut Env<'local>,
    _class: JClass<'local>,
    millis: jint,
) -> JniResult<JByteArray<'local>> {
    match log_queue::next(Duration::from_millis(millis.max(0) as u64)) {
        Some(records) => env.byte_array_from_slice(&records),
        None => Ok(JByteArray::null()),
    }
}

fn set_log_level<'local>(
    _env: &mut Env<'local>,
    _class: JClass<'local>,
    level: jint,
) -> JniResult<()> {
    log_queue::set_level(level);
    Ok(())
}

/// Starts an operation on an open manager; on another id it fails with `Closed`.
fn on_manager<F, Fut>(id: jlong, work: F) -> jlong
where
    F: FnOnce(Arc<Manager>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Reply>> + Send + 'static,
{
    // Looked up before the operation starts: a close that follows this call must not make it fail to find the manager.
    let manager = managers::find(id);
    operations::start(async move {
        match manager {
            Some(manager) => work(manager).await,
            None => Err(Error::new(
                ErrorKind::Closed,
                "The membership manager is closed",
            )),
        }
    })
}

fn identity_from(bytes: &[u8]) -> Result<WorkerIdentity> {
    WorkerIdentity::parse(&String::from_utf8_lossy(bytes))
}

/// For what is not an expected error: a failed JNI call (an exception may be pending already) and a panic on the
/// calling thread become a `RuntimeException`.
struct ThrowDefect;

impl<T: Default, E: std::error::Error> ErrorPolicy<T, E> for ThrowDefect {
    type Captures<'unowned_env_local: 'native_method, 'native_method> = ();

    fn on_error<'unowned_env_local: 'native_method, 'native_method>(
        env: &mut Env<'unowned_env_local>,
        _captures: &mut Self::Captures<'unowned_env_local, 'native_method>,
        error: E,
    ) -> JniResult<T> {
        throw_defect(env, &error.to_string());
        Ok(T::default())
    }

    fn on_panic<'unowned_env_local: 'native_method, 'native_method>(
        env: &mut Env<'unowned_env_local>,
        _captures: &mut Self::Captures<'unowned_env_local, 'native_method>,
        payload: Box<dyn Any + Send + 'static>,
    ) -> JniResult<T> {
        throw_defect(env, &panic_text(&*payload));
        Ok(T::default())
    }
}

fn throw_defect(env: &mut Env<'_>, text: &str) {
    if !env.exception_check() {
        let text =
            ::jni::strings::JNIString::new(format!("A defect in the membership library: {text}"));
        // The call itself reports the exception it threw as an error.
        let _ = env.throw_new(jni_str!("java/lang/RuntimeException"), text);
    }
}

/// What a panic said.
fn panic_text(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&'static str>()
        .map(|text| text.to_string())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_string())
}
