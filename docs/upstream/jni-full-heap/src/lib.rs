//! A native method that returns a byte array, for a JVM whose heap is full.

use jni::EnvUnowned;
use jni::errors::ThrowRuntimeExAndDefault;
use jni::objects::{JByteArray, JClass};

#[unsafe(no_mangle)]
pub extern "system" fn Java_Main_bytes<'local>(
    mut env: EnvUnowned<'local>,
    _class: JClass<'local>,
) -> JByteArray<'local> {
    env.with_env(|env| env.byte_array_from_slice(&[0; 4096]))
        .resolve::<ThrowRuntimeExAndDefault>()
}
