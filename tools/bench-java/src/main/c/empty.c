/* The native method of EmptyCall: what a call from Java into a library costs at least. */
#include <jni.h>

JNIEXPORT jlong JNICALL
Java_alluxio_membership_bench_EmptyCall_identity(JNIEnv *env, jclass type, jlong value)
{
    (void) env;
    (void) type;
    return value;
}
