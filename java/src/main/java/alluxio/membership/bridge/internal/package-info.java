/**
 * The calls into the native library. This package is not a public API, and changes without notice.
 */
package alluxio.membership.bridge.internal;
